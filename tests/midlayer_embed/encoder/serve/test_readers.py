"""What is told of each reader, by the files of a folder; and the command that tells it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from midlayer_embed import MidLayerEncoder
from midlayer_embed.cli.program import main
from midlayer_embed.encoder.serve.readers import read_by_others

pytestmark = pytest.mark.model
_OLDER = "sentence-transformers 3.4 to 5.3"
_READERS = ["sentence-transformers 6", _OLDER, "TEI", "vLLM", "llama.cpp", "transformers"]


@pytest.fixture(scope="module")
def good(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("good") / "out"
    MidLayerEncoder(llama_folder, 2).save_pretrained(str(out))
    return out


def _edited(folder: Path, name: str, **entries: Any) -> dict[str, tuple[str, str]]:
    """What is told once entries of a file are others; those that are None are left out."""
    said = {**json.loads((folder / name).read_text()), **entries}
    (folder / name).write_text(json.dumps({key: value for key, value in said.items() if value is not None}))
    return {reading.reader: (reading.verdict, reading.words) for reading in read_by_others(folder)}


def test_a_common_export_is_right_for_all_but_llama_cpp_which_needs_an_option(good: Path) -> None:
    readings = read_by_others(good)
    assert [reading.reader for reading in readings] == _READERS
    verdicts = [reading.verdict for reading in readings]
    assert verdicts == ["right", "right", "right", "right", "with an option", "right"]
    assert str(readings[4]) == "llama.cpp: with an option: llama-server --pooling mean"
    assert str(readings[0]) == "sentence-transformers 6: right"


@pytest.mark.parametrize(
    ("file", "entries", "reader", "verdict", "words"),
    [
        ("config.json", {"rope_theta": None}, _OLDER, "other vectors", "lacks rope_theta"),
        ("config.json", {"rope_theta": 5.0}, _OLDER, "other vectors", "rope_theta"),
        ("config.json", {"is_causal": False}, _OLDER, "other vectors", "transformers 4 does not read"),
        ("config.json", {"is_causal": False}, "llama.cpp", "other vectors", "causally"),
        ("config.json", {"model_type": "umt5"}, _OLDER, "refused", "UMT5"),
        ("config.json", {"model_type": "umt5"}, "vLLM", "refused", "T5"),
        ("config.json", {"model_type": "gpt_neox"}, "TEI", "refused", "gpt_neox"),
        ("config.json", {"model_type": "gpt_neox"}, "llama.cpp", "refused", "gpt_neox"),
        ("config.json", {"model_type": "gemma3_text"}, "llama.cpp", "other vectors", "EmbeddingGemma"),
        ("config.json", {"model_type": "mamba"}, "vLLM", "right", "compare some vectors"),
        ("config.json", {"model_type": "qwen3"}, "TEI", "refused", "use_sliding_window"),
        ("config.json", {"rope_scaling": {"rope_type": "linear", "factor": 2}}, "TEI", "refused", "scaling"),
        ("tokenizer_config.json", {"tokenizer_class": "TokenizersBackend"}, _OLDER, "refused", "TokenizersBackend"),
        ("sentence_bert_config.json", {"modality_config": {}}, _OLDER, "refused", "newer versions"),
        ("sentence_bert_config.json", {"max_seq_length": None}, "TEI", "refused", "max_seq_length"),
        ("1_Pooling/config.json", {"word_embedding_dimension": None}, _OLDER, "refused", "Pooling"),
        ("1_Pooling/config.json", {"embedding_dimension": 32}, _OLDER, "refused", "Pooling"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": None}, "TEI", "with an option", "--pooling mean"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": None}, "vLLM", "with an option", "MEAN"),
        ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}, "TEI", "other vectors", "one pooling alone"),
        ("config_sentence_transformers.json", {"truncate_dim": 8}, _OLDER, "other vectors", "all dimensions"),
        ("config_sentence_transformers.json", {"truncate_dim": 8}, "vLLM", "other vectors", "all dimensions"),
        (
            *("config_sentence_transformers.json", {"prompts": {"q": "A query: "}, "default_prompt_name": "q"}),
            *("TEI", "with an option", "--default-prompt-name q"),
        ),
        (
            *("config_sentence_transformers.json", {"prompts": {"q": "A query: "}, "default_prompt_name": "q"}),
            *("vLLM", "with an option", "before each text"),
        ),
        (
            *("config_sentence_transformers.json", {"requirements": {"transformers": ">=5.18"}}),
            *("sentence-transformers 6", "right", "transformers >=5.18"),
        ),
    ],
)
def test_what_a_file_says_is_told(
    good: Path, tmp_path: Path, file: str, entries: dict[str, Any], reader: str, verdict: str, words: str
) -> None:
    told = _edited(Path(shutil.copytree(good, tmp_path / "out")), file, **entries)[reader]
    assert told[0] == verdict and words in told[1]


@pytest.mark.parametrize(("kind", "words"), [("LayerNorm", "LayerNorm"), ("Dense", "")])
def test_modules_after_pooling_are_told(good: Path, tmp_path: Path, kind: str, words: str) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "out"))
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": f"2_{kind}", "type": f"sentence_transformers.models.{kind}"})
    (folder / "modules.json").write_text(json.dumps(modules))
    told = {reading.reader: reading for reading in read_by_others(folder)}
    expected = "right" if kind == "Dense" else "other vectors"
    assert told["TEI"].verdict == told["vLLM"].verdict == expected
    assert words in told["TEI"].words and words in told["vLLM"].words
    assert told["llama.cpp"].verdict == "other vectors"


def test_gemma_2_alone_needs_eager_attention(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    MidLayerEncoder(tiny_model("gemma2"), 2).save_pretrained(str(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "sentence_bert_config.json").read_text())["model_args"] == {
        "attn_implementation": "eager"
    }
    assert 'attn_implementation="eager"' in read_by_others(tmp_path / "out")[-1].words


def test_the_command_tells_it_of_a_folder_that_was_saved_before(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in good.rglob("*"))
    assert main(["export", str(good), "--check"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(reading) for reading in read_by_others(good)]
    assert sorted(path.name for path in good.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--check", "--layer", "2"], "OUT: expected a folder to save the layer to, got none"),
        ([], "OUT: required to save a layer; only --check of a saved folder does without"),
        (["{out}"], "--layer: required to save a layer; only --check of a saved folder does without"),
        (["{out}", "--check"], "--layer: required to save a layer; only --check of a saved folder does without"),
        (["--check"], "holds no modules.json, so it is not a sentence-transformers folder"),
    ],
)
def test_mistakes_are_one_line(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    given = [argument.format(out=tmp_path / "out") for argument in arguments]
    assert main(["export", str(llama_folder), *given]) == 2
    said = capsys.readouterr().err
    assert message in said and len(said.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ("{", "is not valid JSON"),
        ("{}", "is not a list of modules"),
        ("[{}]", "is not a list of modules"),
        ("[]", "expected a Transformer and a Pooling"),
    ],
)
def test_a_damaged_folder_is_named(good: Path, tmp_path: Path, modules: str, message: str) -> None:
    folder = Path(shutil.copytree(good, tmp_path / "out"))
    (folder / "modules.json").write_text(modules)
    with pytest.raises(ValueError, match=message):
        read_by_others(folder)
