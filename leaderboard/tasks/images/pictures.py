"""Images in the tables of a task as pictures: their keys are made from the encoded bytes, nothing is decoded.

A picture knows its place in a table instead of its bytes: tables are on the disk, and may be larger than the memory.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

from datasets import Dataset, Image
from datasets.utils.file_utils import xopen

from midlayer_embed.errors import InputError
from midlayer_embed.images.pictures import Picture

if TYPE_CHECKING:
    from PIL.Image import Image as Pillow

# Rows that are read at a time.
_ROWS = 64


@dataclass(frozen=True)
class Cell:
    """Where an encoded image stands in the data of a task.

    Attributes:
        rows: A table with its column alone, not decoded.
        where: The keys that lead to the table in the data of the task: subset, split, name of the table.
        column: Name of the column.
        row: Index of the row.
    """

    rows: Dataset
    where: tuple[str, ...]
    column: str
    row: int

    def pil(self) -> "Pillow":
        """The image in RGB, read from its table."""
        name = str(self)
        return Picture("", name, _encoded(self.rows[self.row][self.column], name)).pil()

    def __str__(self) -> str:
        return f"{'/'.join((*self.where, self.column))}[{self.row}]"


def image_columns(table: Dataset) -> list[str]:
    """The columns of a table that hold images."""
    return [name for name, feature in table.features.items() if isinstance(feature, Image)]


def not_decoded(table: Dataset) -> Dataset:
    """The table with encoded images: dicts with bytes and path."""
    for name in image_columns(table):
        table = table.cast_column(name, Image(decode=False))
    return table


def pictures_in(
    table: Dataset, column: str, where: tuple[str, ...] = (), rows: Sequence[int] | None = None
) -> list[Picture]:
    """The pictures of a column of images.

    Args:
        table: The table.
        column: Name of the column.
        where: The keys that lead to the table in the data of its task.
        rows: Indices of rows; None for all.

    Raises:
        InputError: (a ValueError) a row without an image; the message names it.
    """
    images = not_decoded(table.select_columns([column])).with_format(None)
    numbers = range(len(images)) if rows is None else rows
    found = []
    for start in range(0, len(numbers), _ROWS):
        some = numbers[start : start + _ROWS]
        for row, value in zip(some, images[list(some)][column], strict=True):
            cell = Cell(images, where, column, int(row))
            key = hashlib.sha256(_encoded(value, str(cell))).hexdigest()
            found.append(Picture(key, str(cell), cell))
    return found


def _encoded(value: Mapping[str, Any] | None, name: str) -> bytes:
    """The encoded image of a value that is not decoded."""
    if value is not None and value.get("bytes") is not None:
        return bytes(value["bytes"])
    if value is None or value.get("path") is None:
        raise InputError(f"{name}: expected an image, got none")
    with xopen(str(value["path"]), "rb") as file:  # of a file, or of a member of an archive
        return bytes(file.read())


def picture_to_json(picture: Picture) -> dict[str, Any]:
    """What `Shelf` makes the picture of again: its key and its place, or its pixels if it has none."""
    if isinstance(picture.source, Cell):
        cell = picture.source
        return {**picture.to_json(), "at": [list(cell.where), cell.column, cell.row]}
    pixels = BytesIO()
    picture.pil().save(pixels, format="PNG")
    return {**picture.to_json(), "name": picture.name, "png": base64.b64encode(pixels.getvalue()).decode()}


class Shelf:
    """Gives the pictures of a task's data that were written as JSON.

    Args:
        data: The data of the task, in the same order as when the pictures were written.

    Example:
        >>> from PIL import Image
        >>> picture = Picture("0af3", "one.png", Image.new("RGB", (2, 2)))
        >>> Shelf({}).picture(picture_to_json(picture)) == picture
        True
    """

    def __init__(self, data: Any) -> None:
        self._data = data
        self._columns: dict[tuple[str, ...], Dataset] = {}

    def picture(self, loaded: Mapping[str, Any]) -> Picture:
        """The picture of what `picture_to_json` gave; of a key alone, a picture that can only be looked up."""
        if "at" not in loaded and "png" not in loaded:
            return Picture(loaded["image"], "", b"")
        if "png" in loaded:
            return Picture(loaded["image"], loaded["name"], base64.b64decode(loaded["png"]))
        where, column, row = loaded["at"]
        place = (*where, column)
        if place not in self._columns:
            table = self._data
            for key in where:
                table = table[key]
            self._columns[place] = not_decoded(table.select_columns([column])).with_format(None)
        cell = Cell(self._columns[place], tuple(where), column, row)
        return Picture(loaded["image"], str(cell), cell)
