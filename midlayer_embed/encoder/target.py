"""The folder of an export, checked before any work is done and before anything slow is imported."""

from pathlib import Path

from midlayer_embed.errors import InputError


def check_target(folder: Path, *, overwrite: bool) -> None:
    """Reject a folder that must not be written to, before any work is done.

    Raises:
        InputError: (a ValueError) a file, or a folder that is not empty if `overwrite` is not set.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"export: {folder} is a file; expected an empty folder or a new one")
    if not overwrite and folder.is_dir() and any(folder.iterdir()):
        raise InputError(f"export: the folder {folder} is not empty; overwrite (--overwrite) replaces its contents")
