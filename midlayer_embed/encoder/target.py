"""The folder of an export, checked before any work is done and before anything slow is imported; and how one fails."""

from collections.abc import Iterable
from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import followed, target_folder, user_path


class ExportFailed(RuntimeError):
    """The folder or file that was written is not what was to be written; it is removed again."""


def check_target(folder: str | Path, *, overwrite: bool, needed: Iterable[str | Path] = ()) -> Path:
    """The path of the folder to save to, checked before any work is done.

    Args:
        folder: The folder.
        overwrite: Whether its contents may be replaced.
        needed: What must not be removed with them: the model, its adapters, the texts. Names of what is no file or
            folder, such as Hub ids, are passed over.

    Raises:
        InputError: (a ValueError) a file, a folder that cannot be written, one that is not empty if `overwrite` is not
            set, or one that holds what is needed, the home folder or, further down, the working directory.
    """
    target = target_folder(folder, "export")
    if not target.is_dir() or not any(target.iterdir()):
        return target
    if not overwrite:
        raise InputError(f"export: the folder {folder} is not empty; overwrite (--overwrite) replaces its contents")
    real, here = followed(target), followed(Path.cwd())
    kept = {str(path): followed(user_path(path)) for path in (*needed, Path.home())}
    if here != real:  # a shell may be in the folder itself, which stays
        kept["the working directory"] = here
    for name, place in kept.items():
        if place.exists() and place.is_relative_to(real):
            raise InputError(f"export: the folder {folder} holds {name}, which overwrite (--overwrite) would remove")
    return target
