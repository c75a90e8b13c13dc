"""The folder of an export, checked before any work is done and before anything slow is imported."""

from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import target_folder


def check_target(folder: str | Path, *, overwrite: bool) -> Path:
    """The path of the folder to save to, checked before any work is done.

    Raises:
        InputError: (a ValueError) a file, a folder that cannot be written, or one that is not empty if `overwrite` is
            not set.
    """
    target = target_folder(folder, "export")
    if not overwrite and target.is_dir() and any(target.iterdir()):
        raise InputError(f"export: the folder {folder} is not empty; overwrite (--overwrite) replaces its contents")
    return target
