"""How long a process may give no sign of life before its work is taken up by others."""

from midlayer_embed.errors import InputError
from midlayer_embed.sharing.life import BEAT


def check_expiry(expiry: float) -> float:
    """Checks the number of seconds without a sign of life.

    Raises:
        InputError: (a ValueError) not a number of at least 1.

    Example:
        >>> check_expiry(60)
        60.0
    """
    if isinstance(expiry, bool) or not isinstance(expiry, (int, float)) or not 1 <= expiry < float("inf"):
        raise InputError(f"expiry: expected a number of seconds, at least 1, got {expiry!r}")
    return float(expiry)


def beat_of(expiry: float) -> float:
    """Seconds between two signs of life of a worker."""
    return min(BEAT, expiry / 4)
