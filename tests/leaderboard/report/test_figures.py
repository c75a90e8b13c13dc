"""What the figures show, read off the pictures; and which rows go into them."""

import re
import struct
from pathlib import Path
from xml.etree import ElementTree

import altair as alt
import polars as pl
import pytest
from jsonschema import ValidationError
from support.web.boards import scores_of

from leaderboard import Leaderboard, load_tables
from leaderboard.report import figure_rows, figures, page
from leaderboard.report.figure_rows import heat_map, marks
from leaderboard.report.figures import specification
from leaderboard.results.schemas import METRICS_SCHEMA
from midlayer_embed.errors import InputError

# model, layer, task, score; layer 1 of b misses task B.
_SCORES = [
    *(("a", layer, "A", score) for layer, score in enumerate((0.1, 0.5, 0.3))),
    *(("a", layer, "B", score) for layer, score in enumerate((0.4, 0.2, 0.3))),
    *(("b", layer, "A", score) for layer, score in enumerate((0.2, 0.9, 0.4))),
    *(("b", layer, "B", score) for layer, score in ((0, 0.2), (2, 0.4))),
]


@pytest.fixture
def board() -> Leaderboard:
    scores = [(model, "main", k, k / 2, task, "STS", score) for model, k, task, score in _SCORES]
    metrics = [("a", "main", "A", "dime", "raw", k, value) for k, value in enumerate((0.3, 0.2, 0.1))]
    return Leaderboard(
        scores_of(scores),
        pl.DataFrame(metrics, schema=METRICS_SCHEMA, orient="row"),
    )


def test_every_specification_is_one_by_the_schema_of_vega_lite(board: Leaderboard) -> None:
    specifications = {**page._specifications(), **{name: specification(f) for name, f in board.figures().items()}}
    assert len(specifications) == 4 + len(board.figures())
    for spec in specifications.values():
        alt.Chart.from_dict(spec)  # raises ValidationError
    with pytest.raises(ValidationError):
        alt.Chart.from_dict({**specifications["scores"], "width": "wide"})


def described(svg: str, kind: str) -> list[dict[str, str]]:
    """What a picture tells a screen reader of its marks of one kind."""
    found = re.findall(rf'aria-roledescription="{kind}"[^>]*?aria-label="([^"]*)"', svg)
    found += re.findall(rf'aria-label="([^"]*)"[^>]*?aria-roledescription="{kind}"', svg)
    return [dict(part.split(": ", 1) for part in label.split("; ")) for label in found]


def test_score_over_depth_has_every_layer_once_and_rings_around_best_and_last(
    board: Leaderboard, tmp_path: Path
) -> None:
    board.save_figures(tmp_path)
    svg = (tmp_path / "score_over_depth.svg").read_text("utf-8")
    points = described(svg, "point")
    shown = {
        (p["model"], p["layer"]): (float(p["mean score (x100)"]), p["tasks"], p["of"]) for p in points if "of" in p
    }
    assert shown == {
        ("a", "0"): (25.0, "2", "2"), ("a", "1"): (35.0, "2", "2"), ("a", "2"): (30.0, "2", "2"),
        ("b", "0"): (20.0, "2", "2"), ("b", "1"): (90.0, "1", "2"), ("b", "2"): (40.0, "2", "2"),
    }  # fmt: skip
    rings = {(p["model"], p["layer"]): p["chosen by"] for p in points if "chosen by" in p}
    assert rings == {("a", "1"): "best", ("a", "2"): "last", ("b", "1"): "best", ("b", "2"): "last"}


def test_a_layer_that_misses_tasks_is_hollow_and_no_line_goes_through_it(board: Leaderboard, tmp_path: Path) -> None:
    board.save_figures(tmp_path)
    svg = (tmp_path / "score_over_depth.svg").read_text("utf-8")
    paths = re.findall(r"<path[^>]*>", svg)
    (missing,) = [tag for tag in paths if " tasks: 1;" in tag]
    assert ' fill="' not in missing and ' stroke="' in missing
    assert all(' fill="' in tag for tag in paths if " tasks: 2;" in tag and "chosen by" not in tag)
    lines = [tag for tag in paths if 'aria-roledescription="line mark"' in tag]
    segments = [re.search(r' d="([^"]*)"', tag)[1].count("L") for tag in lines]  # type: ignore[index]
    assert sorted(segments) == [0, 2]  # of b, whose middle is missing, and of a


def test_what_is_drawn_depends_on_what_there_is(board: Leaderboard, tmp_path: Path) -> None:
    board.save_figures(tmp_path / "all")
    assert {path.name for path in (tmp_path / "all").iterdir()} == {
        f"{name}.{ending}"
        for name in ("score_over_depth", "metrics_over_depth", "associations-a", "heat_map-a", "heat_map-b")
        for ending in ("png", "svg")
    }
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in (tmp_path / "all").glob("*.png"))
    Leaderboard(board.scores, board.metrics.clear()).save_figures(tmp_path / "scores")
    assert {path.stem for path in (tmp_path / "scores").iterdir()} == {"score_over_depth", "heat_map-a", "heat_map-b"}


def test_names_that_look_alike_as_files_get_files_of_their_own(board: Leaderboard, tmp_path: Path) -> None:
    scores = board.scores.with_columns(pl.col("model").replace({"a": "org/m", "b": "org_M"}))
    Leaderboard(scores, board.metrics.clear()).save_figures(tmp_path)
    assert (tmp_path / "heat_map-org_m.png").is_file() and (tmp_path / "heat_map-org_M-2.png").is_file()


def test_marks_are_the_layers_that_schemes_take(board: Leaderboard) -> None:
    found = {
        (task, layer): said for task, layer, said in marks(board.only("a")).select("task", "layer", "said").iter_rows()
    }
    assert found == {
        (None, 1): "best", (None, 2): "last",
        ("A", 1): "best", ("A", 2): "last, min-dime",
        ("B", 0): "best", ("B", 2): "last",
    }  # fmt: skip


def test_a_heat_map_shows_each_task_in_its_own_range(board: Leaderboard) -> None:
    shares = heat_map(board.only("a").scores).filter(task="A").sort("layer")["share"].to_list()
    assert shares == pytest.approx([0.0, 1.0, 0.5])
    alike = board.scores.filter(model="b", task="B").with_columns(main_score=0.25)
    assert heat_map(alike)["share"].to_list() == [1.0, 1.0]


def test_association_bars_have_the_coefficients(board: Leaderboard, tmp_path: Path) -> None:
    board.save_figures(tmp_path)
    bars = described((tmp_path / "associations-a.svg").read_text("utf-8"), "bar")
    (row,) = board.associations("a").to_dicts()
    assert {bar["coefficient"]: float(bar["value"].replace("\N{MINUS SIGN}", "-")) for bar in bars} == {
        name: pytest.approx(row[name], abs=0.001) for name in ("dcor", "spearman", "kendall")
    }


def test_metrics_of_a_corpus_are_drawn_as_those_of_tasks(paper_folder: Path, tmp_path: Path) -> None:
    wikitext = pl.read_csv(paper_folder / "metrics_wikitext.csv.gz").filter(normalization="raw", revision="main")
    models = ["Pythia-410m", "bert-base"]
    rows = wikitext.filter(pl.col("model").is_in(models), metric="dime").with_columns(
        depth=pl.col("layer") / pl.col("layer").max().over("model"), n_tasks=1, of_tasks=1
    )
    assert rows.height > 20
    figures.save_figure(figures.metrics_over_depth(rows, models), tmp_path / "figure.svg")
    points = described((tmp_path / "figure.svg").read_text("utf-8"), "point")
    assert {(point["model"], int(point["layer"])) for point in points} == set(rows.select("model", "layer").iter_rows())


def test_a_figure_of_its_own_answers_to_the_mouse_without_a_network(board: Leaderboard, tmp_path: Path) -> None:
    figures.save_figure(figures.score_heat_map(heat_map(board.only("a").scores)), tmp_path / "figure.html")
    text = (tmp_path / "figure.html").read_text("utf-8")
    assert "vegaEmbed" in text and not re.search(r"<(script|link)[^>]+(src|href)=", text)


def test_other_kinds_of_files_are_refused(board: Leaderboard, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a file with suffix .png, .svg, .html, got .*figure.pdf"):
        figures.save_figure(figures.score_heat_map(heat_map(board.scores)), tmp_path / "figure.pdf")
    assert list(tmp_path.iterdir()) == []


def test_published_tables_are_drawn_whole(paper_folder: Path, tmp_path: Path) -> None:
    """Figure 1 of the paper: every layer of Pythia-410m, its best one at 17 of 24."""
    board = load_tables(scores=paper_folder / "scores_as_published.csv.gz").only("Pythia-410m", "main")
    board.save_figures(tmp_path)
    points = described((tmp_path / "score_over_depth.svg").read_text("utf-8"), "point")
    assert len([point for point in points if "of" in point]) == 25
    (best,) = [point for point in points if point.get("chosen by") == "best"]
    assert best["layer"] == "17" and float(best["mean score (x100)"]) == pytest.approx(52.0, abs=0.05)


def texts(svg: str) -> list[tuple[str, float, float, float]]:
    """Words, font size and place of the text of a picture."""
    found = []

    def walk(part: ElementTree.Element, x: float, y: float) -> None:
        moved = re.match(r"translate\(([-\d.]+),([-\d.]+)\)", part.get("transform", ""))
        x, y = (x + float(moved[1]), y + float(moved[2])) if moved else (x, y)
        if part.tag.endswith("}text") and (words := " ".join(part.itertext()).strip()):
            found.append((words, float(part.get("font-size", "0").removesuffix("px")), x, y))
        for child in part:
            walk(child, x, y)

    walk(ElementTree.fromstring(svg), 0, 0)
    return found


def size_of(png: Path) -> tuple[int, int]:
    return struct.unpack(">II", png.read_bytes()[16:24])  # type: ignore[return-value]


def test_every_picture_is_a_slide_that_names_its_model_in_text_of_12_points(board: Leaderboard, tmp_path: Path) -> None:
    board.only("a").save_figures(tmp_path)
    assert len(list(tmp_path.glob("*.png"))) == 4
    for png in tmp_path.glob("*.png"):
        width, height = size_of(png)
        assert width / height == pytest.approx(16 / 9, rel=0.01)
        written = texts(png.with_suffix(".svg").read_text("utf-8"))
        assert min(size for _, size, _, _ in written) * width / 1920 >= 12
        title = max(written, key=lambda one: one[1])
        assert re.search(r": a$", title[0]), title


def test_a_long_name_is_wrapped_whole_into_the_title(board: Leaderboard, tmp_path: Path) -> None:
    name = "org/" + "-".join(f"part{i}" for i in range(40)) + " $x$ <b> \u00e9"
    scores = board.only("a").scores.with_columns(model=pl.lit(name))
    Leaderboard(scores, board.metrics.clear()).save_figures(tmp_path)
    for svg in tmp_path.glob("*.svg"):
        written = texts(svg.read_text("utf-8"))
        largest = max(size for _, size, _, _ in written)
        title = "".join(words for words, size, _, _ in written if size == largest)
        assert title.replace(" ", "").endswith(name.replace(" ", ""))
    assert all(size_of(png)[0] < 1.02 * 1920 for png in tmp_path.glob("*.png"))


def test_names_of_layers_stand_above_the_curve(board: Leaderboard, tmp_path: Path) -> None:
    board.only("a").save_figures(tmp_path)
    written = {words: y for words, _, _, y in texts((tmp_path / "score_over_depth.svg").read_text("utf-8"))}
    top = min(y for words, y in written.items() if re.fullmatch(r"\d+", words))  # the highest label of the axis
    assert written["best: layer 1"] < top and written["last: layer 2"] < top
    assert abs(written["best: layer 1"] - written["last: layer 2"]) >= 12


def test_models_of_different_tasks_are_drawn_apart(board: Leaderboard, tmp_path: Path) -> None:
    scores = board.scores.filter((pl.col("model") == "a") | (pl.col("task") == "A"))
    Leaderboard(scores, board.metrics).save_figures(tmp_path)
    shown = [
        {point["model"] for point in described((tmp_path / f"{name}.svg").read_text("utf-8"), "point")}
        for name in ("score_over_depth", "score_over_depth-2")
    ]
    assert shown == [{"a"}, {"b"}]
    assert any(
        words == "Mean of 2 tasks: A, B" for words, *_ in texts((tmp_path / "score_over_depth.svg").read_text("utf-8"))
    )
    assert any(words == "Task A" for words, *_ in texts((tmp_path / "score_over_depth-2.svg").read_text("utf-8")))


def test_many_tasks_and_models_keep_their_text_size(tmp_path: Path) -> None:
    rows = [
        (f"org/model-{m}", "main", k, k / 30, f"ATaskWithAName{t}", "STS", ((m + 7 * k + 3 * t) % 50) / 50)
        for m in range(12)
        for k in range(31)
        for t in range(32)
    ]
    scores = scores_of(rows)
    many = Leaderboard(scores, pl.DataFrame(schema=METRICS_SCHEMA))
    curves = figure_rows.score_figure(many, many.variants(), figure_rows.marks(many).filter(pl.col("task").is_null()))
    heat = figures.score_heat_map(heat_map(many.only("org/model-0").scores))
    for name, figure in (("curves", curves), ("heat", figures.titled(heat, "org/model-0", "note"))):
        figures.save_figure(figure, tmp_path / f"{name}.svg", tmp_path / f"{name}.png")
        written = texts((tmp_path / f"{name}.svg").read_text("utf-8"))
        assert min(size for _, size, _, _ in written) >= 12
        width, height = size_of(tmp_path / f"{name}.png")
        assert width / height == pytest.approx(16 / 9, rel=0.02)
        labels = sum("model-" in words for words, *_ in written) if name == "curves" else 32
        assert labels >= 12


def test_a_last_layer_that_did_not_run_is_not_marked(board: Leaderboard) -> None:
    cut = board.only("a").scores.filter(pl.col("layer") < 2)
    found = marks(Leaderboard(cut, board.metrics.filter(pl.col("layer") < 2)))
    assert not any("last" in said for said in found["said"])


def test_a_score_that_is_no_number_has_no_share(board: Leaderboard) -> None:
    hole = (pl.col("task") == "A") & (pl.col("layer") == 1)
    scores = board.only("a").scores.with_columns(main_score=pl.when(hole).then(float("nan")).otherwise("main_score"))
    assert heat_map(scores).filter(task="A").sort("layer")["share"].to_list() == [0.0, None, 1.0]
