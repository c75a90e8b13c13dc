"""Checks of arguments about results that are there already. mteb is not imported here."""

from pathlib import Path

from leaderboard.storage.opening import open_storage


def check_results(results_dir: str | Path) -> None:
    """Reject what is no folder, and a folder that cannot be read.

    Raises:
        InputError: (a ValueError) the message says which.
    """
    open_storage(results_dir).check_readable()
