"""What libraries say once a task or once a layer, kept off the terminal."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import datasets


@contextmanager
def calm_libraries() -> Iterator[None]:
    """Within, mteb, datasets and sentence-transformers speak up for errors only, and show no bars."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loud = {name: logging.getLogger(name).level for name in ("mteb", "datasets", "sentence_transformers")}
        for name in loud:
            logging.getLogger(name).setLevel(logging.ERROR)
        bars = datasets.utils.logging.is_progress_bar_enabled()
        datasets.disable_progress_bars()
        try:
            yield
        finally:
            if bars:
                datasets.enable_progress_bars()
            for name, level in loud.items():
                logging.getLogger(name).setLevel(level)
