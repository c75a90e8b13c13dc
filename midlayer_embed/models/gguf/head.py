"""The head of a GGUF file: its fields, and where its tensors are. No weights are read, and nothing is imported for it.

The reader of the package gguf makes numpy views of each part of each token, which takes seconds for a vocabulary, and
decodes what it reads; here all fields stay the bytes that they are.
"""

import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from midlayer_embed.errors import InputError

MAGIC = b"GGUF"
# Types of values, by their numbers in a file: those of a fixed size with their struct formats, strings, arrays.
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
UINT32, STRING, ARRAY = 4, 8, 9
ALIGNMENT_KEY = "general.alignment"
DEFAULT_ALIGNMENT = 32
_VERSIONS = (2, 3)
_WIDTHS = {kind: struct.calcsize(f"<{form}") for kind, form in SCALARS.items()}
# Arrays in arrays are allowed; a file with more levels is damaged.
_DEEPEST = 8


@dataclass(frozen=True)
class Field:
    """A field of a head.

    Attributes:
        key: Its name, such as "llama.block_count".
        kind: The type of its value: a key of `SCALARS`, `STRING` or `ARRAY`.
        start: Where its entry begins in the file, with the key.
        value: Where its value begins, after the type.
        end: Where its entry ends.
    """

    key: str
    kind: int
    start: int
    value: int
    end: int


@dataclass(frozen=True)
class TensorInfo:
    """What a head says about a tensor.

    Attributes:
        name: Its name, such as "blk.0.attn_q.weight".
        shape: Its sizes, the innermost first.
        kind: Number of the type of its weights.
        offset: Where it begins, from `Head.data_start` on.
    """

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class Head:
    """The head of a GGUF file.

    Attributes:
        path: The file.
        version: Version of the format.
        fields: Fields by key, in the order of the file.
        tensors: Tensors in the order of the file.
        alignment: Offsets of tensors are multiples of it.
        data_start: Where the tensors begin in the file.
        content: The bytes of the file up to the tensors.
    """

    path: Path
    version: int
    fields: dict[str, Field]
    tensors: tuple[TensorInfo, ...]
    alignment: int
    data_start: int
    content: bytes = field(repr=False)

    def entry(self, key: str) -> bytes:
        """The bytes of a field: its key, its type and its value."""
        found = self.fields[key]
        return self.content[found.start : found.end]

    def value(self, key: str) -> Any:
        """The value of a field: a number, a bool or a string; None for an array, or if there is no such field."""
        found = self.fields.get(key)
        if found is None or found.kind == ARRAY:
            return None
        if found.kind == STRING:
            return self.content[found.value + 8 : found.end].decode("utf-8", errors="replace")
        return struct.unpack_from(f"<{SCALARS[found.kind]}", self.content, found.value)[0]

    def array(self, key: str) -> tuple[int, int] | None:
        """The type and the number of the items of an array; None if the field is none."""
        found = self.fields.get(key)
        if found is None or found.kind != ARRAY:
            return None
        kind, count = struct.unpack_from("<IQ", self.content, found.value)
        return kind, count

    @property
    def architecture(self) -> str | None:
        """The architecture by its name in llama.cpp, such as "llama"."""
        found = self.value("general.architecture")
        return found if isinstance(found, str) else None

    @property
    def n_blocks(self) -> int | None:
        """L, the number of blocks; None if the file does not say."""
        found = self.value(f"{self.architecture}.block_count")
        return found if isinstance(found, int) and not isinstance(found, bool) else None


def read_head(path: Path) -> Head:
    """Read the head of a GGUF file.

    Args:
        path: The file.

    Raises:
        InputError: (a ValueError) not a GGUF file of version 2 or 3, big-endian, or damaged.
        OSError: it cannot be read.

    Example:
        >>> read_head(starter_gguf()).n_blocks                                           # doctest: +SKIP
        30
    """
    with path.open("rb") as file:
        if file.read(4) != MAGIC:
            raise InputError(f"{path} is no GGUF file: it does not begin with {MAGIC.decode()}")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                return _Parser(data).head(path)
            except (struct.error, KeyError, UnicodeDecodeError, OverflowError, IndexError) as error:
                raise InputError(f"{path} is damaged: its head cannot be read to the end") from error


class _Parser:
    def __init__(self, data: mmap.mmap) -> None:
        self._data, self._at = data, 4

    def head(self, path: Path) -> Head:
        (version,) = self._unpack("I")
        if version & 0xFFFF == 0:
            raise InputError(f"{path} is big-endian, for other machines; expected a little-endian GGUF file")
        if version not in _VERSIONS:
            raise InputError(f"{path} is of version {version} of GGUF; expected {' or '.join(map(str, _VERSIONS))}")
        n_tensors, n_fields = self._unpack("QQ")
        fields: dict[str, Field] = {}
        for _ in range(n_fields):
            found = self._field()
            if found.key in fields:
                raise InputError(f"{path} is damaged: it has two fields {found.key}")
            fields[found.key] = found
        tensors = tuple(self._tensor() for _ in range(n_tensors))
        if len({tensor.name for tensor in tensors}) < len(tensors):
            raise InputError(f"{path} is damaged: it has two tensors of one name")
        alignment = self._alignment(path, fields)
        data_start = -(-self._at // alignment) * alignment
        return Head(path, version, fields, tensors, alignment, data_start, self._data[: self._at])

    def _alignment(self, path: Path, fields: dict[str, Field]) -> int:
        if ALIGNMENT_KEY not in fields:
            return DEFAULT_ALIGNMENT
        found = fields[ALIGNMENT_KEY]
        value = struct.unpack_from("<I", self._data, found.value)[0] if found.kind == UINT32 else 0
        if value == 0 or value & (value - 1):
            raise InputError(f"{path} is damaged: {ALIGNMENT_KEY} is no power of two")
        return int(value)

    def _field(self) -> Field:
        start = self._at
        key = self._string().decode("utf-8")
        (kind,) = self._unpack("I")
        value = self._at
        self._skip(kind, 0)
        return Field(key, kind, start, value, self._at)

    def _tensor(self) -> TensorInfo:
        name = self._string().decode("utf-8")
        (n_dims,) = self._unpack("I")
        if n_dims > 16:
            raise IndexError
        *shape, kind, offset = self._unpack("Q" * n_dims + "IQ")
        return TensorInfo(name, tuple(shape), kind, offset)

    def _unpack(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return found

    def _string(self) -> bytes:
        (length,) = self._unpack("Q")
        self._move(length)
        return self._data[self._at - length : self._at]

    def _move(self, length: int) -> None:
        if length > len(self._data) - self._at:
            raise IndexError
        self._at += length

    def _skip(self, kind: int, depth: int) -> None:
        """Pass over a value."""
        if kind == STRING:
            self._move(self._unpack("Q")[0])
        elif kind == ARRAY:
            item, count = self._unpack("IQ")
            if item == STRING:
                self._skip_strings(count)
            elif item == ARRAY:
                if depth == _DEEPEST:
                    raise IndexError
                for _ in range(count):
                    self._skip(item, depth + 1)
            else:
                self._move(count * _WIDTHS[item])
        else:
            self._move(_WIDTHS[kind])

    def _skip_strings(self, count: int) -> None:
        """Pass over the strings of an array: a vocabulary has hundreds of thousands."""
        length_at, data, at = struct.Struct("<Q").unpack_from, self._data, self._at
        for _ in range(count):
            at += 8 + length_at(data, at)[0]
        if at > len(data):
            raise IndexError
        self._at = at
