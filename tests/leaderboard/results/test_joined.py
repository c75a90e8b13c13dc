"""Tables of several folders as one."""

from dataclasses import replace

import polars as pl
import pytest
from support.web.boards import board_of

from leaderboard import Leaderboard
from leaderboard.results.joined import joined
from midlayer_embed.errors import InputError


def _part(board: Leaderboard, task: str) -> Leaderboard:
    frames = {name: getattr(board, name).filter(task=task) for name in ("scores", "metrics", "paper_scores")}
    return replace(board, **frames, remarks=(f"of {task}", "of both"))


def test_parts_make_the_whole() -> None:
    board = board_of(["m", "n"], ["A", "B"], 4, ("dime",))
    whole = joined([_part(board, "A"), _part(board, "B")], ["one", "two"])
    assert isinstance(whole, Leaderboard)
    assert whole.schemes().equals(board.schemes())
    assert whole.scores.height == board.scores.height and whole.metrics.height == board.metrics.height
    assert whole.remarks == ("of A", "of both", "of B")


def test_the_same_numbers_count_once_and_the_first_of_two_that_differ_by_rounding() -> None:
    board = board_of(["m"], ["A"], 4, ("dime",))
    near = replace(board, scores=board.scores.with_columns(pl.col("main_score") + 1e-9))
    assert joined([board, near], ["one", "two"]).scores.equals(board.scores)


@pytest.mark.parametrize("other", [0.5, None])
def test_different_numbers_of_one_name_are_refused(other: float | None) -> None:
    board = board_of(["m"], ["A"], 4, ("dime",))
    changed = pl.when(pl.col("layer") == 2).then(pl.lit(other)).otherwise("main_score").alias("main_score")
    wrong = replace(board, scores=board.scores.with_columns(changed))
    with pytest.raises(InputError, match="one and two differ in the main_score of model m, revision main, layer 2"):
        joined([board, wrong], ["one", "two"])
    of_metric = replace(board, metrics=board.metrics.with_columns(pl.col("value") + 1))
    with pytest.raises(
        InputError, match="one and three differ in the value of model m, revision main, task A, metric dime"
    ):
        joined([board, board, of_metric], ["one", "two", "three"])
