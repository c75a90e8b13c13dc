"""Runs that are cut: what is kept, how the next one goes on, and what makes it start afresh."""

import json
import logging
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.forks import Fork

from midlayer_embed import MidLayerEncoder
from midlayer_embed.bulk import appending
from midlayer_embed.bulk.encode_file import encode_file
from midlayer_embed.bulk.vector_files import partial_folder
from midlayer_embed.ground.interrupts import Terminated
from midlayer_embed.texts import files as text_files

N_TEXTS = 60

# The command, with chunks of 5 texts, killed before it puts its n-th file in place.
_KILLED = """
import os, signal, sys
from midlayer_embed.cli import main
from midlayer_embed.texts import files as text_files
text_files.CHUNK_TEXTS = 5
replace, left = os.replace, int(sys.argv.pop(1))
def replace_or_die(source, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = replace_or_die
sys.exit(main(sys.argv[1:]))
"""


def _modules(*kinds: str) -> str:
    """The modules.json of a sentence-transformers model."""
    paths = ["", "1_Pooling", "2_Normalize"]
    return json.dumps(
        [{"path": p, "type": f"sentence_transformers.models.{k}"} for p, k in zip(paths, kinds, strict=False)]
    )


class _Killed(Exception):
    pass


def _killed_after(n_batches: int, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] = _Killed) -> list[int]:
    """Lets so many batches be embedded; the list grows by the size of each. A chunk of 5 texts is one batch."""
    real, seen = MidLayerEncoder.encode, []

    def counted(encoder: Any, texts: list[str], **kwargs: Any) -> np.ndarray:
        if len(seen) == n_batches:
            raise error
        seen.append(len(texts))
        return real(encoder, texts, **kwargs)

    monkeypatch.setattr(MidLayerEncoder, "encode", counted)
    return seen


def _n_embedded(texts: list[str]) -> int:
    """How many texts of whole chunks of 5 go through the model: a chunk's distinct texts that have tokens."""
    return sum(len({text for text in texts[start : start + 5] if text}) for start in range(0, len(texts), 5))


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_a_cut_run_goes_on_and_ends_the_same(
    llama_folder: Path, source: Path, texts: list[str], tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, target = tmp_path / f"whole{suffix}", tmp_path / f"v{suffix}"
    encode_file(llama_folder, 2, source, whole)
    with monkeypatch.context() as patch:
        _killed_after(3, patch)
        with pytest.raises(_Killed):
            encode_file(llama_folder, 2, source, target)
    assert not target.exists()
    with monkeypatch.context() as patch:
        seen = _killed_after(100, patch)
        encode_file(llama_folder, 2, source, target)
    assert sum(seen) == _n_embedded(texts[15:])
    assert target.read_bytes() == whole.read_bytes()
    assert not partial_folder(target).exists()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    "change",
    ["input", {"layer": 1}, {"final_norm": False}, {"max_seq_length": 4}, {"normalize": True}, {"site": "mlp_out"}],
    ids=str,
)
def test_what_changes_the_vectors_starts_afresh(
    llama_folder: Path,
    source: Path,
    texts: list[str],
    tmp_path: Path,
    change: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with monkeypatch.context() as patch:
        _killed_after(3, patch)
        with pytest.raises(_Killed):
            encode_file(llama_folder, 2, source, tmp_path / "v.npy")
    if change == "input":
        source.write_text(source.read_text().replace("sunny", "rainy"))
    arguments = {"layer": 2, **({} if change == "input" else change)}
    with monkeypatch.context() as patch:
        seen = _killed_after(100, patch)
        encode_file(llama_folder, source=source, target=tmp_path / "v.npy", **arguments)
    assert sum(seen) == _n_embedded(texts)
    assert f"differ in {change if change == 'input' else next(iter(change))}" in caplog.text
    encode_file(llama_folder, source=source, target=tmp_path / "whole.npy", **arguments)
    assert (tmp_path / "v.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("modules.json", _modules("Transformer", "Pooling"), _modules("Transformer", "Pooling", "Normalize")),
        ("sentence_bert_config.json", '{"max_seq_length": 100}', '{"max_seq_length": 3}'),
        ("special_tokens_map.json", "{}", '{"pad_token": "word"}'),
    ],
)
def test_a_model_that_changes_in_between_starts_afresh(
    llama_folder: Path,
    source: Path,
    texts: list[str],
    tmp_path: Path,
    file: str,
    before: str,
    after: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One file never holds the vectors of two models."""
    model = Path(shutil.copytree(llama_folder, tmp_path / "model"))
    if file == "sentence_bert_config.json":
        (model / "modules.json").write_text(_modules("Transformer", "Pooling"))
    (model / file).write_text(before)
    with monkeypatch.context() as patch:
        _killed_after(3, patch)
        with pytest.raises(_Killed):
            encode_file(model, 2, source, tmp_path / "v.npy")
    (model / file).write_text(after)
    with monkeypatch.context() as patch:
        seen = _killed_after(100, patch)
        encode_file(model, 2, source, tmp_path / "v.npy")
    assert sum(seen) == _n_embedded(texts)
    assert "differ in revision" in caplog.text


@pytest.mark.usefixtures("small_chunks")
def test_a_dtype_has_several_names(
    llama_folder: Path, source: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _killed_after(3, patch)
        with pytest.raises(_Killed):
            encode_file(llama_folder, 2, source, tmp_path / "v.npy", dtype=torch.float64)
    with monkeypatch.context() as patch:
        seen = _killed_after(100, patch)
        encode_file(llama_folder, 2, source, tmp_path / "v.npy", dtype="double")
    assert sum(seen) == _n_embedded(texts[15:])


@pytest.mark.process
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("kills", "n_done"),
    [
        # A run notes how far it is before the first chunk and after each one, and puts the whole file in place.
        ([1, 2, 5, 5], [0, 0, 15, 30]),
        ([1 + 12 + 1], [60]),
    ],
    ids=["on the way", "at the end"],
)
def test_a_process_killed_for_real_loses_no_finished_chunk(
    llama_folder: Path,
    source: Path,
    texts: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kills: list[int],
    n_done: list[int],
) -> None:
    target = tmp_path / "v.npy"
    arguments = [
        "encode",
        str(llama_folder),
        "--layer",
        "2",
        "--quiet",
        "--input",
        str(source),
        "--output",
        str(target),
    ]
    state = partial_folder(target) / "state.json"
    for number, expected in zip(kills, n_done, strict=True):
        command = [sys.executable, "-c", _KILLED, str(number), *arguments]
        assert Fork(command).wait(120) == -signal.SIGKILL
        assert (json.loads(state.read_text())["done"] if state.exists() else 0) == expected
        assert not target.exists()
    with caplog.at_level(logging.INFO), monkeypatch.context() as patch:
        seen = _killed_after(100, patch)
        encode_file(llama_folder, 2, source, target)
    assert "resuming an earlier run" in caplog.text
    assert sum(seen) == _n_embedded(texts[n_done[-1] :])
    encode_file(llama_folder, 2, source, tmp_path / "whole.npy")
    assert target.read_bytes() == (tmp_path / "whole.npy").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt", "v.npy", "whole.npy"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, Terminated, _Killed])
def test_an_unfinished_chunk_loses_no_batch_but_the_last(
    llama_folder: Path,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: type[BaseException],
) -> None:
    whole, target = tmp_path / "whole.npy", tmp_path / "v.npy"
    with monkeypatch.context() as patch:
        seen = _killed_after(10_000, patch)
        encode_file(llama_folder, 2, source, whole, batch_tokens=40)
        n_batches, n_embedded = len(seen), sum(seen)
    assert n_batches > 8  # all of one chunk
    if error is _Killed:  # whatever ends a run, it keeps what was saved on the way
        monkeypatch.setattr(appending, "SAVE_SECONDS", 0)
    seen, n_before = [], 0
    for n_more in (3, 2):  # interrupted twice
        n_before += sum(seen)
        with monkeypatch.context() as patch:
            seen = _killed_after(n_more, patch, error)
            with pytest.raises(error) as stopped:
                encode_file(llama_folder, 2, source, target, batch_tokens=40)
        kept = json.loads((partial_folder(target) / "state.json").read_text())["chunk_rows"]
        assert kept >= n_before + sum(seen) > n_before
        if error is not _Killed:
            assert str(stopped.value) == f"{kept} of {N_TEXTS} vectors are kept; run the same command again to resume"
    n_before += sum(seen)
    with monkeypatch.context() as patch:
        seen = _killed_after(10_000, patch)
        encode_file(llama_folder, 2, source, target, batch_tokens=40)
    assert n_before + sum(seen) == n_embedded
    assert target.read_bytes() == whole.read_bytes()


def test_an_interrupt_before_the_first_batch_says_that_nothing_is_kept(
    llama_folder: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _killed_after(0, monkeypatch, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt, match="^nothing is kept$"):
        encode_file(llama_folder, 2, source, tmp_path / "v.npy")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["texts.txt"]


@pytest.mark.process
def test_sigterm_ends_a_run_in_order_with_143(llama_folder: Path, source: Path, tmp_path: Path) -> None:
    command = ["encode", str(llama_folder), "--layer", "2", "--input", str(source), "--output", str(tmp_path / "v.npy")]
    code = (
        "import os, signal, sys\n"
        "from midlayer_embed import MidLayerEncoder\n"
        "from midlayer_embed.cli import main\n"
        "real, calls = MidLayerEncoder.encode, []\n"
        "def encode(encoder, texts, **kwargs):\n"
        "    calls.append(texts)\n"
        "    if len(calls) == 3:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return real(encoder, texts, **kwargs)\n"
        "MidLayerEncoder.encode = encode\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    fork = Fork([sys.executable, "-c", code, *command, "--batch-tokens", "40", "--quiet"])
    assert fork.wait(120) == 143
    state = json.loads((partial_folder(tmp_path / "v.npy") / "state.json").read_text())
    assert state["chunk_batches"] == 2


def test_chunks_of_another_size_start_afresh(
    llama_folder: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for size in (5, 7):  # 15 texts are done, which is no end of a chunk of 7
        monkeypatch.setattr(text_files, "CHUNK_TEXTS", size)
        with monkeypatch.context() as patch, pytest.raises(_Killed):
            _killed_after(3, patch)
            encode_file(llama_folder, 2, source, tmp_path / "v.npy")
    assert "differ in chunks" in caplog.text
