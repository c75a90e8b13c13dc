import json
import struct
from pathlib import Path

import pytest

from midlayer_embed.cli.glance import n_blocks_at_a_glance
from midlayer_embed.models.checkpoint import find_checkpoint


def test_a_glance_never_contradicts_the_config(any_folder: Path) -> None:
    assert n_blocks_at_a_glance(str(any_folder)) in (find_checkpoint(any_folder).n_blocks, None)


def test_a_glance_tells_the_usual_models(llama_folder: Path) -> None:
    assert n_blocks_at_a_glance(str(llama_folder)) == 3


def test_a_path_is_the_users(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(llama_folder.parent))
    monkeypatch.chdir(llama_folder.parent)
    for path in (f"~/{llama_folder.name}", llama_folder.name, f"./{llama_folder.name}/"):
        assert n_blocks_at_a_glance(path) == 3


@pytest.mark.parametrize(
    "config",
    [
        "",
        "[]",
        "{",
        json.dumps({"num_hidden_layers": "3"}),
        json.dumps({"num_hidden_layers": 3, "n_layer": 4}),
        json.dumps({"num_hidden_layers": 3, "auto_map": {"AutoConfig": "own.Config"}}),
        json.dumps({"text_config": {"num_hidden_layers": 3}}),
    ],
)
def test_what_is_not_plain_is_left_to_the_config_class(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    assert n_blocks_at_a_glance(str(tmp_path)) is None


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def test_the_head_of_a_gguf_file_is_read(tmp_path: Path) -> None:
    entries = [
        _string(b"general.architecture") + struct.pack("<I", 8) + _string(b"llama"),
        _string(b"general.version") + struct.pack("<If", 6, 1.5),
        _string(b"tokenizer.tokens") + struct.pack("<IIQ", 9, 8, 2) + _string(b"a") + _string(b"block_count"),
        _string(b"tokenizer.scores") + struct.pack("<IIQ3d", 9, 12, 3, 1.0, 2.0, 3.0),
        _string(b"llama.block_count") + struct.pack("<II", 4, 7),
    ]
    whole = struct.pack("<4sIQQ", b"GGUF", 3, 0, len(entries)) + b"".join(entries)
    (tmp_path / "a.gguf").write_bytes(whole)
    assert n_blocks_at_a_glance(str(tmp_path), "a.gguf") == 7
    for cut in (b"", whole[:10], whole[:-3], b"GGML" + whole[4:]):
        (tmp_path / "b.gguf").write_bytes(cut)
        assert n_blocks_at_a_glance(str(tmp_path), "b.gguf") is None
