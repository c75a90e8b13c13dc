"""Reads from the header of a GGUF file how its weights are quantised, without the gguf package and without weights."""

import math
import struct
from collections import Counter
from pathlib import Path
from typing import BinaryIO

# Names of the types of tensors, as in the GGUF specification.
_TYPES = {
    **{0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1", 10: "Q2_K", 11: "Q3_K"},
    **{12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS", 17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S"},
    **{20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S", 23: "IQ4_XS", 28: "F64", 29: "IQ1_M", 30: "BF16", 34: "TQ1_0"},
    **{35: "TQ2_0", 39: "MXFP4"},
}
# struct formats of the values of metadata, by type; strings and arrays have their own numbers.
_PLAIN = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


def weight_types(path: Path) -> list[str]:
    """The types of the matrices in a GGUF file, such as ["Q4_1", "Q8_0"], that of the most weights first.

    Returns:
        Names of types; empty if the file cannot be read as GGUF.
    """
    counted: Counter[str] = Counter()
    try:
        with path.open("rb") as file:
            if file.read(4) != b"GGUF":
                return []
            _, n_tensors, n_entries = _read(file, "IQQ")
            for _ in range(n_entries):
                _skip(file, _STRING)
                _skip(file, *_read(file, "I"))
            for _ in range(n_tensors):
                _skip(file, _STRING)
                (n_dims,) = _read(file, "I")
                shape = _read(file, "Q" * n_dims)
                kind, _ = _read(file, "IQ")
                if n_dims > 1:
                    counted[_TYPES.get(kind, f"type {kind}")] += math.prod(shape)
    except (OSError, struct.error, KeyError, OverflowError, MemoryError):
        return []
    return [name for name, _ in counted.most_common()]


def said_of_types(types: list[str]) -> str | None:
    """The quantisation in words; None for weights in full precision, or if it is not known.

    Example:
        >>> said_of_types(["Q4_1", "Q8_0"]), said_of_types(["F16"]), said_of_types(["F32"])
        ('4-bit (GGUF Q4_1, parts in Q8_0)', 'GGUF F16', None)
    """
    if not types or set(types) <= {"F32", "F64"}:
        return None
    main, *others = types
    parts = f", parts in {', '.join(others)}" if others else ""
    bits = next((letter for letter in main if letter.isdigit()), "")
    return f"GGUF {main}{parts}" if main.startswith(("F", "BF", "type")) else f"{bits}-bit (GGUF {main}{parts})"


def _read(file: BinaryIO, form: str) -> tuple[int, ...]:
    return struct.unpack(f"<{form}", file.read(struct.calcsize(f"<{form}")))


def _skip(file: BinaryIO, kind: int) -> None:
    """Skips a value of metadata."""
    if kind == _STRING:
        (length,) = _read(file, "Q")
        file.seek(length, 1)
    elif kind == _ARRAY:
        of, count = _read(file, "IQ")
        if of in _PLAIN:
            file.seek(count * struct.calcsize(_PLAIN[of]), 1)
        else:
            for _ in range(count):
                _skip(file, of)
    else:
        file.seek(struct.calcsize(_PLAIN[kind]), 1)
