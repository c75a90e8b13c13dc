"""Files that are cut, compared with what the package gguf reads in them and in their sources."""

import struct
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gguf", reason="the gguf extra is not installed")

from support.gguf.tiny import ARCHITECTURES, fields_of, tensors_of, tiny_gguf

from midlayer_embed import __version__
from midlayer_embed.encoder.serve import gguf_cut
from midlayer_embed.encoder.serve.gguf_cut import export_gguf
from midlayer_embed.encoder.target import ExportFailed
from midlayer_embed.ground.whole_files import file_sha256
from midlayer_embed.selection.criteria import LayerSelection

_RECORD = "midlayer_embed."


def _kept(path: Path, layer: int, left_out: tuple[str, ...] = ()) -> dict[str, Any]:
    """What of a file's tensors stays, told the plain way."""
    above = [f"blk.{block}." for block in range(layer, 100)]
    return {
        name: tensor
        for name, tensor in tensors_of(path).items()
        if name not in left_out and not any(name.startswith(block) for block in above)
    }


def _others(fields: dict[str, Any], *changed: str) -> dict[str, Any]:
    """Fields that are neither changed nor our record."""
    return {key: value for key, value in fields.items() if key not in changed and not key.startswith(_RECORD)}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_but_the_blocks_above_keeps_its_bytes(tmp_path: Path, architecture: str) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf", architecture)
    changed = ("general.name", f"{architecture}.block_count", f"{architecture}.pooling_type")
    for layer in (1, 2, 3):
        cut = export_gguf(source, tmp_path / "out" / f"{layer}.gguf", layer)
        assert (cut.layer, cut.n_blocks, cut.n_bytes) == (layer, 3, cut.path.stat().st_size)
        assert tensors_of(cut.path) == _kept(source, layer)
        fields = fields_of(cut.path)
        assert _others(fields, *changed) == _others(fields_of(source), *changed)
        assert list(_others(fields, *changed)) == list(_others(fields_of(source), *changed))
        assert [fields[key][1] for key in changed] == [f"Tiny, layer {layer} of 3", layer, 1]


@pytest.mark.parametrize(
    "kind", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q4_K", "Q6_K", "Q8_K"]
)
def test_weights_of_every_type_keep_their_bytes(tmp_path: Path, kind: str) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf", kind=kind)
    export_gguf(source, tmp_path / "out.gguf", 2)
    written = tensors_of(tmp_path / "out.gguf")
    assert written == _kept(source, 2)
    assert {kind for kind, shape, _ in written.values() if len(shape) > 1} == {kind}


def test_arrays_with_an_item_for_each_block_lose_those_above(tmp_path: Path) -> None:
    arrays = {
        "gemma3.attention.head_count_kv": [4, 4, 2, 1],
        "gemma3.feed_forward_length": [64, 32, 64, 32],
        "gemma3.attention.sliding_window_pattern": [True, False, True, True],
        "gemma3.scales": [0.5, 0.25, 0.125, 2.0],
        # those that are of no blocks
        "gemma3.rope.dimension_sections": [8, 8, 8, 0],
        "gemma3.classifier.output_labels": ["a", "b", "c", "d"],
        "gemma3.others": [1, 2, 3],
        "tokenizer.ggml.four": [1, 2, 3, 4],
    }
    source = tiny_gguf(tmp_path / "tiny.gguf", "gemma3", 4, fields=arrays)
    export_gguf(source, tmp_path / "out.gguf", 3)
    before, after = fields_of(source), fields_of(tmp_path / "out.gguf")
    for number, key in enumerate(arrays):
        types, values = before[key]
        assert after[key] == (types, values[:3] if number < 4 else values), key


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_the_alignment_of_the_source_is_kept(tmp_path: Path, alignment: int) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf", alignment=alignment)
    export_gguf(source, tmp_path / "out.gguf", 1)
    assert tensors_of(tmp_path / "out.gguf") == _kept(source, 1)
    assert fields_of(tmp_path / "out.gguf")["general.alignment"][1] == alignment


def _with_fields(source: Path, out: Path, entries: list[bytes]) -> Path:
    """A copy with more fields, as bytes: the package gguf writes neither empty arrays nor what is no UTF-8."""
    data = source.read_bytes()
    n_fields = struct.unpack_from("<Q", data, 16)[0]
    import gguf

    tensors = gguf.GGUFReader(source)
    start, end = 24, tensors.tensors[0].field.offset
    infos = data[end : sum(part.nbytes for part in tensors.tensors[-1].field.parts) + tensors.tensors[-1].field.offset]
    head = data[:16] + struct.pack("<Q", n_fields + len(entries)) + data[start:end] + b"".join(entries) + infos
    out.write_bytes(head + bytes(-len(head) % 32) + data[int(tensors.data_offset) :])
    return out


def _string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def test_what_the_package_gguf_does_not_write_is_kept_too(tmp_path: Path) -> None:
    strange = [
        _string(b"tokenizer.empty") + struct.pack("<IIQ", 9, 8, 0),
        _string(b"general.nothing") + struct.pack("<I", 8) + _string(b""),
        _string(b"tokenizer.bytes") + struct.pack("<IIQ", 9, 8, 2) + _string(b"\xff\xfe") + _string(b"a"),
        _string(b"general.nested") + struct.pack("<IIQ", 9, 9, 2) + struct.pack("<IQ2I", 4, 2, 1, 2) * 2,
        _string(b"general.double") + struct.pack("<Id", 12, 0.1),
        _string(b"general.minus") + struct.pack("<Iq", 11, -3),
    ]
    source = _with_fields(tiny_gguf(tmp_path / "tiny.gguf"), tmp_path / "strange.gguf", strange)
    assert tensors_of(source) == tensors_of(tmp_path / "tiny.gguf")
    export_gguf(source, tmp_path / "out.gguf", 2)
    written = (tmp_path / "out.gguf").read_bytes()
    assert all(written.count(entry) == 1 for entry in strange)
    assert tensors_of(tmp_path / "out.gguf") == _kept(source, 2)


def test_a_file_of_version_2_stays_one(tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf")
    source.write_bytes(source.read_bytes()[:4] + struct.pack("<I", 2) + source.read_bytes()[8:])
    export_gguf(source, tmp_path / "out.gguf", 2)
    assert (tmp_path / "out.gguf").read_bytes()[4:8] == struct.pack("<I", 2)
    assert tensors_of(tmp_path / "out.gguf") == _kept(source, 2)


@pytest.mark.parametrize(
    ("own", "asked", "written"),
    [
        (None, None, ("mean", 1)),
        (3, None, ("lasttoken", 3)),
        (2, None, ("cls", 2)),
        (0, None, ("mean", 1)),
        (4, None, ("mean", 1)),
        (3, "mean", ("mean", 1)),
        (None, "lasttoken", ("lasttoken", 3)),
        (1, "cls", ("cls", 2)),
    ],
)
def test_the_file_says_how_llama_cpp_pools(
    tmp_path: Path, own: int | None, asked: str | None, written: tuple[str, int]
) -> None:
    fields = {} if own is None else {"llama.pooling_type": own}
    source = tiny_gguf(tmp_path / "tiny.gguf", fields=fields)
    cut = export_gguf(source, tmp_path / "out.gguf", 2, pooling_mode=asked)
    assert (cut.pooling_mode, fields_of(cut.path)["llama.pooling_type"][1]) == written


def test_the_file_says_what_it_was_cut_from(tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "tiny.Q4.gguf")
    export_gguf(source, tmp_path / "out.gguf", 0.7, how_chosen="by hand")
    fields = {key: value for key, (_, value) in fields_of(tmp_path / "out.gguf").items() if key.startswith(_RECORD)}
    assert fields == {
        "midlayer_embed.version": __version__,
        "midlayer_embed.name": "Tiny",
        "midlayer_embed.layer": 2,
        "midlayer_embed.n_blocks": 3,
        "midlayer_embed.source": "tiny.Q4.gguf",
        "midlayer_embed.source_sha256": file_sha256(source),
        "midlayer_embed.how_chosen": "by hand",
    }


def test_a_cut_of_a_cut_is_a_layer_of_the_whole_model(tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf", n_blocks=4)
    export_gguf(source, tmp_path / "three.gguf", 3, model_name="org/mine", how_chosen="by hand")
    cut = export_gguf(tmp_path / "three.gguf", tmp_path / "again.gguf", -2)
    assert (cut.layer, cut.n_blocks) == (2, 3)
    direct = export_gguf(source, tmp_path / "direct.gguf", 2, model_name="org/mine").path
    assert tensors_of(cut.path) == tensors_of(direct)
    again, once = fields_of(cut.path), fields_of(direct)
    assert again["general.name"][1] == "org/mine, layer 2 of 4"
    of_source = ("midlayer_embed.source", "midlayer_embed.source_sha256")
    assert {key: again[key] for key in again if key not in of_source} == {
        key: once[key] for key in once if key not in of_source
    }


@pytest.mark.parametrize(("architecture", "left_out"), [("llama", ("output.weight",)), ("phi2", ())])
def test_the_head_for_next_tokens_goes_where_llama_cpp_loads_without(
    tmp_path: Path, architecture: str, left_out: tuple[str, ...]
) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf", architecture, untied=True)
    cut = export_gguf(source, tmp_path / "out.gguf", 2)
    assert cut.left_out == left_out
    assert tensors_of(cut.path) == _kept(source, 2, left_out)
    assert "output.weight" in tensors_of(source)


def test_a_layer_that_was_chosen_is_cut_to_with_the_reason(tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf")
    chosen = LayerSelection(2, 4, "middle")
    assert export_gguf(source, tmp_path / "out.gguf", chosen).layer == 2
    assert "layer 2" in fields_of(tmp_path / "out.gguf")["midlayer_embed.how_chosen"][1]
    with pytest.raises(ValueError, match="layer: chosen for a model of 9 layers; this one has 4"):
        export_gguf(source, tmp_path / "out.gguf", LayerSelection(2, 9, "middle"), overwrite=True)


# --- What is refused


def _spoilt(tmp_path: Path, change: str) -> Path:
    path = tmp_path / "source" / "tiny.gguf"
    if change in _FILES:
        return tiny_gguf(path, **_FILES[change])
    data = bytearray(tiny_gguf(path).read_bytes())
    if change == "no file":
        data = bytearray(b"GGML") + data[4:]
    elif change == "empty":
        data = bytearray()
    elif change == "big-endian":
        data[4:8] = struct.pack(">I", 3)
    elif change == "version 1":
        data[4:8] = struct.pack("<I", 1)
    elif change == "half a head":
        data = data[:3000]
    elif change == "endless array":
        at = data.index(b"tokenizer.ggml.merges") + len("tokenizer.ggml.merges") + 8
        data[at : at + 8] = struct.pack("<Q", 1 << 60)
    elif change == "two fields of a name":
        at = data.index(b"tokenizer.ggml.bos_token_id")
        data[at : at + len(b"tokenizer.ggml.bos_token_id")] = b"tokenizer.ggml.eos_token_id"
    elif change == "without its end":
        data = data[:-200]
    elif change == "unknown type":
        at = data.index(b"token_embd.weight") + len("token_embd.weight")
        data[at + 20 : at + 24] = struct.pack("<I", 99)
    path.write_bytes(data)
    return path


_FILES: dict[str, dict[str, Any]] = {
    "split": {"fields": {"split.count": 3}},
    "an adapter": {"fields": {"general.type": "adapter"}},
    "no number of blocks": {"fields": {"llama.block_count": "three"}},
    "other number of blocks": {"fields": {"llama.block_count": 5}},
    "unknown architecture": {"architecture": "newest"},
    "gemma3n": {"architecture": "gemma3n"},
    "minicpm": {"architecture": "minicpm"},
    "deepseek2": {"architecture": "deepseek2"},
    "gemma3 27B": {"architecture": "gemma3", "n_blocks": 62},
    "gemma2 27B": {"architecture": "gemma2", "n_blocks": 46},
    "alignment": {"fields": {"general.alignment": 12}},
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("no file", "is no GGUF file: it does not begin with GGUF"),
        ("empty", "is no GGUF file"),
        ("big-endian", "is big-endian, for other machines"),
        ("version 1", "is of version 1 of GGUF; expected 2 or 3"),
        ("half a head", "is damaged: its head cannot be read to the end"),
        ("endless array", "is damaged: its head cannot be read to the end"),
        ("two fields of a name", "is damaged: it has two fields tokenizer.ggml.eos_token_id"),
        ("without its end", "is damaged: it does not hold output_norm.weight"),
        ("unknown type", "token_embd.weight is of type 99, which the package gguf does not know"),
        ("split", "is one of 3 parts of a model; expected a whole one"),
        ("an adapter", "is of the type 'adapter'; expected a model"),
        ("no number of blocks", "does not say how many blocks there are"),
        ("other number of blocks", "says that it has 5 blocks; its tensors are of 3"),
        ("unknown architecture", "whether llama.cpp computes newest alike with fewer blocks is not known"),
        ("gemma3n", "a gemma3n file of 3 blocks cannot be cut: one tensor holds embeddings of all its blocks"),
        ("minicpm", "cannot be cut: llama.cpp takes another scale of what blocks add"),
        ("deepseek2", "cannot be cut: llama.cpp takes another attention"),
        ("gemma3 27B", "cannot be cut: llama.cpp takes another scale for the attention"),
        ("gemma2 27B", "cannot be cut: llama.cpp takes another scale for the attention"),
        ("alignment", "is damaged: general.alignment is no power of two"),
    ],
)
def test_what_cannot_be_cut_is_told_and_nothing_is_written(tmp_path: Path, change: str, message: str) -> None:
    source = _spoilt(tmp_path, change)
    before = source.read_bytes()
    with pytest.raises(ValueError, match=message) as error:
        export_gguf(source, tmp_path / "out.gguf", 2)
    assert "\n" not in str(error.value) and str(error.value).startswith("model: ")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert source.read_bytes() == before


def test_the_last_layer_of_any_architecture_is_the_file_itself(tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf", "minicpm")
    export_gguf(source, tmp_path / "out.gguf", -1)
    assert tensors_of(tmp_path / "out.gguf") == tensors_of(source)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"layer": 0},
            "layer: 0 is what enters block 1, and llama.cpp loads no model without a block; expected 1 to 3",
        ),
        ({"layer": 0.1}, "layer: 0 is what enters block 1"),
        ({"layer": 4}, "layer: 4 is out of range; a model of 3 blocks"),
        ({"layer": "2"}, "layer: expected an int or a depth as a float, got '2'"),
        ({"pooling_mode": "weightedmean"}, "pooling_mode: llama.cpp has mean, cls, lasttoken, got 'weightedmean'"),
        ({"pooling_mode": "cls+mean"}, "pooling_mode: llama.cpp has mean, cls, lasttoken, got 'cls\\+mean'"),
        ({"model_name": "a/b/c"}, "model_name: expected a name such as"),
        ({"out": "out"}, "out: expected a file that ends in .gguf, got out"),
        ({"out": "source.gguf"}, "out: source.gguf is the file that is cut; expected another one"),
        ({"out": "there.gguf"}, "out: there.gguf exists; overwrite"),
        (
            {"out": "folder.gguf", "overwrite": True},
            "out: folder.gguf cannot be written: expected a file, got a folder",
        ),
        ({"out": "there.gguf/a.gguf"}, "there.gguf is not a folder"),
        ({"model": "folder.gguf"}, "model: a GGUF file is cut from one; expected a .gguf file"),
        ({"model": "org/name"}, "model: a GGUF file is cut from one; expected a .gguf file"),
        ({"model": "no.gguf"}, "model: there is no file 'no.gguf'"),
        ({"model": ".", "gguf_file": "no.gguf"}, "gguf_file: no file 'no.gguf' in the folder ."),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny_gguf(Path("source.gguf"))
    Path("there.gguf").write_text("precious")
    Path("folder.gguf").mkdir()
    with pytest.raises(ValueError, match=message):
        export_gguf(**{"model": "source.gguf", "out": "out.gguf", "layer": 2, **arguments})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.gguf", "source.gguf", "there.gguf"]
    assert Path("there.gguf").read_text() == "precious"


def test_a_file_is_replaced_if_that_is_asked_for(tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf")
    (tmp_path / "out.gguf").write_text("old")
    export_gguf(tmp_path, tmp_path / "out.gguf", 1, gguf_file="tiny.gguf", overwrite=True)
    assert tensors_of(tmp_path / "out.gguf") == _kept(source, 1)


@pytest.mark.parametrize("where", ["head", "tensors"])
def test_what_is_written_otherwise_is_noticed_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    honest = gguf_cut.write_cut

    def spoil(path: Path, *arguments: Any) -> None:
        honest(path, *arguments)
        data = bytearray(path.read_bytes())
        data[data.index(b"gpt-2") if where == "head" else -40] ^= 1
        path.write_bytes(data)

    monkeypatch.setattr(gguf_cut, "write_cut", spoil)
    source = tiny_gguf(tmp_path / "tiny.gguf")
    message = "the head that was written is read as another one" if where == "head" else "was written with other bytes"
    with pytest.raises(ExportFailed, match=message):
        export_gguf(source, tmp_path / "out.gguf", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_an_interrupted_cut_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf_cut, "compare_cut", interrupt)
    source = tiny_gguf(tmp_path / "tiny.gguf")
    with pytest.raises(KeyboardInterrupt):
        export_gguf(source, tmp_path / "out.gguf", 2)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_a_cut_gives_the_same_bytes_each_time(tmp_path: Path) -> None:
    source = tiny_gguf(tmp_path / "tiny.gguf")
    one, two = (export_gguf(source, tmp_path / name, 2).path for name in ("a.gguf", "b.gguf"))
    assert one.read_bytes() == two.read_bytes()
