"""The paper's other experiments: each a function from models and texts to a tidy table, with a figure of it.

The functions are imported on first use, because models need torch.
"""

from typing import TYPE_CHECKING, Any

from leaderboard.experiments.names import EXPERIMENTS

if TYPE_CHECKING:
    from leaderboard.experiments.alpha import alpha_curves
    from leaderboard.experiments.blocks import sublayers
    from leaderboard.experiments.prefixes import sequence_length
    from leaderboard.experiments.profiles import checkpoints, compare_models
    from leaderboard.experiments.prompts import prompt_length, randomness, repetition

__all__ = [
    "alpha_curves",
    "checkpoints",
    "compare_models",
    "prompt_length",
    "randomness",
    "repetition",
    "sequence_length",
    "sublayers",
]


def __getattr__(name: str) -> Any:
    if name in EXPERIMENTS:
        return EXPERIMENTS[name].part()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
