"""Folders of images: which files there are, and their labels. No image is read, and nothing slow is imported."""

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import user_path

# Ends of the names of files that count as images, in any case of letters.
EXTENSIONS = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
    *(".jp2", ".ppm", ".pgm", ".pbm", ".ico"),
)
# Columns of a file of labels: those of the datasets library, and what others call them.
_FILE_COLUMNS = ("file_name", "file", "path", "image")
_LABEL_COLUMN = "label"


def images_in(folder: str | Path, argument: str = "images") -> list[Path]:
    """The images of a folder and of the folders in it, in the order of their paths.

    Files count by the end of their names (`EXTENSIONS`). Hidden files and folders are left out, and so is __MACOSX.

    Args:
        folder: A folder.
        argument: Name of the argument, for messages.

    Returns:
        Their paths, each of which starts with the folder.

    Raises:
        InputError: (a ValueError) not a folder, or one without images.

    Example:
        >>> import tempfile
        >>> images_in(tempfile.mkdtemp())     # doctest: +ELLIPSIS
        Traceback (most recent call last):
        midlayer_embed.errors.InputError: images: ... holds no image; expected files that end in .png, .jpg, ...
    """
    root = user_path(folder, argument)
    if not root.exists():
        raise InputError(f"{argument}: {folder} does not exist; expected a folder of images")
    if not root.is_dir():
        raise InputError(f"{argument}: {folder} is a file; expected a folder of images")
    found = sorted(_files(root, argument), key=lambda path: path.relative_to(root).parts)
    if not found:
        raise InputError(f"{argument}: {folder} holds no image; expected files that end in {', '.join(EXTENSIONS)}")
    return found


def row_names(folder: Path, images: Sequence[Path]) -> list[str]:
    """What rows of images are called in files: their paths inside of the folder, with `/` on every system.

    Example:
        >>> row_names(Path("/photos"), [Path("/photos/cat/1.png")])
        ['cat/1.png']
    """
    return [path.relative_to(folder).as_posix() for path in images]


def labels_by_folder(folder: str | Path, images: Sequence[Path], argument: str = "labels") -> list[str]:
    """The label of every image: the name of the folder that it is in, inside of `folder`.

    Args:
        folder: The folder that `images_in` was given.
        images: Paths from `images_in`.
        argument: Name of the argument, for messages.

    Raises:
        InputError: (a ValueError) an image is in `folder` itself, so it has no label.
    """
    root = user_path(folder, argument)
    labels = []
    for path in images:
        parts = path.relative_to(root).parts
        if len(parts) < 2:
            raise InputError(f"{argument}: {path} is in no folder of its class; expected {folder}/<class>/{path.name}")
        labels.append(parts[0])
    return labels


def labels_from_csv(
    file: str | Path, folder: str | Path, images: Sequence[Path], argument: str = "labels"
) -> list[str]:
    """The label of every image, from a .csv file with the columns `file_name` and `label`.

    Args:
        file: The file; paths in it are relative to the folder. The first column may also be called file, path or image.
        folder: The folder that `images_in` was given.
        images: Paths from `images_in`.
        argument: Name of the argument, for messages.

    Raises:
        InputError: (a ValueError) the file cannot be read or lacks a column; an image has no label, or two; or a row
            names no image.
    """
    root, path = user_path(folder, argument), user_path(file, argument)
    labels: dict[str, str] = {}
    names = row_names(root, images)
    known = set(names)
    for number, (name, label) in enumerate(_rows(path, argument), start=1):
        name = Path(name).as_posix()
        if name not in known:
            raise InputError(f"{argument}: {path}, row {number}: {name} is no image of {folder}")
        if not label:
            raise InputError(f"{argument}: {path}, row {number}: {name} has no label")
        if labels.setdefault(name, label) != label:
            raise InputError(f"{argument}: {path}, row {number}: {name} has two labels, {labels[name]} and {label}")
    for name in names:
        if name not in labels:
            raise InputError(f"{argument}: {path} has no label of {name}")
    return [labels[name] for name in names]


def _rows(path: Path, argument: str) -> Iterator[tuple[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            columns = list(rows.fieldnames or ())
            named = next((column for column in _FILE_COLUMNS if column in columns), None)
            if named is None or _LABEL_COLUMN not in columns:
                raise InputError(
                    f"{argument}: expected the columns {_FILE_COLUMNS[0]} and {_LABEL_COLUMN} in {path}, "
                    f"got {', '.join(columns) or 'none'}"
                )
            for row in rows:
                yield row[named] or "", row[_LABEL_COLUMN] or ""
    except OSError as error:
        raise InputError(f"{argument}: {path} cannot be read: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{argument}: {path} is not a CSV file in UTF-8: {error}") from None


def _files(root: Path, argument: str) -> Iterator[Path]:
    """Files that count as images. Links to folders are followed, each folder once."""
    entered = set()

    def fail(error: OSError) -> None:
        raise InputError(f"{argument}: {error.filename} cannot be read: {error.strerror}")

    for place, folders, files in os.walk(root, onerror=fail, followlinks=True):
        real = os.path.realpath(place)
        if real in entered:
            folders.clear()
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for name in files:
            if not name.startswith(".") and name.lower().endswith(EXTENSIONS):
                yield Path(place, name)
