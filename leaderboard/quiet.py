"""Silences mteb and datasets, which would write to the terminal for every task or layer."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import datasets

from midlayer_embed.ground.quiet import log_level


@contextmanager
def calm_libraries() -> Iterator[None]:
    """Let mteb, datasets and sentence-transformers log errors only, and show no progress bars."""
    bars = datasets.utils.logging.is_progress_bar_enabled()
    with warnings.catch_warnings(), log_level(logging.ERROR, "mteb", "datasets", "sentence_transformers"):
        warnings.simplefilter("ignore")
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            if bars:
                datasets.enable_progress_bars()
