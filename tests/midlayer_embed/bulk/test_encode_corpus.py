"""A corpus over shards: the parts are those of one process, byte for byte, whatever happens on the way."""

import gzip
import hashlib
import json
import logging
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.forks import Fork
from support.tiers import slow

from midlayer_embed import MidLayerEncoder
from midlayer_embed.bulk import encode_corpus as module
from midlayer_embed.bulk.claims import Claim
from midlayer_embed.bulk.encode_corpus import encode_corpus
from midlayer_embed.bulk.encode_file import encode_file
from midlayer_embed.bulk.vector_files import partial_folder
from midlayer_embed.errors import InputError
from midlayer_embed.texts import files as text_files

# Texts in each of the seven files.
SIZES = (12, 3, 40, 1, 0, 25, 9)
SHARDS = ("1/3", "2/3", "3/3")


@pytest.fixture
def corpus(sentences: list[str], tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number, size in enumerate(SIZES):
        lines = [
            json.dumps({"id": f"{number}-{i}", "body": f"{sentences[i % len(sentences)]} {number + i % 4}"}) + "\n"
            for i in range(size)
        ]
        (folder / f"{number}.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    return folder


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "CHUNK_TEXTS", 5)
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)


def _bytes(folder: Path) -> dict[str, str]:
    """What a folder holds, by name; nothing hidden is left."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def _embedded(
    monkeypatch: pytest.MonkeyPatch, stop_after: int = 10**9, error: type[BaseException] = SystemExit
) -> list[int]:
    """The list grows by the size of each batch; after so many of them, an error is raised."""
    real, seen = MidLayerEncoder.encode, []

    def counted(encoder: Any, texts: list[str], **kwargs: Any) -> np.ndarray:
        if len(seen) == stop_after:
            raise error
        seen.append(len(texts))
        return real(encoder, texts, **kwargs)

    monkeypatch.setattr(MidLayerEncoder, "encode", counted)
    return seen


@pytest.mark.parametrize("suffix", [".npy", *slow(".jsonl", ".parquet")])
def test_shards_in_any_order_make_what_one_process_makes(
    llama_folder: Path, corpus: Path, tmp_path: Path, suffix: str
) -> None:
    how: dict[str, Any] = {"column": "body", "batch_tokens": 64}
    options = {"suffix": suffix, **how}
    whole = encode_corpus(llama_folder, 2, corpus, tmp_path / "one", **options)
    assert (whole.n_parts, whole.n_vectors, whole.dim, whole.missing) == (7, sum(SIZES), 32, ())
    seen = []
    for shard in ("3/3", "1/3", "2/3"):
        found = encode_corpus(llama_folder, 2, str(corpus / "*.gz"), tmp_path / "three", shard=shard, **options)
        seen.append(found.n_parts)
        assert (found.manifest is None) is (shard != "2/3")
    assert sum(seen) == 7
    assert _bytes(tmp_path / "three") == _bytes(tmp_path / "one")
    for number in range(7):  # and what `encode_file` makes of each file alone
        alone = tmp_path / f"alone{suffix}"
        encode_file(llama_folder, 2, corpus / f"{number}.jsonl.gz", alone, overwrite=True, **how)
        assert alone.read_bytes() == (tmp_path / "one" / f"part-0000{number}{suffix}").read_bytes()


def test_the_manifest_says_what_is_where(
    llama_folder: Path, corpus: Path, tmp_path: Path, llama_2: MidLayerEncoder
) -> None:
    encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["recipe"]["layer"] == 2
    assert manifest["recipe"]["pooling_mode"] == "mean"
    assert (manifest["rows"], manifest["dim"], manifest["format"]) == (sum(SIZES), 32, "npy")
    assert set(manifest["versions"]) == {"midlayer-embed", "torch", "transformers"}
    parts = manifest["parts"]
    assert [part["rows"] for part in parts] == list(SIZES)
    assert [part["offset"] for part in parts] == [sum(SIZES[:number]) for number in range(7)]
    for part in parts:
        for kind, folder in (("part", tmp_path / "out"), ("file", corpus)):
            content = (folder / part[kind]).read_bytes()
            assert part["sha256" if kind == "part" else "file_sha256"] == hashlib.sha256(content).hexdigest()
            assert part["bytes" if kind == "part" else "file_bytes"] == len(content)
    vectors = np.concatenate([np.load(tmp_path / "out" / part["part"]) for part in parts])
    lines = [line for part in parts for line in gzip.decompress((corpus / part["file"]).read_bytes()).splitlines()]
    texts = [json.loads(line)["body"] for line in lines]
    np.testing.assert_allclose(vectors, llama_2.encode(texts), atol=1e-5)


def test_a_transform_is_the_same_in_every_shard(
    llama_folder: Path, corpus: Path, sentences: list[str], tmp_path: Path
) -> None:
    options = {"column": "body", "transform": "whiten", "dim": 6, "transform_texts": sentences * 3, "template": "echo"}
    encode_corpus(llama_folder, 2, corpus, tmp_path / "one", **options)
    for shard in SHARDS:
        encode_corpus(llama_folder, 2, corpus, tmp_path / "three", shard=shard, **options)
    assert _bytes(tmp_path / "three") == _bytes(tmp_path / "one")
    with pytest.raises(InputError, match="another run, which differs in transform_texts; use --overwrite"):
        encode_corpus(llama_folder, 2, corpus, tmp_path / "one", **{**options, "transform_texts": sentences})


def test_what_is_finished_is_passed_over_and_no_model_is_loaded(
    llama_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body", shard="1/2")
    before = _bytes(tmp_path / "out")
    monkeypatch.setattr(MidLayerEncoder, "__init__", lambda *_, **__: pytest.fail("a model was loaded"))
    with caplog.at_level(logging.INFO):
        encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body", shard="1/2")
    assert _bytes(tmp_path / "out") == before
    assert "parts are finished already" in caplog.text


@pytest.mark.parametrize("error", [*slow(SystemExit), KeyboardInterrupt])
def test_a_shard_that_is_cut_goes_on_where_it_was(
    llama_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    with monkeypatch.context() as patch:
        seen = _embedded(patch)
        encode_corpus(llama_folder, 2, corpus, tmp_path / "one", column="body")
        n_batches = len(seen)
    done = 0
    for stop_after in (2, 5, 3):
        with monkeypatch.context() as patch:
            seen = _embedded(patch, stop_after, error)
            with pytest.raises(error):
                encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body")
            done += len(seen)
    with monkeypatch.context() as patch:
        seen = _embedded(patch)
        encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body")
    assert done + len(seen) == n_batches  # a chunk is one batch here, and nothing was embedded twice
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "one")


@pytest.mark.parametrize("step", ["_record", "_part"])
def test_a_kill_between_a_part_and_its_record_loses_nothing(
    llama_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    encode_corpus(llama_folder, 2, corpus, tmp_path / "one", column="body")
    name = {"_record": "part-00002.json", "_part": "part-00002.npy"}[step]
    replace = os.replace

    def cut(source: Any, target: Any) -> None:
        if Path(target).name == name:
            raise SystemExit
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", cut)
        with pytest.raises(SystemExit):
            encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body")
    assert not (tmp_path / "out" / name).exists()
    with monkeypatch.context() as patch:
        seen = _embedded(patch)
        encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body")
        assert len(seen) == sum(-(-size // 5) for size in SIZES[3:])  # the files after it alone
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "one")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"layer": 1}, "another run, which differs in layer; use --overwrite"),
        *slow(
            ({"normalize": True}, "which differs in normalize"),
            ({"max_seq_length": 4}, "which differs in max_seq_length"),
            ({"suffix": ".jsonl"}, "which differs in format"),
        ),
        ("a file more, in between", r"which differs in input \(1\.jsonl\.gz, now 00\.jsonl\.gz\)"),
        ("a file less", "holds parts of 7 files and the input has 6"),
        ("another order", r"which differs in input \(2\.jsonl\.gz has changed\)"),
    ],
    ids=str,
)
def test_parts_of_another_run_are_not_mixed_with_these(
    llama_folder: Path, corpus: Path, tmp_path: Path, change: Any, said: str
) -> None:
    encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body")
    before = _bytes(tmp_path / "out")
    path = corpus / "2.jsonl.gz"
    if change == "a file more, in between":
        shutil.copy(path, corpus / "00.jsonl.gz")
    elif change == "a file less":
        (corpus / "6.jsonl.gz").unlink()
    elif change == "another order":
        lines = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)
        path.write_bytes(gzip.compress("".join(lines[::-1]).encode(), mtime=0))
    options = {"layer": 2, "column": "body", **(change if isinstance(change, dict) else {})}
    with pytest.raises(InputError, match=said) as told:
        encode_corpus(llama_folder, source=corpus, folder=tmp_path / "out", **options)
    assert "\n" not in str(told.value)
    assert _bytes(tmp_path / "out") == before
    for shard in ("2/2", "1/2"):
        found = encode_corpus(
            llama_folder, source=corpus, folder=tmp_path / "out", overwrite=True, shard=shard, **options
        )
        if isinstance(change, dict):  # no manifest of two runs
            assert (found.manifest is None) is (shard == "2/2")
    encode_corpus(llama_folder, source=corpus, folder=tmp_path / "new", **options)
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "new")


def test_a_corpus_grows_at_its_end(
    llama_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body")
    shutil.copy(corpus / "1.jsonl.gz", corpus / "7.jsonl.gz")
    with monkeypatch.context() as patch:
        seen = _embedded(patch)
        assert encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body").n_parts == 8
        assert sum(seen) == SIZES[1]
    encode_corpus(llama_folder, 2, corpus, tmp_path / "new", column="body")
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "new")


def test_a_part_that_is_damaged_or_gone_is_made_again(llama_folder: Path, corpus: Path, tmp_path: Path) -> None:
    encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body")
    before = _bytes(tmp_path / "out")
    (tmp_path / "out" / "part-00000.npy").unlink()
    os.truncate(tmp_path / "out" / "part-00002.npy", 100)
    encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body")
    assert _bytes(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["part-00001.npy", "manifest.json"])
def test_a_file_of_the_user_is_not_written_over(llama_folder: Path, corpus: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(InputError, match=rf"{name} exists already"):
        encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body")
    assert _bytes(tmp_path / "out") == {name: hashlib.sha256(b"mine").hexdigest()}


def test_a_file_with_a_bad_row_keeps_no_other_from_being_embedded(
    llama_folder: Path, corpus: Path, tmp_path: Path
) -> None:
    good = (corpus / "1.jsonl.gz").read_bytes()
    bad = gzip.decompress(good).splitlines(keepends=True)
    (corpus / "1.jsonl.gz").write_bytes(gzip.compress(bad[0] + b'{"body": 3}\n'))
    with pytest.raises(InputError, match=r"1\.jsonl\.gz, line 2: expected a string.*; 6 of 7 files are embedded$"):
        encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body")
    assert not (tmp_path / "out" / "manifest.json").exists()
    (corpus / "1.jsonl.gz").write_bytes(good)
    assert encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body").manifest is not None
    encode_corpus(llama_folder, 2, corpus, tmp_path / "new", column="body")
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "new")


def test_a_file_that_changes_underway_gets_no_part(
    llama_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, path = MidLayerEncoder.encode, corpus / "1.jsonl.gz"

    def meddling(encoder: Any, texts: list[str], **kwargs: Any) -> np.ndarray:
        if len(texts) == SIZES[1]:
            path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) * 2))
        return real(encoder, texts, **kwargs)

    monkeypatch.setattr(MidLayerEncoder, "encode", meddling)
    with pytest.raises(InputError, match=r"1\.jsonl\.gz was changed while it was read"):
        encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body")
    assert not (tmp_path / "out" / "part-00001.npy").exists()
    assert (tmp_path / "out" / "part-00002.npy").exists()


def test_all_files_have_the_column_of_the_first(llama_folder: Path, tmp_path: Path) -> None:
    """Which of two columns holds texts may look different in another file."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("title,body\n7,a text\n8,another text\n")
    (tmp_path / "in" / "b.csv").write_text("title,body\na title,9\nother title,10\n")
    found = encode_corpus(llama_folder, 2, tmp_path / "in", tmp_path / "out", shard="1/2")
    found = encode_corpus(llama_folder, 2, tmp_path / "in", tmp_path / "out", shard="2/2")
    assert found.manifest is not None
    assert [part["column"] for part in found.manifest["parts"]] == ["body", "body"]


def test_there_may_be_more_shards_than_files(llama_folder: Path, corpus: Path, tmp_path: Path) -> None:
    assert encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body", shard="9/9").n_parts == 0
    counts = [
        encode_corpus(llama_folder, 2, corpus, tmp_path / "out", column="body", shard=f"{i}/9").n_parts
        for i in range(1, 9)
    ]
    assert counts == [1] * 7 + [0]
    assert (tmp_path / "out" / "manifest.json").exists()


def test_a_part_that_another_process_has_comes_last_and_is_not_made_twice(
    llama_folder: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode_corpus(llama_folder, 2, corpus, tmp_path / "one", column="body")
    out = tmp_path / "out"
    claim, looks = Claim(partial_folder(out / "part-00002.npy")), []
    assert claim.take() is None

    def look(_seconds: float) -> None:
        looks.append(sorted(path.name for path in out.glob("part-*.npy")))
        if len(looks) == 2:  # the other process has finished
            for end in (".json", ".npy"):
                shutil.copy(tmp_path / "one" / f"part-00002{end}", out)
            claim.release()
            shutil.rmtree(partial_folder(out / "part-00002.npy"))

    monkeypatch.setattr(module.time, "sleep", look)
    seen = _embedded(monkeypatch)
    encode_corpus(llama_folder, 2, corpus, out, column="body")
    assert looks == [[f"part-0000{number}.npy" for number in (0, 1, 3, 4, 5, 6)]] * 2
    assert sum(seen) == sum(SIZES) - SIZES[2]
    assert _bytes(out) == _bytes(tmp_path / "one")


# The command, killed before its n-th batch.
_KILLED = """
import os, signal, sys
from midlayer_embed import MidLayerEncoder
from midlayer_embed.cli import main
from midlayer_embed.texts import files as text_files
text_files.CHUNK_TEXTS = 5
real, left = MidLayerEncoder.encode, int(sys.argv.pop(1))
def encode(encoder, texts, **options):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(encoder, texts, **options)
MidLayerEncoder.encode = encode
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.process
@pytest.mark.parametrize("format_", ["parquet", *slow("npy", "jsonl")])
def test_three_processes_one_of_which_is_killed_make_what_one_makes(
    llama_folder: Path, corpus: Path, tmp_path: Path, format_: str
) -> None:
    encode_corpus(llama_folder, 2, corpus, tmp_path / "one", column="body", suffix=f".{format_}")
    command = ["encode", str(llama_folder), "--layer", "2", "--input", str(corpus), "--column", "body", "--quiet"]
    command += ["--output", str(tmp_path / "three"), "--format", format_]

    def start(shard: str, kill_at: int = 0) -> Fork:
        return Fork([sys.executable, "-c", _KILLED, str(kill_at), *command, "--shard", shard])

    forks = [start("1/3", kill_at=4), start("2/3"), start("3/3")]
    assert [fork.wait(120) for fork in forks] == [-signal.SIGKILL, 0, 0]
    assert not (tmp_path / "three" / "manifest.json").exists()
    assert start("1/3").wait(120) == 0
    assert _bytes(tmp_path / "three") == _bytes(tmp_path / "one")
