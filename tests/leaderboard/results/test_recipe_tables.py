"""Asking tables for a recipe, and reading recipes from table files."""

import math
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from support.web.boards import scores_of

from leaderboard import Leaderboard, load_tables
from leaderboard.analysis.variants import RECIPE, Variant
from leaderboard.models.origin import Origin
from leaderboard.results.schemas import METRICS_SCHEMA

_RECIPES: list[tuple[Any, ...]] = [
    (None, None, None),
    ("echo", None, None),
    ("echo", "whiten:10", "train"),
    ("echo", "whiten:10", "task"),
    ('Say, "{text}"\n', "remove:1", "corpus:wiki, part 1"),
]


def _board(recipes: list[tuple[Any, ...]] = _RECIPES, model: str = "org/m") -> Leaderboard:
    rows = [
        (model, "main", layer, layer / 2, task, "STS", (layer * place + len(task)) / 20, *recipe)
        for place, recipe in enumerate(recipes)
        for layer in range(3)
        for task in ("A", "BB")
    ]
    metrics = [(model, "main", "A", "dime", "raw", layer, 1.0 + layer) for layer in range(3)]
    return Leaderboard(scores_of(rows), pl.DataFrame(metrics, schema=METRICS_SCHEMA, orient="row"))


def test_the_table_of_layers_is_of_the_recipe_that_is_asked_for() -> None:
    board = _board()
    assert board.layer_table()["mean"].to_list() == pytest.approx([7.5, 7.5, 7.5])
    echo = board.layer_table(template="echo")
    assert echo["mean"].to_list() == pytest.approx([7.5, 12.5, 17.5])
    assert echo["dime"].to_list() == [1, 2, 3]  # metrics are of plain texts, and of every recipe
    assert board.best_layer(template="echo") == 2
    summary = board.summary(template="echo", transform="whiten", fitted_on="task")
    assert summary is not None and summary.best_score == pytest.approx(37.5)


def test_whitening_has_two_names() -> None:
    board = _board()
    whole = {"template": "echo", "fitted_on": "train"}
    assert board.layer_table(transform="whiten", **whole).equals(board.layer_table(transform="whiten:10", **whole))


def test_a_recipe_that_is_not_there_is_refused_with_those_that_are() -> None:
    board = _board()
    with pytest.raises(ValueError, match=r"^recipe of org/m: expected one of plain; echo; .*; got template='eol', "):
        board.layer_table(template="eol")
    several = r"^fitted_on of org/m: expected train or task, with template='echo', transform='whiten:10'; got None$"
    with pytest.raises(ValueError, match=several):
        board.best_layer(template="echo", transform="whiten")
    with pytest.raises(ValueError, match="^transform: expected one of center"):
        board.layer_table(template="echo", transform="whitening")
    with pytest.raises(ValueError, match=r"got template=None, transform=None, fitted_on='task'"):
        board.layer_table(fitted_on="task")


def test_what_is_not_there_is_told_in_a_line_that_can_be_read() -> None:
    board = _board([(f"{'long ' * 40}{n} {{text}}", None, None) for n in range(30)])
    with pytest.raises(ValueError, match=r" and 18 more; got template='eol'") as raised:
        board.layer_table(template="eol")
    assert len(str(raised.value)) < 1500


def test_none_is_spelt_as_in_a_sweep() -> None:
    board = _board()
    for template, transform in (("none", None), (None, "none"), ("none", "none")):
        assert board.layer_table(template=template, transform=transform).equals(board.layer_table())
    assert board.layer_table(template="echo", transform="none").equals(board.layer_table(template="echo"))


def test_a_recipe_tells_which_label_of_one_model_is_meant() -> None:
    """A folder with a pooling of its own has its plain layers under another label than those with a named template."""
    plain, echo = _board([_RECIPES[0]], "org/m (pooling_mode=cls)"), _board(_RECIPES[1:3])
    board = Leaderboard(pl.concat([plain.scores, echo.scores]), plain.metrics)
    assert board.layer_table().height == plain.layer_table().height == 3
    assert board.find_variant(template="echo").model == "org/m"
    assert board.find_variant(template="echo", transform="whiten", fitted_on="train").model == "org/m"
    with pytest.raises(ValueError, match="^model: expected one of org/m "):
        board.layer_table(transform="center")
    both = Leaderboard(pl.concat([board.scores, _board([_RECIPES[0]]).scores]), plain.metrics)
    with pytest.raises(ValueError, match="^model: expected one of org/m "):
        both.layer_table()


def test_a_board_without_plain_layers_has_no_plain_numbers_and_all_others(tmp_path: Path) -> None:
    board = _board(_RECIPES[1:])
    assert board.layer_table().columns == ["layer", "depth", "mean"]
    assert (board.layer_table().height, board.best_layer(), board.summary()) == (0, None, None)
    assert board.schemes().height == board.recipes().height == len(_RECIPES) - 1
    board.to_csv(tmp_path)
    again = load_tables(tmp_path / "scores.csv", tmp_path / "metrics.csv")
    assert again.scores.equals(board.scores)
    for file in tmp_path.iterdir():
        assert "NaN" not in file.read_text(encoding="utf-8")
    layers = pl.read_csv(tmp_path / "layers.csv")
    assert layers.height == 3 * (len(_RECIPES) - 1)
    assert layers.columns[:5] == ["model", "revision", *RECIPE]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_recipes_are_written_and_come_back(tmp_path: Path, ending: str) -> None:
    board = _board()
    getattr(board, f"to_{ending}")(tmp_path)
    again = load_tables(tmp_path / f"scores.{ending}", tmp_path / f"metrics.{ending}")
    assert again.scores.equals(board.scores)
    assert_frame_equal(again.recipes(), board.recipes())
    read = pl.read_csv(tmp_path / "recipes.csv") if ending == "csv" else pl.read_parquet(tmp_path / "recipes.parquet")
    assert read["best"].to_list() == pytest.approx(board.recipes()["best"].to_list())
    assert read["transductive"].to_list() == board.recipes()["transductive"].to_list()


def _load(folder: Path, **columns: Any) -> Leaderboard:
    frame = _board(_RECIPES[:1]).scores.with_columns(**{name: pl.Series(values) for name, values in columns.items()})
    frame.write_csv(folder / "s.csv")
    return load_tables(folder / "s.csv")


@pytest.mark.parametrize(
    ("transform", "fitted_on", "said"),
    [
        ("center", None, "row 2: expected train, task or corpus:<name> where there is a transform, else nothing"),
        ("center", "test", "row 2: expected train, task or .*got 'test'"),
        ("center", "Task", "row 2: expected train, task or .*got 'Task'"),
        ("center", "corpus:", "row 2: expected train, task or .*got 'corpus:'"),
        (None, "train", "row 2: expected train, task or .*got 'train'"),
    ],
)
def test_a_transform_has_to_say_what_it_was_fitted_on(
    tmp_path: Path, transform: str | None, fitted_on: str | None, said: str
) -> None:
    with pytest.raises(ValueError, match=f"^scores: .*, column 'fitted_on', {said}"):
        _load(tmp_path, transform=[None, transform, *[None] * 4], fitted_on=[None, fitted_on, *[None] * 4])


def test_one_layer_of_one_recipe_is_there_once(tmp_path: Path) -> None:
    frame = pl.concat([_board(_RECIPES[:2]).scores, _board(_RECIPES[1:2]).scores.head(1)])
    frame.write_csv(tmp_path / "s.csv")
    with pytest.raises(ValueError, match=r"rows 7 and 13 have the same values: .*task 'A', template 'echo'$"):
        load_tables(tmp_path / "s.csv")


def test_the_depth_is_that_of_the_model_where_a_recipe_lacks_layers(tmp_path: Path) -> None:
    frame = _board(_RECIPES[:2]).scores.filter(pl.col("template").is_null() | (pl.col("layer") < 2)).drop("depth")
    frame.write_csv(tmp_path / "s.csv")
    assert load_tables(tmp_path / "s.csv").layer_table(template="echo")["depth"].to_list() == [0, 0.5]


def test_layers_without_a_score_are_told_with_their_recipe() -> None:
    board = _board(_RECIPES[:2])
    is_hole = (pl.col("template") == "echo") & (pl.col("layer") == 0) & (pl.col("task") == "A")
    holed = board.scores.with_columns(pl.when(is_hole.fill_null(value=False)).then(math.nan).otherwise("main_score"))
    holed = holed.drop("main_score").rename({"literal": "main_score"}).select(board.scores.columns)
    reasons = {("org/m", "main", 0, "A", "echo", None, None): "all vectors are equal"}
    (row,) = Leaderboard(holed, board.metrics, reasons=reasons).no_scores().to_dicts()
    assert (row["layer"], row["template"], row["reason"]) == (0, "echo", "all vectors are equal")


def test_a_label_is_another_one_for_each_recipe() -> None:
    long = [(f"{'a long instruction ' * 9}{n}{' and more' * 9} {{text}}", None, None) for n in range(3)]
    labels = list(_board([*_RECIPES, *long]).variant_labels().values())
    assert len(set(labels)) == len(labels) == 8
    assert labels[:2] == ["org/m", "org/m: echo"]
    assert labels[3] == "org/m: echo, whiten:10 on task (transductive)"
    assert labels[-1].endswith('{text}" (3)') and len(labels[-1]) < 60


def test_a_model_is_loaded_again_with_its_recipe() -> None:
    board = _board()
    origin = Origin("org/m", "org/m", {"revision": "abc", "max_seq_length": 64})
    board = Leaderboard(board.scores, board.metrics, origins={("org/m", "main"): origin})
    found = board.origin("org/m", "main", "echo", "whiten:10").settings
    assert found == {"revision": "abc", "max_seq_length": 64, "template": "echo", "transform": "whiten:10"}
    assert board.origin("org/m", "main").settings == origin.settings


@pytest.mark.parametrize(
    ("own", "template", "pooling", "expected"),
    [
        ({}, "echo", None, {"template": "echo"}),
        ({}, "echo", "cls", {"template": "echo", "pooling_mode": "cls"}),  # the model's own, which a template undoes
        ({"pooling_mode": "cls"}, "echo", "cls", {"template": "echo", "pooling_mode": "cls"}),
        ({"pooling_mode": "mean"}, "echo", None, {"template": "echo"}),
        ({"pooling_mode": "mean"}, "Query: {text}", None, {"template": "Query: {text}", "pooling_mode": "mean"}),
        ({"template": "echo"}, None, None, {"pooling_mode": "mean"}),
        ({"template": "echo"}, "eol", None, {"template": "eol"}),
        ({"template": "echo", "pooling_mode": "mean"}, "eol", "mean", {"template": "eol", "pooling_mode": "mean"}),
        ({"template": "echo"}, "Query: {text}", None, {"template": "Query: {text}", "pooling_mode": "mean"}),
        ({"template": "Query: {text}"}, None, None, {}),
    ],
)
def test_the_pooling_is_that_of_the_label(
    own: dict[str, str], template: str | None, pooling: str | None, expected: dict[str, str]
) -> None:
    """A label says a pooling only where it is not the default of its template."""
    model = "m" if pooling is None else f"m (pooling_mode={pooling})"
    board = Leaderboard(scores_of([]), _board().metrics, origins={(model, "r"): Origin(None, "m", own)})
    assert board.origin(model, "r", template).settings == expected


def test_a_name_from_a_table_is_loaded_without_its_pooling() -> None:
    found = _board(model="org/m (pooling_mode=cls)").origin("org/m (pooling_mode=cls)", "main")
    assert (found.loaded_from, found.settings) == ("org/m", {"pooling_mode": "cls"})


def test_a_variant_says_what_was_done() -> None:
    assert Variant("m", "r").words() == "plain"
    assert Variant("m", "r", "Query:\n {text}", "center", "corpus:c").words() == '"Query: {text}", center on corpus:c'
    assert Variant("m", "r", None, "center", "task").is_transductive
