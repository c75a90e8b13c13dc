"""What of a GGUF file stays in a cut and what changes about it; how it is written, and compared with the source."""

import math
import mmap
import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from midlayer_embed import __version__
from midlayer_embed.encoder.serve.gguf_architectures import HEAD, needs_head
from midlayer_embed.encoder.target import ExportFailed
from midlayer_embed.errors import InputError
from midlayer_embed.models.gguf.head import ARRAY, MAGIC, SCALARS, STRING, UINT32, Head, TensorInfo, read_head

# Poolings of llama.cpp, by the numbers that it gives them in a file.
POOLING_TYPES = {"mean": 1, "cls": 2, "lasttoken": 3}
# What this package says in a file is under its own name.
_RECORD = "midlayer_embed"
_OF_BLOCK = re.compile(r"blk\.(\d+)\.")
# Arrays of an architecture that are of no blocks, however many items they have.
_NOT_OF_BLOCKS = ("rope.dimension_sections", "classifier.output_labels")
_CHUNK = 1 << 24


class Cut:
    """What of a file stays, and what is changed about it.

    Args:
        head: The head of the file.
        layer: The number of blocks that stay.
        pooling_mode: A key of `POOLING_TYPES`; None: the file's own, else the mean.

    Attributes:
        head: The head of the file.
        layer: The number of blocks that stay.
        n_blocks: The number of blocks of the file.
        pooling_mode: A key of `POOLING_TYPES`.
        left_out: Names of tensors that are of no block and are left out.
    """

    def __init__(self, head: Head, layer: int, pooling_mode: str | None) -> None:
        self.head, self.layer = head, layer
        self.n_blocks = int(head.n_blocks or 0)
        self.prefix = f"{head.architecture}."
        own = {number: mode for mode, number in POOLING_TYPES.items()}.get(head.value(f"{self.prefix}pooling_type"))
        self.pooling_mode = pooling_mode or own or "mean"
        dropped = () if needs_head(head.architecture) else (HEAD,)
        self.left_out = tuple(tensor.name for tensor in head.tensors if tensor.name in dropped)

    @cached_property
    def tensors(self) -> list[TensorInfo]:
        """The tensors that stay, as they are in the source."""
        kept = (tensor for tensor in self.head.tensors if tensor.name not in self.left_out)
        return [tensor for tensor in kept if (_block(tensor) or 0) < self.layer]

    @cached_property
    def placed(self) -> list[TensorInfo]:
        """The tensors that stay, with their places in the new file."""
        placed, at = [], 0
        for tensor in self.tensors:
            placed.append(replace(tensor, offset=at))
            at += _padded(_n_bytes(tensor), self.head.alignment)
        return placed

    def check_is_whole(self) -> int:
        """Check that the source has all that stays, and tell how many bytes that is.

        Raises:
            InputError: (a ValueError) a block is missing, or the file ends before a tensor does.
        """
        blocks = {block for tensor in self.head.tensors if (block := _block(tensor)) is not None}
        if blocks != set(range(self.n_blocks)):
            raise InputError(
                f"model: {self.head.path} says that it has {self.n_blocks} blocks; its tensors are of {len(blocks)}"
            )
        size = self.head.path.stat().st_size
        for tensor in self.tensors:
            if tensor.offset % self.head.alignment or self.head.data_start + tensor.offset + _n_bytes(tensor) > size:
                raise InputError(f"model: {self.head.path} is damaged: it does not hold {tensor.name}")
        return sum(map(_n_bytes, self.tensors))

    def names(self, model_name: str | None) -> dict[str, Any]:
        """The record of what was cut. Of a file that was cut before, the layer is one of the whole model."""
        of_record = self.head.value(f"{_RECORD}.n_blocks")
        whole = of_record if isinstance(of_record, int) else self.n_blocks
        name = self.head.value(f"{_RECORD}.name") or self.head.value("general.name") or self.head.path.stem
        return {
            "version": __version__,
            "name": model_name or name,
            "layer": self.layer,
            "n_blocks": whole,
            "source": self.head.path.name,
        }

    def entries(self, record: dict[str, Any]) -> list[bytes]:
        """The fields of the new file, as bytes."""
        new = {
            f"{self.prefix}block_count": self.layer,
            f"{self.prefix}pooling_type": POOLING_TYPES[self.pooling_mode],
            "general.name": f"{record['name']}, layer {self.layer} of {record['n_blocks']}",
            **{f"{_RECORD}.{key}": value for key, value in record.items()},
        }
        kept = [key for key in self.head.fields if key in new or not key.startswith(f"{_RECORD}.")]
        changed = [_entry(key, new.pop(key)) if key in new else self._entry_of(key) for key in kept]
        return changed + [_entry(key, value) for key, value in new.items()]

    def _entry_of(self, key: str) -> bytes:
        """A field as it is in the source; of an array with an item for each block, the items of those that stay."""
        array, name = self.head.array(key), key.removeprefix(self.prefix)
        is_of_blocks = array is not None and array[1] == self.n_blocks and array[0] not in (STRING, ARRAY)
        if not (is_of_blocks and key.startswith(self.prefix)) or name in _NOT_OF_BLOCKS:
            return self.head.entry(key)
        found, kind = self.head.fields[key], array[0] if array else 0
        items = found.value + struct.calcsize("<IQ")
        end = items + self.layer * struct.calcsize(f"<{SCALARS[kind]}")
        return (
            self.head.content[found.start : found.value]
            + struct.pack("<IQ", kind, self.layer)
            + self.head.content[items:end]
        )


def _block(tensor: TensorInfo) -> int | None:
    found = _OF_BLOCK.match(tensor.name)
    return int(found[1]) if found else None


def _n_bytes(tensor: TensorInfo) -> int:
    """The number of bytes of a tensor."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    try:
        in_block, of_block = GGML_QUANT_SIZES[GGMLQuantizationType(tensor.kind)]
    except (ValueError, KeyError):
        raise InputError(
            f"model: {tensor.name} is of type {tensor.kind}, which the package gguf does not know; a newer one may"
        ) from None
    return math.prod(tensor.shape) // in_block * of_block


def _padded(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _string(text: str) -> bytes:
    encoded = text.encode("utf-8")
    return struct.pack("<Q", len(encoded)) + encoded


def _entry(key: str, value: int | str) -> bytes:
    if isinstance(value, str):
        return _string(key) + struct.pack("<I", STRING) + _string(value)
    return _string(key) + struct.pack("<II", UINT32, value)


@contextmanager
def _mapped(path: Path) -> Iterator[memoryview]:
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
        memoryview(data) as view,
    ):
        yield view


def write_cut(path: Path, cut: Cut, entries: list[bytes], update: Callable[[int], object]) -> None:
    """Write a cut.

    Args:
        path: A path where nothing is.
        cut: What stays.
        entries: Its fields, as `Cut.entries` gives them.
        update: Function that is called with the number of bytes of each chunk.
    """
    head, placed = cut.head, cut.placed
    with _mapped(head.path) as data, path.open("xb") as file:
        file.write(MAGIC + struct.pack("<IQQ", head.version, len(placed), len(entries)))
        file.writelines(entries)
        for tensor in placed:
            sizes = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
            file.write(_string(tensor.name) + sizes + struct.pack("<IQ", tensor.kind, tensor.offset))
        _pad(file, head.alignment)
        for tensor in cut.tensors:
            start, size = head.data_start + tensor.offset, _n_bytes(tensor)
            for at in range(0, size, _CHUNK):
                with data[start + at : start + min(size, at + _CHUNK)] as chunk:
                    file.write(chunk)
                    update(len(chunk))
            _pad(file, head.alignment)


def _pad(file: Any, alignment: int) -> None:
    file.write(bytes(-file.tell() % alignment))


def compare_cut(path: Path, cut: Cut, entries: list[bytes], update: Callable[[int], object]) -> None:
    """Read a file again, and compare each field and each tensor's bytes with what they should be.

    Raises:
        ExportFailed: (a RuntimeError) they are others.
    """
    try:
        found = read_head(path)
    except InputError as error:
        raise ExportFailed(f"export: what was written cannot be read: {error}") from error
    if [found.entry(key) for key in found.fields] != entries or list(found.tensors) != cut.placed:
        raise ExportFailed("export: the head that was written is read as another one")
    with _mapped(cut.head.path) as source, _mapped(path) as written:
        for old, new in zip(cut.tensors, cut.placed, strict=True):
            start, to, size = cut.head.data_start + old.offset, found.data_start + new.offset, _n_bytes(old)
            for at in range(0, size, _CHUNK):
                end = min(size, at + _CHUNK)
                with (
                    source[start + at : start + end] as expected,
                    written[to + at : to + end] as got,
                ):
                    if got != expected:
                        raise ExportFailed(f"export: {new.name} was written with other bytes")
                    update(end - at)
