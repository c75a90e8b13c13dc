import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.bulk.encode_file import encode_file
from midlayer_embed.cli.program import main

N_TEXTS = 60


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_rows_equal_encode_in_the_order_of_the_texts(
    llama_folder: Path,
    source: Path,
    texts: list[str],
    tmp_path: Path,
    suffix: str,
    llama_2: MidLayerEncoder,
) -> None:
    target = tmp_path / f"v{suffix}"
    assert encode_file(llama_folder, 2, source, target) == (N_TEXTS, 32)
    if suffix == ".npy":
        vectors = np.load(target)
    else:
        frame = pl.read_ndjson(target) if suffix == ".jsonl" else pl.read_parquet(target)
        assert frame["text"].to_list() == texts
        vectors = np.array(frame["embedding"].to_list(), dtype=np.float32)
    np.testing.assert_allclose(vectors, llama_2.encode(texts), atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt", f"v{suffix}"]


def test_each_distinct_text_of_a_chunk_is_embedded_once(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("the same\n" * 50 + "another\n")
    embedded: list[str] = []
    real = MidLayerEncoder.preprocess
    monkeypatch.setattr(
        MidLayerEncoder,
        "preprocess",
        lambda encoder, texts, **kwargs: embedded.extend(texts) or real(encoder, texts, **kwargs),
    )
    encode_file(llama_folder, 2, tmp_path / "a.txt", tmp_path / "v.npy")
    assert sorted(embedded) == ["another", "the same"]


def test_vectors_of_half_precision_weights_are_normalised_in_float32(
    llama_folder: Path,
    source: Path,
    texts: list[str],
    tmp_path: Path,
    llama_2: MidLayerEncoder,
) -> None:
    encode_file(llama_folder, 2, source, tmp_path / "v.npy", dtype="bfloat16", normalize=True)
    vectors = np.load(tmp_path / "v.npy")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [float(text != "") for text in texts], atol=1e-5)
    expected = llama_2.encode(texts, normalize_embeddings=True)
    np.testing.assert_allclose(vectors, expected, atol=0.05)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        MidLayerEncoder, "encode", lambda encoder, texts, **_: np.ones((len(texts), 32), dtype=np.float32)
    )
    peaks = []
    for n_lines in (10_000, 100_000):
        source = tmp_path / f"{n_lines}.txt"
        with source.open("w") as file:
            file.writelines(f"line {number} of a long file\n" for number in range(n_lines))
        if not peaks:  # what is imported and cached once is not the file's
            encode_file(llama_folder, 2, source, tmp_path / "warm.npy")
        tracemalloc.start()
        encode_file(llama_folder, 2, source, tmp_path / f"{n_lines}.npy")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert np.load(tmp_path / f"{n_lines}.npy", mmap_mode="r").shape == (n_lines, 32)
    assert peaks[1] < 1.1 * peaks[0]


def test_an_input_that_changes_underway_is_told(
    llama_folder: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = MidLayerEncoder.encode

    def meddling(encoder: Any, texts: list[str], **kwargs: Any) -> np.ndarray:
        source.write_text(source.read_text() + "one more\n")
        return real(encoder, texts, **kwargs)

    monkeypatch.setattr(MidLayerEncoder, "encode", meddling)
    with pytest.raises(ValueError, match="was changed while it was read"):
        encode_file(llama_folder, 2, source, tmp_path / "v.npy")
    assert not (tmp_path / "v.npy").exists()


def test_vectors_that_are_no_numbers_are_told(
    llama_folder: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overflowing(_encoder: Any, texts: list[str], **_: Any) -> np.ndarray:
        vectors = np.ones((len(texts), 32), dtype=np.float32)
        vectors[[text.endswith("11") for text in texts]] = np.inf
        return vectors

    monkeypatch.setattr(MidLayerEncoder, "encode", overflowing)
    with pytest.raises(ValueError, match="the vector of text 12 is not finite"):
        encode_file(llama_folder, 2, source, tmp_path / "v.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt"]


def test_the_texts_of_a_transform_are_not_written_over(
    llama_folder: Path, texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from midlayer_embed.cli.program import main

    lines = "".join(json.dumps({"body": text}) + "\n" for text in texts)
    (tmp_path / "input.jsonl").write_text(lines)
    (tmp_path / "fit.jsonl").write_text(lines)
    (tmp_path / "link.jsonl").symlink_to("fit.jsonl")
    places = ["--input", str(tmp_path / "input.jsonl"), "--output", str(tmp_path / "link.jsonl")]
    fit = ["--transform", "center", "--transform-texts", str(tmp_path / "fit.jsonl")]
    for more, message in (["--overwrite"], "than that of the transform's texts"), ([], "than that of the transform's"):
        assert main(["encode", str(llama_folder), "--layer", "1", *places, *fit, *more]) == 2
        said = capsys.readouterr().err
        assert message in said and len(said.strip().splitlines()) == 1  # before the texts are read
    assert (tmp_path / "fit.jsonl").read_text() == lines


def test_a_transform_that_is_fitted_on_other_texts_starts_over(
    llama_folder: Path, source: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from midlayer_embed.bulk import encode_file as module

    def run(fit: list[str], target: str) -> bytes:
        options = {"template": "echo", "transform": "whiten", "transform_texts": fit, "dim": 6}
        encode_file(llama_folder, 2, source, tmp_path / target, batch_tokens=64, **options)
        return (tmp_path / target).read_bytes()

    one, other = texts[:40], texts[20:]
    expected = {"one": run(one, "one.npy"), "other": run(other, "other.npy")}
    assert expected["one"] != expected["other"]
    whole, calls = module._encode, 0

    def cut(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return whole(*arguments)

    for fit, name in ((one, "one"), (other, "other")):
        calls = 0
        monkeypatch.setattr(module, "_encode", cut)
        with pytest.raises(KeyboardInterrupt):
            run(one, "cut.npy")
        monkeypatch.setattr(module, "_encode", whole)
        assert run(fit, "cut.npy") == expected[name]
        (tmp_path / "cut.npy").unlink()


def test_a_site_is_embedded(
    llama_folder: Path, source: Path, texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encode = ["encode", str(llama_folder), "--input", str(source), "--output", str(tmp_path / "v.npy"), "--quiet"]
    assert main([*encode, "--layer", "2", "--site", "attn_out"]) == 0
    expected = LayerwiseEncoder(llama_folder, site="attn_out").encode(texts, [2])[:, 0]
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected, atol=1e-5)
    capsys.readouterr()
    told = "midlayer-embed: layer: 0 is what enters block 1 and has no attn_out; expected a layer from 1 to 3\n"
    for layer in ("0", "0.0", "-4"):
        assert main([*encode, f"--layer={layer}", "--site", "attn_out", "--overwrite"]) == 2
        assert capsys.readouterr().err == told
