"""Checks of arguments that many functions share, each with one wording."""

import math
from collections.abc import Sequence
from importlib.util import find_spec
from numbers import Integral, Real
from typing import Any

from midlayer_embed.errors import InputError, InputTypeError


def check_int(name: str, value: Any, at_least: int) -> int:
    """An int with a lower bound; integers of numpy are turned into ints.

    Args:
        name: Name of the argument, for messages.
        value: Value of the argument.
        at_least: Smallest value that is accepted.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not an int; True and False are none.
        InputError: (a ValueError) below the bound.

    Example:
        >>> check_int("seed", 0, at_least=0)
        0
        >>> check_int("n_views", 0, at_least=1)
        Traceback (most recent call last):
        midlayer_embed.errors.InputError: n_views: expected an int of at least 1, got 0
    """
    message = f"{name}: expected an int of at least {at_least}, got {value!r}"
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputTypeError(message)
    if value < at_least:
        raise InputError(message)
    return int(value)


def check_bool(name: str, value: Any) -> bool:
    """True or False; those of numpy are turned into Python's.

    Raises:
        InputTypeError: (a ValueError and a TypeError) anything else, such as the string "false", which counts as true.

    Example:
        >>> check_bool("final_norm", "false")
        Traceback (most recent call last):
        midlayer_embed.errors.InputTypeError: final_norm: expected True or False, got 'false'
    """
    if not isinstance(value, bool) and str(getattr(value, "dtype", None)) != "bool":
        raise InputTypeError(f"{name}: expected True or False, got {value!r}")
    return bool(value)


def check_optional_int(name: str, value: Any, at_least: int) -> int | None:
    """`check_int` for an argument that may be None.

    Raises:
        InputTypeError: (a ValueError and a TypeError) neither an int nor None.
        InputError: (a ValueError) below the bound.

    Example:
        >>> check_optional_int("workers", None, at_least=1) is None
        True
    """
    return None if value is None else check_int(name, value, at_least)


def check_installed(package: str, what: str, extra: str = "select") -> None:
    """Reject what needs a package of an extra that is not installed.

    Args:
        package: Name by which it is imported.
        what: What needs it, for messages.
        extra: The extra of this package that has it.

    Raises:
        InputError: (a ValueError) the message has the command that installs it.

    Example:
        >>> check_installed("no_such_package", "out")
        Traceback (most recent call last):
        midlayer_embed.errors.InputError: out: needs no_such_package; run: pip install 'midlayer-embed[select]'
    """
    if find_spec(package) is None:
        raise InputError(f"{what}: needs {package}; run: pip install 'midlayer-embed[{extra}]'")


def check_above_zero(name: str, value: Any) -> float:
    """Check that an argument is a finite number above 0.

    Raises:
        InputError: (a ValueError) it is not.

    Example:
        >>> check_above_zero("alpha", 2)
        2.0
    """
    if not (isinstance(value, Real) and 0 < float(value) < math.inf):
        raise InputError(f"{name}: expected a finite number above 0, got {value!r}")
    return float(value)


def check_orders(name: str, value: Any) -> tuple[tuple[float, ...], bool]:
    """Check that an argument is a finite number above 0, or a sequence of them.

    Returns:
        The numbers, and whether the argument was a sequence.

    Raises:
        InputError: (a ValueError) a number is not, or there is none.

    Example:
        >>> check_orders("alpha", 2), check_orders("alpha", [0.5, 2])
        (((2.0,), False), ((0.5, 2.0), True))
    """
    several = (isinstance(value, Sequence) and not isinstance(value, str)) or getattr(value, "ndim", 0) == 1
    if several and not len(value):
        raise InputError(f"{name}: expected a finite number above 0, or several, got none")
    return tuple(check_above_zero(name, one) for one in (value if several else [value])), several
