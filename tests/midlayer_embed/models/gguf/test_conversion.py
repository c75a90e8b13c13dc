"""How a GGUF file says that its weights are quantised."""

import json
from pathlib import Path

import numpy as np
import pytest

from midlayer_embed.models.gguf.conversion import (
    GGUF_RECORD,
    _record_types,
    quantization_of,
    said_of_types,
    weight_types,
)


@pytest.fixture
def gguf_file(tmp_path: Path) -> Path:
    """A file with metadata of every kind, two matrices of Q4_1, one of Q8_0 and a vector of float32."""
    gguf = pytest.importorskip("gguf")
    path = tmp_path / "m.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("tokenizer.ggml.tokens", ["a", "bc", "<s>"])
    writer.add_array("numbers", [1, 2, 3])
    writer.add_float32("real", 0.5)
    writer.add_bool("truth", True)
    for name, kind in {"a": "Q4_1", "b": "Q4_1", "c": "Q8_0"}.items():
        kind = gguf.GGMLQuantizationType[kind]
        writer.add_tensor(name, gguf.quants.quantize(np.ones((4, 64), dtype=np.float32), kind), raw_dtype=kind)
    writer.add_tensor("norm", np.ones(4096, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_types_of_the_matrices_are_read_from_the_header(gguf_file: Path) -> None:
    assert weight_types(gguf_file) == ["Q4_1", "Q8_0"]


@pytest.mark.parametrize("size", [0, 3, 20, 60, 200])
def test_a_file_that_is_cut_has_no_types(gguf_file: Path, size: int) -> None:
    gguf_file.write_bytes(gguf_file.read_bytes()[:size])
    assert weight_types(gguf_file) == []


@pytest.mark.parametrize(
    ("types", "said"),
    [
        ([], None),
        (["F32"], None),
        (["Q8_0"], "8-bit (GGUF Q8_0)"),
        (["IQ4_XS", "Q5_K", "F32"], "4-bit (GGUF IQ4_XS, parts in Q5_K, F32)"),
        (["BF16"], "GGUF BF16"),
        (["type 99"], "GGUF type 99"),
    ],
)
def test_they_are_put_in_words(types: list[str], said: str | None) -> None:
    assert said_of_types(types) == said


def test_a_folder_converted_by_an_older_version_learns_the_types(gguf_file: Path, tmp_path: Path) -> None:
    record = tmp_path / GGUF_RECORD
    record.write_text(json.dumps({"gguf": "m.gguf", "files": {}}))
    assert quantization_of(tmp_path) is None
    _record_types(gguf_file, record)
    assert quantization_of(tmp_path) == "4-bit (GGUF Q4_1, parts in Q8_0)"
    assert json.loads(record.read_text())["gguf"] == "m.gguf"
