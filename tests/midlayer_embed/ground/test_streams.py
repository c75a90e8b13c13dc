import io
import os
import sys

import pytest

from midlayer_embed.ground.streams import (
    flush_output,
    output_has_no_reader,
    output_width,
    say,
    standard_streams,
)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "cp437", "utf-8", "utf-16", "shift_jis"])
@pytest.mark.parametrize("errors", ["strict", "ignore"])
def test_any_text_is_printed_in_any_encoding(encoding: str, errors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn as what is like it, other letters as escapes; lone surrogates, as in names of files, too."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors=errors)
    monkeypatch.setattr(sys, "stdout", stream)
    with standard_streams():
        print("█ ─ … 数 é \udcff")
        stream.flush()
    assert stream.errors == errors
    said = stream.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    spelt = zip(said.split(), "█─…数é", ("#", "-", "...", "\\u6570", "\\xe9"), strict=False)
    assert all(found in (letter, plain) for found, letter, plain in spelt)
    assert said.rstrip().endswith("\\udcff")


def test_streams_that_were_closed_are_mute(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with standard_streams():
        print("nobody sees this")
        say("nor this")
        assert sys.stdin.read() == ""
        flush_output()


def test_a_pipe_is_asked_whether_it_has_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert not output_has_no_reader()
        os.close(reader)
        assert output_has_no_reader()
        print("a text")
        with pytest.raises(BrokenPipeError):
            flush_output()
        flush_output()  # dropped: the interpreter will not try it again at its end


def test_what_is_no_file_has_a_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    assert not output_has_no_reader()


def test_the_width_is_that_of_columns_or_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    monkeypatch.delenv("COLUMNS", raising=False)
    assert output_width() is None
    monkeypatch.setenv("COLUMNS", "40")
    assert output_width() == 40
