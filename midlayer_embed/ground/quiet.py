"""Silences libraries: their log messages, and the progress bars and reports of transformers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def log_level(level: int, *names: str) -> Iterator[None]:
    """Set the level of some loggers within the block, and restore it afterwards.

    Example:
        >>> with log_level(logging.ERROR, "some.library"):
        ...     logging.getLogger("some.library").warning("nobody sees this")
    """
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(level)
    try:
        yield
    finally:
        for logger, old in zip(loggers, levels, strict=True):
            logger.setLevel(old)


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Turn off progress bars, retry messages and load reports (these list every block that a truncated model omits)."""
    from transformers.utils import logging as transformers_logging  # here, since command lines need only `log_level`

    verbosity = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    with log_level(logging.ERROR, "huggingface_hub"):
        transformers_logging.set_verbosity(logging.ERROR)
        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        try:
            yield
        finally:
            transformers_logging.set_verbosity(verbosity)
            if bars:
                transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
