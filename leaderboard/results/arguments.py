"""Checks of arguments about results that are there already. mteb is not imported here."""

import os
from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import user_path


def check_results(results_dir: str | Path) -> None:
    """Reject what is no folder, and a folder that cannot be read.

    Raises:
        InputError: (a ValueError) the message says which.
    """
    folder = user_path(results_dir, "results")
    if not folder.is_dir():
        raise InputError(f"results: there is no folder {str(results_dir)!r}")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise InputError(f"results: the folder {str(results_dir)!r} cannot be read: Permission denied")
