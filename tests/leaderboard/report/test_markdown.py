"""What Jupyter shows of a leaderboard."""

import polars as pl
import pytest
from support.web.boards import board_of, scores_of

from leaderboard import Leaderboard
from leaderboard.report.figures import png
from leaderboard.results.schemas import METRICS_SCHEMA


def test_of_one_model_the_answer_and_its_layers() -> None:
    board = board_of(["org/m*"], ["A", "B"], 4, ("dime",))
    said, table = board._repr_markdown_().split("\n\n")
    best = board.best_layer()
    assert said.startswith(f"**org/m\\***: Layer {best} of 3 scores")
    rows = table.splitlines()
    assert rows[0] == "| layer | depth | mean | A | B | dime |" and len(rows) == 2 + 4
    assert [row for row in rows if "**" in row] == [rows[2 + best]] and f"| **{best}** |" in rows[2 + best]


def test_of_several_models_the_best_layer_of_each() -> None:
    board = board_of(["org/m", "org/n"], ["A", "B"], 4, ())
    rows = [row.split(" | ") for row in board._repr_markdown_().splitlines() if row.startswith("| org/")]
    for model, row in zip(("org/m", "org/n"), rows, strict=True):
        assert row[0] == f"| {model}"
        summary = board.summary(model)
        assert summary is not None and row[3:6] == [
            f"{summary.best_score:.1f}",
            str(summary.best),
            f"{summary.last_score:.1f}",
        ]


def test_models_with_the_same_name_are_told_apart_and_other_tasks_are_told() -> None:
    rows = [("m", revision, layer, layer / 1, "A", "STS", 0.5 + layer / 10) for revision in "ab" for layer in (0, 1)]
    board = Leaderboard(scores_of([*rows, ("n", "a", 0, 0.0, "B", "STS", 0.1)]), pl.DataFrame(schema=METRICS_SCHEMA))
    said = board._repr_markdown_()
    assert "| m (a) |" in said and "| m (b) |" in said and "| n |" in said
    assert "The models share no task: do not compare their means." in said.splitlines()


def test_without_results_there_is_nothing_to_show() -> None:
    board = Leaderboard.empty()
    assert board._repr_markdown_() == "No task is finished yet."
    assert repr(board) == "Leaderboard(0 models, 0 tasks, 0 scores)"


def test_figures_have_the_names_of_the_files(tmp_path_factory: pytest.TempPathFactory) -> None:
    board = board_of(["org/m"], ["A"], 3, ("dime",))
    board.save_figures(folder := tmp_path_factory.mktemp("figures"))
    figures = board.figures()
    assert {f"{name}.png" for name in figures} == {path.name for path in folder.glob("*.png")}
    assert png(figures["score_over_depth"]) == (folder / "score_over_depth.png").read_bytes()
