"""The answer in a sentence, for every kind of results."""

import pytest

from leaderboard.report.answer import answer, answer_of_all
from leaderboard.results.summary import LayerSummary

_ALL = tuple(range(31))


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        (
            LayerSummary(7, 30, 30, 63.21, 55.99, _ALL),
            "Layer 7 of 30 scores 63.2, the last 56.0; it needs 23% of the blocks.",
        ),
        (LayerSummary(30, 30, 30, 56.0, 56.0, _ALL), "The last layer is the best: layer 30 of 30 scores 56.0."),
        (
            LayerSummary(0, 30, 30, 63.0, 56.0, _ALL),
            "Layer 0 of 30 scores 63.0, the last 56.0; it needs none of the blocks.",
        ),
        (
            LayerSummary(2, None, 30, 61.0, None, (0, 2)),
            "Layer 2 of 30 scores 61.0, the best of the 2 layers that ran; the last did not run. "
            "It needs 7% of the blocks.",
        ),
        (
            LayerSummary(2, 30, 30, 61.0, 56.0, (0, 2, 30)),
            "Layer 2 of 30 scores 61.0, the best of the 3 layers that ran; the last 56.0; it needs 7% of the blocks.",
        ),
        (
            LayerSummary(30, 30, 30, 61.0, 61.0, (0, 30)),
            "The last layer is the best of those that ran: layer 30 of 30 scores 61.0.",
        ),
        (
            LayerSummary(7, 30, 30, 63.0, None, _ALL),
            "Layer 7 of 30 scores 63.0; the last has no score for some tasks. It needs 23% of the blocks.",
        ),
        (LayerSummary(7, None, 30, 63.0, None, (7,)), "Layer 7 of 30 scores 63.0; no other layer ran."),
        (LayerSummary(30, 30, 30, 63.0, 63.0, (30,)), "Layer 30 of 30 scores 63.0; no other layer ran."),
        (LayerSummary(0, None, 1, 63.0, None, (0,)), "Layer 0 scores 63.0; no other layer ran."),
        (
            LayerSummary(3, 30, 30, 50.0, 50.0, _ALL),
            "Layer 3 of 30 scores 50.0, as much as the last; it needs 10% of the blocks.",
        ),
        (None, "No layer has a score for every task, so none is best."),
    ],
)
def test_the_answer(summary: LayerSummary | None, expected: str) -> None:
    assert answer(summary) == expected


def test_several_models_are_counted_only_where_they_can_be_compared() -> None:
    before, last = LayerSummary(7, 30, 30, 63.2, 56.0, _ALL), LayerSummary(30, 30, 30, 61.0, 61.0, _ALL)
    unknown = LayerSummary(2, None, 30, 61.0, None, (0, 2))
    assert answer_of_all([before, last]) == "A layer before the last scores best for 1 of 2 models."
    assert answer_of_all([last, last]) == "A layer before the last scores best for none of 2 models."
    tie = LayerSummary(3, 30, 30, 50.0, 50.0, _ALL)
    assert answer_of_all([last, tie]) == "A layer before the last scores best for none of 2 models."
    assert answer_of_all([before, unknown, None]) == (
        "A layer before the last scores best for 1 of 3 models; 2 have no comparable score of the last layer."
    )
    assert answer_of_all([None, unknown]) == "None of 2 models has a comparable score of its last layer."
