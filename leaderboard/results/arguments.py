"""Checks of arguments about results that are there already. mteb is not imported here."""

from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import user_path


def check_results(results_dir: str | Path) -> None:
    """Reject what is no folder.

    Raises:
        InputError: (a ValueError) there is no such folder.
    """
    if not user_path(results_dir, "results").is_dir():
        raise InputError(f"results: there is no folder {str(results_dir)!r}")
