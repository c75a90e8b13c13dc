import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import forks

from midlayer_embed import MidLayerEncoder
from midlayer_embed.cli.program import main


def test_encode_writes_vectors_and_says_so(
    llama_folder: Path, sentences: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pq.write_table(pa.table({"id": range(8), "body": sentences}), tmp_path / "texts.parquet")
    arguments = ["encode", str(llama_folder), "--layer", "-2", "--input", str(tmp_path / "texts.parquet")]
    target = tmp_path / "v.npy"
    assert main([*arguments, "--output", str(target), "--raw", "--pooling", "max", "--normalize"]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"{target}: 8 vectors of 32 dimensions\n"
    assert captured.err == (  # no progress: less than ten seconds of work, and no terminal
        f"midlayer-embed: {tmp_path / 'texts.parquet'}: 8 texts in column 'body' of 2 (id, body)\n"
    )
    encoder = MidLayerEncoder(llama_folder, 2, final_norm=False, pooling_mode="max")
    np.testing.assert_allclose(np.load(target), encoder.encode(sentences, normalize_embeddings=True), atol=1e-5)


def test_quiet_is_quiet_and_an_output_is_replaced_when_told(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "v.npy").write_text("old")
    arguments = ["encode", str(llama_folder), "--layer", "0.7", "--input", str(tmp_path / "a.txt"), "--quiet"]
    assert main([*arguments, "--output", str(tmp_path / "v.npy")]) == 2
    assert (tmp_path / "v.npy").read_text() == "old"
    capsys.readouterr()
    assert main([*arguments, "--output", str(tmp_path / "v.npy"), "--overwrite"]) == 0
    assert capsys.readouterr().err == ""
    assert np.load(tmp_path / "v.npy").shape == (0, 32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"MODEL": "/no/such/folder"}, "there is no folder '/no/such/folder'"),
        ({"MODEL": "weightless"}, "weightless"),
        ({"--layer": "99"}, "99 is out of range"),
        ({"--layer": "1.5"}, "depth 1.5 is out of range"),
        ({"--layer": "middle"}, "got 'middle'"),
        ({"--input": "missing.txt"}, "there is no file"),
        ({"--input": "a.doc"}, "expected a file ending in .txt, .jsonl, .ndjson, .json, .csv, .tsv, .parquet"),
        ({"--input": "latin.txt"}, "line 2: not UTF-8"),
        ({"--input": "broken.jsonl"}, "line 1: not valid JSON"),
        ({"--input": "a.csv", "--column": "body"}, "no column 'body'; its columns are title, text"),
        ({"--input": "a.csv"}, "name one with --column; its columns are title, text"),
        ({"--input": "vectors.csv", "--output": "v.jsonl"}, "column 'embedding' would be taken for the vectors"),
        ({"--input": "later.jsonl", "--output": "v.jsonl"}, "text 2: its column 'embedding' would be taken"),
        ({"--input": "later.jsonl", "--output": "v.parquet"}, "text 2: its column 'embedding' would be taken"),
        ({"--input": "half.jsonl", "--output": "v.parquet"}, "text 2: half a surrogate pair in column 'tag'"),
        ({"--column": "text"}, "a .txt file has no columns"),
        ({"--output": "v.npz"}, "expected a file ending in .npy, .jsonl, .parquet"),
        ({"--output": "a.txt/v.npy"}, "cannot be written: "),
        ({"--pooling": "sum"}, "got 'sum'"),
        ({"--max-seq-length": "0"}, "got 0"),
        ({"--batch-tokens": "0"}, "got 0"),
        ({"--dtype": "int8"}, "got 'int8'"),
        ({"--device": "abacus"}, "'abacus' cannot be used here"),
        ({"--seed": "-1"}, "got -1"),
        ({"--gguf-file": "a.gguf"}, "no file 'a.gguf'"),
    ],
    ids=str,
)
def test_mistakes_are_one_line_exit_2_and_leave_nothing(
    llama_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("one\ntwo\n")
    Path("a.doc").write_text("one\n")
    Path("latin.txt").write_bytes(b"one\n\xe4\n")
    Path("broken.jsonl").write_text("{")
    Path("a.csv").write_text("title,text\nA title,one\n")
    Path("vectors.csv").write_text("text,embedding\nx,1\n")
    Path("later.jsonl").write_text('{"text": "one"}\n{"text": "two", "embedding": [1]}\n')
    Path("half.jsonl").write_text('{"text": "one"}\n{"text": "two", "tag": "\\ud800"}\n')
    Path("weightless").mkdir()
    Path("weightless/config.json").write_text((llama_folder / "config.json").read_text())
    before = sorted(tmp_path.rglob("*"))
    given = {"MODEL": str(llama_folder), "--layer": "2", "--input": "a.txt", "--output": "v.npy", **changes}
    model = given.pop("MODEL")
    assert main(["encode", model, *(word for pair in given.items() for word in pair)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err
    assert len(captured.err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interrupt_is_one_line_that_says_what_is_kept(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_args: object, **_kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(MidLayerEncoder, "encode", interrupted)
    (tmp_path / "a.txt").write_text("one\n")
    files = ["--input", str(tmp_path / "a.txt"), "--output", str(tmp_path / "v.npy"), "--quiet"]
    assert main(["encode", str(llama_folder), "--layer", "1", *files]) == 130
    assert capsys.readouterr().err == "\nmidlayer-embed: interrupted: nothing is kept\n"


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["encode"], ["encode", "m", "--input", "a.txt", "--output", "b.npy"], ["encode", "--x"]]
)
def test_unknown_words_are_told_in_two_lines(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert lines[1].endswith("--help")


def test_help_shows_an_example_without_loading_torch(fresh_answers: dict[str, Any]) -> None:
    answer = fresh_answers["midlayer-embed --help"]
    assert answer["loaded"] == []
    assert "example: midlayer-embed encode starter --layer 7" in answer["said"]


def test_an_unexpected_error_is_one_line_and_its_traceback_is_shown_when_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("out of\ncheese")

    monkeypatch.setattr("midlayer_embed.cli.select._select", broken)
    assert main(["select", "model"]) == 1
    said = capsys.readouterr().err
    assert said == "midlayer-embed: unexpected error: RuntimeError: out of; --verbose shows where\n"
    assert main(["select", "model", "--verbose"]) == 1
    assert "in broken" in capsys.readouterr().err


def test_a_pipe_that_breaks_elsewhere_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as a connection, or a process that was killed; stdout has its reader."""

    def broken(_: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("midlayer_embed.cli.select._select", broken)
    assert main(["select", "model"]) == 1
    assert "unexpected error: BrokenPipeError" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["--quiet", "--verbose"])
def test_details_are_logged_when_told(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def logs(_: object) -> None:
        logging.getLogger("midlayer_embed.somewhere").debug("a detail")

    monkeypatch.setattr("midlayer_embed.cli.select._select", logs)
    assert main(["select", "model", kind]) == 0
    assert ("a detail" in capsys.readouterr().err) is (kind == "--verbose")


@pytest.mark.process
@pytest.mark.parametrize("package", ["midlayer_embed", "leaderboard"])
def test_a_package_runs_as_its_program(package: str) -> None:
    code = f"import runpy, sys; sys.argv[1:] = ['--version']; runpy.run_module({package!r}, run_name='__main__')"
    said = forks.run([sys.executable, "-c", code])
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.startswith("midlayer-")


def test_a_shell_is_told_the_values_of_options(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    argcomplete = pytest.importorskip("argcomplete")
    for line, expected in (
        ("midlayer-embed sel", ["select "]),
        ("midlayer-embed select m --criterion min-d", ["min-dime "]),
        ("midlayer-embed recipe m --for cl", ["classification", "clustering"]),
        ("midlayer-embed recipe m --criterion dr", ["drop-retrieval "]),
        ("midlayer-embed recipe m --templates ec", ["echo "]),
        ("midlayer-embed recipe m --poolings wei", ["weightedmean "]),
    ):
        with (tmp_path / "answer").open("w") as answer:
            monkeypatch.setattr(argcomplete.CompletionFinder, "_init_debug_stream", lambda self: None)
            monkeypatch.setenv("_ARGCOMPLETE", "1")
            monkeypatch.setenv("COMP_LINE", line)
            monkeypatch.setenv("COMP_POINT", str(len(line)))
            monkeypatch.setenv("_ARGCOMPLETE_IFS", "\n")
            finder = argcomplete.CompletionFinder()
            monkeypatch.setattr(
                argcomplete,
                "autocomplete",
                lambda parser, finder=finder, answer=answer: finder(parser, output_stream=answer, exit_method=_stop),
            )
            with pytest.raises(SystemExit):
                main([])
        assert (tmp_path / "answer").read_text().split("\n") == expected


def _stop(code: int) -> None:
    raise SystemExit(code)
