"""What an experiment varies in numbers: probabilities, lengths and exponents. Imports nothing heavy."""

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np

from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_int

PROBABILITIES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
# Shortest of the lengths that are chosen for the user, and the share of the texts that the longest one leaves.
_SHORTEST, _SHARE = 4, 0.25


def check_probabilities(p: Any) -> list[float]:
    """Probabilities, each once, in the order given.

    Args:
        p: A list of them, or a single one.

    Raises:
        InputError: (a ValueError) not a number from 0 to 1, or none at all.

    Example:
        >>> check_probabilities([0, 0.5, 0.5])
        [0.0, 0.5]
    """
    found = _listed(p)
    for value in found:
        if isinstance(value, (bool, np.bool_)) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
            raise InputError(f"p: expected probabilities from 0 to 1, got {value!r}")
    if not found:
        raise InputError("p: expected at least one probability, got none")
    return list(dict.fromkeys(float(value) for value in found))


def check_lengths(lengths: Any, first_token: bool = True) -> list[int] | None:
    """Numbers of tokens, each once, in rising order; None stays None.

    Args:
        lengths: A list of them, or a single one.
        first_token: Whether the first token of a text counts.

    Raises:
        InputError: (a ValueError) not an int, fewer than two tokens that count, which have no entropy, or none at all.

    Example:
        >>> check_lengths([16, 4, 4])
        [4, 16]
    """
    if lengths is None:
        return None
    found = {check_int("lengths", value, 2) for value in _listed(lengths)}
    if not found:
        raise InputError("lengths: expected at least one number of tokens, got none")
    if not first_token and min(found) < 3:
        raise InputError(f"lengths: expected at least 3 tokens, of which the first does not count, got {min(found)}")
    return sorted(found)


def check_exponents(betas: Any) -> tuple[float, ...]:
    """Exponents of power laws, each once, in the order given; there may be none.

    Raises:
        InputError: (a ValueError) not a finite number of 0 or more.

    Example:
        >>> check_exponents([0, 1, 1])
        (0.0, 1.0)
    """
    found = np.atleast_1d(np.asarray(betas))
    are_numbers = found.dtype.kind in "iuf" and found.ndim == 1
    if found.size and not (are_numbers and (np.isfinite(found) & (found >= 0)).all()):
        raise InputError(f"betas: expected finite numbers of 0 or more, got {betas!r}")
    return tuple(dict.fromkeys(float(beta) for beta in found))


def reached_lengths(lengths: list[int] | None, n_tokens: np.ndarray) -> tuple[list[int], np.ndarray]:
    """The lengths to measure, and the texts that have all of them, so that all lengths are measured on the same texts.

    Args:
        lengths: From `check_lengths`; None: powers of two, from 4 up to the largest that a quarter of the texts reach.
        n_tokens: (n_texts,) number of tokens of each text.

    Returns:
        The lengths, and the indices of the texts that are at least as long as the longest of them.

    Raises:
        InputError: (a ValueError) no text is; the message has the length of the longest text.

    Example:
        >>> reached_lengths(None, np.array([3, 20, 9, 5]))
        ([4, 8, 16], array([1]))
    """
    longest = int(n_tokens.max(initial=0))
    if lengths is None:
        needed = max(1, int(np.ceil(_SHARE * len(n_tokens))))
        lengths = [_SHORTEST]
        while np.count_nonzero(n_tokens >= 2 * lengths[-1]) >= needed:
            lengths.append(2 * lengths[-1])
    if longest < lengths[-1]:
        tokens = f"{longest} token{'s' * (longest != 1)}"
        raise InputError(f"lengths: the longest text has {tokens}, none has {lengths[-1]}")
    return lengths, np.flatnonzero(n_tokens >= lengths[-1])


def _listed(values: Any) -> list[Any]:
    """Values of a list, an array, or one value; a string is one value."""
    return list(values) if isinstance(values, Iterable) and not isinstance(values, (str, bytes)) else [values]
