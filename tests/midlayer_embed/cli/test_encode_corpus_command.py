"""`encode` of a corpus as a command: shards by hand and from the environment, and processes for devices."""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.forks import run

from midlayer_embed.bulk.encode_corpus import CorpusJob
from midlayer_embed.cli import devices
from midlayer_embed.cli.program import main
from midlayer_embed.errors import InputError


@pytest.fixture
def corpus(sentences: list[str], tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number, size in enumerate((4, 9, 1, 6)):
        lines = (f"{sentences[i % len(sentences)]} {number}\n" for i in range(size))
        (folder / f"{number}.txt").write_text("".join(lines))
    return folder


def _command(model: Path, corpus: Path, out: Path, *more: str) -> list[str]:
    return ["encode", str(model), "--layer", "2", "--input", str(corpus), "--output", str(out), "--quiet", *more]


def _bytes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_each_shard_says_what_it_did_and_the_last_what_is_there(
    llama_folder: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    assert main(_command(llama_folder, corpus, out, "--shard", "2/2")) == 0
    assert capsys.readouterr().out == f"{out}, shard 2/2: 3 parts, 11 vectors of 32 dimensions; 1 part to come\n"
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "0")
    assert main(_command(llama_folder, corpus, out, "--shard", "auto/2")) == 0
    assert capsys.readouterr().out == f"{out}: 4 parts, 20 vectors of 32 dimensions\n"
    assert main(_command(llama_folder, corpus, tmp_path / "one")) == 0  # the variable alone changes nothing
    assert _bytes(out) == _bytes(tmp_path / "one")
    assert main(_command(llama_folder, corpus, out, "--shard", "auto")) == 2
    assert "Kubernetes sets JOB_COMPLETION_INDEX" in capsys.readouterr().err


def test_several_files_and_a_pattern_are_a_corpus(llama_folder: Path, corpus: Path, tmp_path: Path) -> None:
    paths = [str(corpus / f"{number}.txt") for number in (3, 0, 2, 1)]  # as a shell may spell a pattern
    command = ["encode", str(llama_folder), "--layer", "2", "--quiet", "--output", str(tmp_path / "one")]
    assert main([*command, "--input", *paths]) == 0
    command[-1] = str(tmp_path / "other")
    assert main([*command, "--input", str(corpus / "*.txt")]) == 0
    assert _bytes(tmp_path / "one") == _bytes(tmp_path / "other")


def test_one_file_with_a_format_makes_a_folder_of_one_part(llama_folder: Path, corpus: Path, tmp_path: Path) -> None:
    source = corpus / "1.txt"
    assert main(_command(llama_folder, source, tmp_path / "out", "--format", "jsonl")) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "part-00000.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == source.read_text().splitlines()
    assert main(_command(llama_folder, source, tmp_path / "v.npy")) == 0
    np.testing.assert_array_equal(
        np.load(tmp_path / "v.npy"), np.array([row["embedding"] for row in rows], dtype=np.float32)
    )


@pytest.mark.slow
@pytest.mark.process
def test_processes_for_devices_make_what_one_makes(llama_folder: Path, corpus: Path, tmp_path: Path) -> None:
    assert main(_command(llama_folder, corpus, tmp_path / "one")) == 0
    done = run([sys.executable, "-c", _MAIN, *_command(llama_folder, corpus, tmp_path / "out", "--devices", "cpu,cpu")])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'out'}: 4 parts, 20 vectors of 32 dimensions\n"
    assert _bytes(tmp_path / "out") == _bytes(tmp_path / "one")


_MAIN = "import sys; from midlayer_embed.cli import main; sys.exit(main(sys.argv[1:]))"

# A stand-in for the program that `--devices` starts: it kills itself, or waits, or leaves, as its device says.
_STAND_IN = """
import os, signal, sys
what = os.environ["WHAT"]
if what == "kill":
    os.kill(os.getpid(), signal.SIGKILL)
if what == "mistake":
    print("midlayer-embed: input: a mistake", file=sys.stderr)
    sys.exit(2)
if what == "wait":
    from midlayer_embed.cli.devices import end_with_parent
    end_with_parent()
    signal.pause()
"""


class _Job:
    """Stands for a job of two parts, the second of which is missing."""

    n_bytes, missing_of_own = 2, (1,)

    def bytes_done(self) -> int:
        return 1

    describe_missing = CorpusJob.describe_missing
    numbers = (0, 1)


@pytest.mark.process
@pytest.mark.parametrize(
    ("whats", "code", "said"),
    [
        (("leave", "leave"), 0, ""),
        (("kill", "leave"), 1, "was ended by SIGKILL\nmidlayer-embed: out: 1 of 2 parts are missing: 1; run the same"),
        (("mistake", "mistake"), 2, "midlayer-embed: input: a mistake\nmidlayer-embed: out: 1 of 2 parts are missing"),
    ],
)
def test_a_process_that_ends_early_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], whats: tuple[str, str], code: int, said: str
) -> None:
    _starts(monkeypatch, whats)
    assert devices.run_on_devices(_arguments(), _Job(), None) == code  # type: ignore[arg-type]
    error = capsys.readouterr().err
    assert said in error
    assert error.count("a mistake") <= 1  # what both say is said once


@pytest.mark.process
def test_processes_end_with_the_one_that_started_them(monkeypatch: pytest.MonkeyPatch) -> None:
    _starts(monkeypatch, ("wait", "wait"))
    monkeypatch.setattr(devices.time, "sleep", _interrupt)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt, match="1 of 2 parts are missing"):
        devices.run_on_devices(_arguments(), _Job(), None)  # type: ignore[arg-type]
    assert time.monotonic() - start < 60


def _interrupt(_seconds: float) -> None:
    raise KeyboardInterrupt


def _arguments() -> Any:
    from argparse import Namespace

    return Namespace(devices="cpu,cpu", given=[], quiet=True, verbose=False, output="out")


def _starts(monkeypatch: pytest.MonkeyPatch, whats: tuple[str, str]) -> None:
    """Lets `--devices` start the stand-in."""
    real = devices.subprocess.Popen
    monkeypatch.setattr(devices, "_environments", lambda _names: [{"WHAT": what} for what in whats])
    monkeypatch.setattr(
        devices.subprocess, "Popen", lambda command, **options: real([command[0], "-c", _STAND_IN], **options)
    )


@pytest.mark.parametrize("names", ["", "x", "0,cpu", "all,0", "-1", "0;1", "gpu"])
def test_what_is_no_list_of_devices_is_told(names: str) -> None:
    with pytest.raises(InputError, match='^devices: expected "all" or distinct numbers such as 0,1, got '):
        devices._environments(names)


def test_each_process_sees_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,GPU-abc")  # as a batch system sets it
    for names, expected in (("cuda:2,0", ["GPU-abc", "4"]), ("all", ["4", "5", "GPU-abc"])):
        assert [one["CUDA_VISIBLE_DEVICES"] for one in devices._environments(names)] == expected
    with pytest.raises(InputError, match=r"^devices: expected some of 0\.\.2, got 3$"):
        devices._environments("3")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(InputError, match="^devices: no NVIDIA GPU is visible on this machine"):
        devices._environments("all")


def test_processes_on_the_cpu_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(devices, "n_cores", lambda: 8)
    assert [one["OMP_NUM_THREADS"] for one in devices._environments("cpu,cpu")] == ["4", "4"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert devices._environments("cpu")[0]["OMP_NUM_THREADS"] == "3"
