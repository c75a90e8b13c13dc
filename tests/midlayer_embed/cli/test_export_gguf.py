"""`export MODEL OUT.gguf`, without a model that is loaded."""

from pathlib import Path

import pytest

pytest.importorskip("gguf", reason="the gguf extra is not installed")

from support.gguf.tiny import fields_of, tiny_gguf

from midlayer_embed.cli.program import main
from midlayer_embed.encoder.serve import gguf_cut


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tiny_gguf(tmp_path / "models" / "tiny.gguf", untied=True)


@pytest.mark.parametrize(("layer", "number"), [("2", 2), ("-3", 1), ("0.7", 2), ("-1", 3)])
def test_the_command_cuts_and_says_so(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], layer: str, number: int
) -> None:
    out = tmp_path / "out.gguf"
    assert main(["export", str(source), str(out), "--layer", layer, "--name", "org/mine", "--how-chosen", "so"]) == 0
    size = out.stat().st_size / 1e6
    said = f"{out}: layer {number} of 3, {size:.1f} MB, without output.weight; llama.cpp pools by mean\n"
    assert capsys.readouterr().out == said
    fields = fields_of(out)
    assert fields["general.name"][1] == f"org/mine, layer {number} of 3"
    assert fields["midlayer_embed.how_chosen"][1] == "so"


def test_a_file_is_named_in_its_folder_too(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    arguments = ["export", str(source.parent), str(out), "--gguf-file", "tiny.gguf", "--layer", "1"]
    assert main([*arguments, "--pooling", "lasttoken"]) == 0
    assert fields_of(out)["llama.pooling_type"][1] == 3
    assert main(arguments) == 2
    assert main([*arguments, "--overwrite"]) == 0
    assert fields_of(out)["llama.pooling_type"][1] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--raw"], "final_norm: llama.cpp pools the states after the final norm; expected --normed, got --raw"),
        (["--template", "eol"], "template: a GGUF file cannot say it"),
        (["--transform", "center"], "transform: a GGUF file cannot say it"),
        (["--transform-texts", "a.txt"], "transform_texts: a GGUF file cannot say it"),
        (["--dim", "3"], "dim: a GGUF file cannot say it"),
        (["--max-seq-length", "9"], "max_seq_length: a GGUF file cannot say it"),
        (["--bidirectional"], "bidirectional: a GGUF file cannot say it"),
        (["--adapter", "org/a"], "adapters: a GGUF file cannot say it"),
        (["--dtype", "float16"], "dtype: the weights of a GGUF file keep their types"),
        (["--revision", "main"], "revision: a GGUF file cannot say it"),
        (["--license", "mit"], "license: a GGUF file cannot say it"),
        (["--base-model", "org/a"], "base_model: a GGUF file cannot say it"),
        (["--check"], "check: a GGUF file cannot say it"),
        (["--site", "mlp_out"], "site: only a layer (resid_post) can be exported"),
        (["--pooling", "weightedmean"], "pooling_mode: llama.cpp has mean, cls, lasttoken, got 'weightedmean'"),
        (["--pooling", "cls+mean"], "pooling_mode: llama.cpp has mean, cls, lasttoken, got 'cls+mean'"),
        (["--layer", "0"], "layer: 0 is what enters block 1, and llama.cpp loads no model without a block"),
        (["--layer", "min-dime"], "texts: min-dime needs texts"),
        (["--column", "a"], "column: only --texts FILE"),
    ],
)
def test_what_a_gguf_file_cannot_say_is_one_line(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["export", str(source), str(tmp_path / "out.gguf"), "--layer", "2", *options]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["models"]


def test_the_usual_norm_may_be_asked_for(source: Path, tmp_path: Path) -> None:
    assert main(["export", str(source), str(tmp_path / "out.gguf"), "--layer", "2", "--normed"]) == 0


def test_a_cut_that_fails_is_one_line_and_leaves_nothing(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_cut, "write_cut", lambda path, *_: path.write_bytes(b"GGUF" + bytes(20)))
    assert main(["export", str(source), str(tmp_path / "out.gguf"), "--layer", "2"]) == 1
    assert "export: what was written cannot be read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
