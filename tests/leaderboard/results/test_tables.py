import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score
from support.tiny_tasks import tiny_tasks
from support.web.boards import scores_of

from leaderboard import Leaderboard, load_results, load_tables, run_sweep
from leaderboard.analysis.schemes import notes
from leaderboard.report.cells import scheme_cells
from leaderboard.report.terminal import print_layers
from leaderboard.results.schemas import METRICS_SCHEMA, SCORES_SCHEMA
from midlayer_embed import LayerwiseEncoder


def _board(rows: list[tuple[int, str, float]], model: str = "org/m") -> Leaderboard:
    scores = [(model, "r", layer, layer / 4, task, "STS", score) for layer, task, score in rows]
    metrics = [(model, "r", task, "dataset_entropy", "raw", layer, 1.0 + layer) for layer, task, _ in rows]
    return Leaderboard(
        scores_of(scores),
        pl.DataFrame(metrics, schema=METRICS_SCHEMA, orient="row"),
    )


def test_scores_are_points_and_the_mean_is_over_the_tasks() -> None:
    table = _board([(0, "A", 0.5), (0, "B", 0.7), (4, "A", 0.2), (4, "B", 0.3)]).layer_table()
    assert table.columns == ["layer", "depth", "mean", "A", "B", "dataset_entropy"]
    assert table.row(0) == pytest.approx((0, 0.0, 60.0, 50.0, 70.0, 1.0))
    assert table.row(1) == pytest.approx((4, 1.0, 25.0, 20.0, 30.0, 5.0))


def test_a_layer_that_misses_a_task_has_no_mean_and_is_never_best() -> None:
    board = _board([(0, "A", 0.5), (0, "B", 0.1), (2, "A", 0.9), (4, "A", 0.2), (4, "B", 0.2)])
    assert board.layer_table()["mean"].to_list() == [pytest.approx(30.0), None, pytest.approx(20.0)]
    summary = board.summary()
    assert summary is not None
    assert (summary.best, summary.last, summary.n_blocks) == (0, 4, 4)
    assert str(summary) == "best layer 0 (depth 0.00): +10.0 points over the last layer, 0% of the blocks"


def test_a_layer_that_misses_a_tasks_metric_has_no_mean_of_it() -> None:
    board = _board([(0, "A", 0.5), (0, "B", 0.1), (4, "A", 0.2), (4, "B", 0.2)])
    without = board.metrics.filter((pl.col("task") != "B") | (pl.col("layer") != 4))
    table = Leaderboard(board.scores, without).layer_table()
    assert table["mean"].to_list() == pytest.approx([30.0, 20.0])
    assert table["dataset_entropy"].to_list() == [1.0, None]


def test_without_a_complete_layer_there_is_no_summary() -> None:
    assert _board([(0, "A", 0.5), (2, "B", 0.1), (4, "A", 0.2)]).summary() is None


_WITHOUT_LAST = (
    "best of the layers that ran (0, 2): layer 2 (depth 0.50), 50% of the blocks; the last layer did not run"
)
_NO_SCORE_OF_LAST = "best layer 1 (depth 0.25), 25% of the blocks; the last layer has no score for some of the tasks"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([(0, 0.2), (2, 0.5)], _WITHOUT_LAST),
        ([(1, 0.2)], "only layer 1 (depth 0.25) ran, 25% of the blocks"),
        ([(0, 0.2)], "only layer 0 (depth 0.00) ran, 0% of the blocks"),
        ([(4, 0.2)], "only layer 4 (depth 1.00) ran, the last one, 100% of the blocks"),
        ([(0, 0.2), (4, 0.5)], "best layer 4 (depth 1.00), the last one"),
        ([(1, 0.5), (4, nan)], _NO_SCORE_OF_LAST),
        ([(1, 0.5), (4, 0.25)], "best layer 1 (depth 0.25): +25.0 points over the last layer, 25% of the blocks"),
    ],
)
def test_a_gain_is_over_the_last_layer_of_the_model_or_there_is_none(rows: list[tuple[int, float]], said: str) -> None:
    board = _board([(layer, task, score) for layer, score in rows for task in ("A", "B")])
    other = _board([(0, "B", 0.5), (4, "A", 0.5), (4, "B", nan)], model="org/n")
    both = Leaderboard(pl.concat([board.scores, other.scores]), board.metrics)
    assert str(board.summary()) == str(both.summary("org/m")) == said
    assert said in board.to_markdown()


def test_a_scheme_called_last_says_where_it_ends_if_the_models_last_layer_did_not_run() -> None:
    rows = [(layer, "A", 0.5) for layer in (0, 2)]
    whole = _board([*rows, (4, "A", 0.5)], model="org/n")
    both = Leaderboard(pl.concat([_board(rows).scores, whole.scores]), whole.metrics)
    table = both.schemes()
    assert table.select("last_layer", "n_blocks").rows() == [(2, 4), (4, 4)]
    assert notes(table) == ["last is the highest layer that ran: layer 2 of 4 of org/m"]
    assert notes(whole.schemes()) == []
    assert "Last is the highest layer that ran: layer 2 of 4 of org/m." in both.to_markdown()
    assert scheme_cells(table.row(0, named=True), "last")[0] == "last that ran: layer 2"


def test_what_is_no_number_is_null_in_every_table_and_file(tmp_path: Path) -> None:
    rows = [(0, "A", 0.5), (0, "B", nan), (2, "A", 0.25), (2, "B", 0.25), (4, "A", inf), (4, "B", 0.75)]
    board = _board(rows)
    board = replace(board, metrics=board.metrics.with_columns(value=pl.Series([nan, inf, -inf, 1.0, 2.0, nan])))
    assert board.scores["main_score"].to_list() == [0.5, None, 0.25, 0.25, None, 0.75]
    assert board.metrics["value"].to_list() == [None, None, None, 1.0, 2.0, None]
    assert board.no_scores().select("layer", "task", "reason").rows() == [(0, "B", "NaN"), (4, "A", "NaN")]
    # Layers 0 and 4 would win with the tasks that they have.
    assert board.best_layer() == 2
    assert board.schemes()["best_layer"].to_list() == board.schemes(complete_only=True)["best_layer"].to_list() == [2]
    board.to_csv(tmp_path / "t")
    board.to_html(tmp_path / "page.html")
    written = [path.read_text("utf-8") for path in (tmp_path / "t").iterdir()]
    data = (tmp_path / "page.html").read_text("utf-8").split('id="data"', 1)[1].split("</script", 1)[0]
    for text in (*written, data, board.to_markdown()):
        assert not re.search(r"\b(nan|inf(inity)?)\b", text.replace(": NaN", ""), re.IGNORECASE)
    assert "org/m: layer 0 has no score on B: NaN; layer 4 has no score on A: NaN." in board.to_markdown()


def test_of_equal_layers_the_lower_is_best() -> None:
    summary = _board([(1, "A", 0.5), (2, "A", 0.5), (4, "A", 0.2)]).summary()
    assert summary is not None and summary.best == 1


def test_models_are_kept_apart() -> None:
    one, two = _board([(0, "A", 0.5), (4, "A", 0.4)]), _board([(0, "A", 0.1), (4, "A", 0.6)], model="org/n")
    both = Leaderboard(pl.concat([one.scores, two.scores]), pl.concat([one.metrics, two.metrics]))
    assert both.layer_table("org/n")["A"].to_list() == pytest.approx([10, 60])
    with pytest.raises(ValueError, match=r"expected one of org/m \(r\), org/n \(r\)"):
        both.layer_table()


def test_the_only_revision_of_a_model_need_not_be_named() -> None:
    board = _board([(0, "A", 0.5), (2, "A", 0.6), (4, "A", 0.4)])
    assert board.associations("org/m").equals(board.associations("org/m", "r"))
    other = board.scores.with_columns(revision=pl.lit("s"))
    with pytest.raises(ValueError, match=r"expected one of org/m \(r\), org/m \(s\); got model='org/m'"):
        replace(board, scores=pl.concat([board.scores, other])).associations("org/m")


def test_markdown_begins_with_the_schemes_and_tells_how_many_tasks_are_behind_them() -> None:
    lines = _board([(0, "A", 0.5), (0, "B", 0.25), (4, "A", 0.3)]).to_markdown().splitlines()
    assert lines[0] == "## Schemes"
    head, row = (next(line for line in lines if line.startswith(start)) for start in ("| model", "| org/m"))
    cells = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert (cells["best"], cells["last"], cells["min_dime"]) == ("37.5", "30.0 (1)", "-")
    assert "| dataset_entropy | - | - | - | - | 1 | 2 |" in lines  # layer 4 misses a task


def test_markdown_escapes_what_a_name_may_hold() -> None:
    text = _board([(0, "A|B", 0.5), (4, "A|B", 0.4)], model="org/<script>").to_markdown()
    assert "<script>" not in text
    assert "A\\|B" in text


_TABLES = [
    "associations",
    "layers",
    "metrics",
    "paper_scores",
    "recipes",
    "regret",
    "regret_types",
    "schemes",
    "scores",
]


def test_tables_are_written_as_parquet(tmp_path: Path) -> None:
    board = _board([(0, "A", 0.5), (4, "A", 0.4)])
    board.to_parquet(tmp_path / "new", tasks="common")
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [f"{name}.parquet" for name in _TABLES]
    tables = {name: pl.read_parquet(tmp_path / "new" / f"{name}.parquet") for name in _TABLES}
    assert tables["paper_scores"].equals(board.paper_scores)
    assert tables["scores"].equals(board.scores)
    assert tables["layers"]["A"].to_list() == [50, 40]
    assert tables["schemes"].equals(board.schemes(tasks="common"))
    assert tables["associations"].drop("model", "revision").equals(board.associations("org/m", "r"))


def test_tables_are_written_as_csv_and_read_again(tmp_path: Path) -> None:
    one, two = _board([(0, "A", 0.1 + 0.2), (4, "B", 1 / 3)]), _board([(3, "A", 0.5)], model='org/"n", or so')
    both = Leaderboard(pl.concat([one.scores, two.scores]), pl.concat([one.metrics, two.metrics]))
    both.to_csv(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.csv" for name in _TABLES]
    again = load_tables(tmp_path / "scores.csv", tmp_path / "metrics.csv")
    assert again.scores.equals(both.scores) and again.metrics.equals(both.metrics)
    assert pl.read_csv(tmp_path / "schemes.csv")["best"].to_list() == both.schemes()["best"].to_list()


def test_without_a_row_tables_are_written_all_the_same(tmp_path: Path) -> None:
    Leaderboard.empty().to_csv(tmp_path)
    assert load_tables(tmp_path / "scores.csv", tmp_path / "metrics.csv").scores.is_empty()


def test_the_terminal_table_fits_80_columns_and_marks_best_and_last() -> None:
    from io import StringIO

    from rich.console import Console

    tasks = [
        "StarterClassification",
        "StarterClustering",
        "StarterPairClassification",
        "StarterReranking",
        "StarterSTS",
    ]
    board = _board([(layer, task, 0.5 - layer / 10) for layer in range(5) for task in tasks])
    out = StringIO()
    print_layers(board, "org/m", "r", Console(file=out, width=80))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, lines)) <= 80
    assert "…" not in out.getvalue()
    assert [line for line in lines if line.endswith("best")] == [line for line in lines if line.startswith("    0")]
    assert [line for line in lines if line.endswith("last")] == [line for line in lines if line.startswith("    4")]


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    unit = [vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) for vectors in (left, right)]
    return np.asarray((unit[0] * unit[1]).sum(-1)).ravel()


def _precision_of_pairs(task: Any, vectors: Callable[..., np.ndarray]) -> float:
    rows = task.dataset["test"]
    cosines = _cosines(vectors(list(rows["sentence1"])), vectors(list(rows["sentence2"])))
    return float(average_precision_score(list(rows["labels"]), cosines))


def _precision_of_candidates(task: Any, vectors: Callable[..., np.ndarray]) -> float:
    """As mteb 1.14 scored reranking: scikit-learn's average precision over the candidates of each query."""
    data = task.dataset["default"]["test"]
    texts = {row["id"]: row["text"] for table in ("queries", "corpus") for row in data[table]}
    found = []
    for query, candidates in data["top_ranked"].items():
        cosines = _cosines(vectors([texts[query]]), vectors([texts[name] for name in candidates]))
        found.append(average_precision_score([data["relevant_docs"][query][name] for name in candidates], cosines))
    return float(np.mean(found))


def test_the_papers_scores_stand_beside_the_main_ones(
    llama_folder: Path,
    tmp_path: Path,
    llama: LayerwiseEncoder,
) -> None:
    board = run_sweep(llama_folder, tiny_tasks(), tmp_path, metrics="none", show_progress=False)
    found = {
        (task, layer): score for task, layer, score in board.paper_scores.select("task", "layer", "main_score").rows()
    }
    tasks = {task.metadata.name: task for task in tiny_tasks()}
    by_hand = {"TinyPairClassification": _precision_of_pairs, "TinyReranking": _precision_of_candidates}
    assert set(found) == {(name, layer) for name in by_hand for layer in range(4)}
    for (name, layer), score in found.items():
        tasks[name].load_data()
        plain = by_hand[name](tasks[name], partial(llama.encode, layers=[layer]))
        assert score == pytest.approx(plain, abs=1e-5), (name, layer)
    main = board.scores.join(board.paper_scores, on=["task", "layer"], suffix="_of_paper")
    differing = main.filter((pl.col("main_score") - pl.col("main_score_of_paper")).abs() > 1e-6)
    assert set(differing["task"]) == {"TinyPairClassification"}
    assert board.scores.schema == board.paper_scores.schema == SCORES_SCHEMA
    assert load_results(tmp_path).paper_scores.equals(board.paper_scores)


def test_a_query_of_several_parts_has_the_papers_score_over_its_parts(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (task,) = [task for task in tiny_tasks() if task.metadata.name == "TinyReranking"]
    parts = {"max_over_subqueries_map_at_1000": 0.25}  # as mteb's MindSmallReranking adds it
    monkeypatch.setattr(type(task), "task_specific_scores", lambda *args, **kwargs: parts)
    board = run_sweep(llama_folder, [task], tmp_path, layers=[-1], metrics="none", show_progress=False)
    assert board.paper_scores["main_score"].to_list() == [0.25]
    assert board.scores["main_score"].to_list() != [0.25]
