"""Criteria that other packages provide: those that need labelled tasks, which `leaderboard` has.

A package names them among its entry points of the group `midlayer_embed.criteria`. Each is a function of an encoder,
with some keywords of `select_layer`, that returns a LayerSelection.
"""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from midlayer_embed.errors import InputError

GROUP = "midlayer_embed.criteria"


def outside_criterion(name: str) -> Callable[..., Any]:
    """The function behind a criterion of another package.

    Raises:
        InputError: (a ValueError) no installed package provides it, or what it needs is not installed.

    Example:
        >>> outside_criterion("published").__name__
        'published'
    """
    found = entry_points(group=GROUP, name=name)
    if not found:
        raise InputError(f"criterion: {name!r} needs the leaderboard; run: pip install 'midlayer-embed[leaderboard]'")
    try:
        function: Callable[..., Any] = next(iter(found)).load()
    except ImportError as error:
        raise InputError(
            f"criterion: {name!r} needs {error.name}; run: pip install 'midlayer-embed[leaderboard]'"
        ) from error
    return function
