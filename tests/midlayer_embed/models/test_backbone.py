import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.architectures import GROUPED, VOCABULARY
from support.tiny_models import save_model
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.models.checkpoint import find_checkpoint


@pytest.fixture
def copy(llama_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama_folder, tmp_path / "copy"))


def test_a_folder_is_named_after_itself_and_its_content(copy: Path, llama_folder: Path) -> None:
    checkpoint = find_checkpoint(copy)
    assert checkpoint.name == "local/copy"
    assert checkpoint.revision == find_checkpoint(llama_folder).revision
    assert checkpoint.n_blocks == 3


def test_other_weights_are_another_revision(copy: Path, llama_folder: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    weights["norm.weight"] += 1
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert find_checkpoint(copy).revision != find_checkpoint(llama_folder).revision


def test_limit_is_the_smaller_of_the_models_and_512(tiny_folders: dict[str, Path]) -> None:
    assert LayerwiseEncoder(tiny_folders["llama"]).max_seq_length == 128
    assert LayerwiseEncoder(tiny_folders["mamba"]).max_seq_length == 512


@pytest.mark.parametrize(
    ("file", "key"), [("sentence_bert_config.json", "max_seq_length"), ("tokenizer_config.json", "model_max_length")]
)
def test_a_sentence_transformers_folder_keeps_its_own_limit(copy: Path, file: str, key: str) -> None:
    (copy / "modules.json").write_text("[]")
    config = json.loads((copy / file).read_text()) if (copy / file).exists() else {}
    (copy / file).write_text(json.dumps({**config, key: 77}))
    assert LayerwiseEncoder(copy).max_seq_length == 77


def test_mistakes_about_the_model_are_named(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for model, message in [
        (tmp_path / "nowhere", "there is no folder"),
        (tmp_path / "empty", "holds no config.json"),
        (tmp_path / "file", "is a file"),
        ("", "got an empty string"),
        (3, "got int"),
    ]:
        with pytest.raises(ValueError, match=message):
            find_checkpoint(model)  # type: ignore[arg-type]


def test_a_model_without_blocks_has_no_layers(llama_folder: Path, tmp_path: Path) -> None:
    MidLayerEncoder(llama_folder, 0).save_pretrained(str(tmp_path), create_model_card=False)
    with pytest.raises(ValueError, match="has no blocks, so there is no layer to choose"):
        find_checkpoint(tmp_path)


def test_weights_that_are_missing_are_named_and_not_made_up(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    del weights["layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    for load in (LayerwiseEncoder, lambda folder: MidLayerEncoder(folder, 2)):
        with pytest.raises(ValueError, match=r"lacks weights .*layers\.1\.mlp\.up_proj\.weight"):
            load(copy)
    MidLayerEncoder(copy, 1)  # which is below the weight in question


def test_weights_inside_the_model_that_its_config_does_not_ask_for_are_named(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    for prefix in ("", "model."):  # as the base model saves them, and as one with a head does
        renamed = {prefix + name: weight for name, weight in weights.items()}
        save_file(
            {**renamed, f"{prefix}layers.0.self_attn.q_proj.bias": torch.ones(32)},
            copy / "model.safetensors",
            metadata={"format": "pt"},
        )
        for load in (LayerwiseEncoder, lambda folder: MidLayerEncoder(folder, 1)):
            with pytest.raises(ValueError, match=r"does not ask for, such as .*layers\.0\.self_attn\.q_proj\.bias"):
                load(copy)
        MidLayerEncoder(copy, 0)  # without the block in question


@pytest.mark.parametrize(
    ("name", "head"),
    [("gpt_neox", AutoModelForCausalLM), ("bert", AutoModelForMaskedLM), ("albert", AutoModelForMaskedLM)],
)
def test_heads_play_no_part(
    tiny_model: Callable[[str], Path], sentences: list[str], tmp_path: Path, name: str, head: Any
) -> None:
    folder = Path(shutil.copytree(tiny_model(name), tmp_path / "headed"))
    head.from_pretrained(tiny_model(name)).save_pretrained(folder)
    headless = LayerwiseEncoder(tiny_model(name)).encode(sentences)
    np.testing.assert_allclose(LayerwiseEncoder(folder).encode(sentences), headless, atol=1e-6)
    np.testing.assert_allclose(MidLayerEncoder(folder, 2).encode(sentences), headless[:, 2], atol=1e-5)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("dtype", "int8"),
        ("dtype", "nonsense"),
        ("dtype", "float8_e4m3fn"),
        ("dtype", torch.float8_e4m3fn),
        ("device", "toaster"),
        ("max_seq_length", 0),
        ("pooling_mode", "sum"),
        ("final_norm", "no"),
        ("trust_remote_code", "false"),
        ("bidirectional", 0),
    ],
)
def test_bad_arguments_are_named(llama_folder: Path, argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{argument}: .*{value}"):
        LayerwiseEncoder(llama_folder, **{argument: value})  # type: ignore[arg-type]


_MODULES = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]
# The most tokens that tiny models with a table of 128 positions take; the first rows of RoBERTa's are never used.
_TABLES = {"bert": 128, "albert": 128, "distilbert": 128, "roberta": 126, "xlm-roberta": 126, "gpt2": 128, "opt": 128}


@pytest.mark.parametrize("name", _TABLES)
def test_a_limit_above_the_positions_is_told_before_the_weights_are_read(
    name: str, tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, most = tiny_model(name), _TABLES[name]
    long = "word and more words in a row of many " * 60
    assert LayerwiseEncoder(folder).max_seq_length == most
    for limit in (None, most):
        assert np.isfinite(LayerwiseEncoder(folder, max_seq_length=limit).encode([long])).all()
    with monkeypatch.context() as patch:
        _without_weights(patch)
        message = f"^max_seq_length: this {name} model has {most} positions, got {most + 1}$"
        for load in (LayerwiseEncoder, _first_layer):
            with pytest.raises(ValueError, match=message):
                load(folder, max_seq_length=most + 1)
        own = Path(shutil.copytree(folder, tmp_path / "own"))
        (own / "modules.json").write_text(json.dumps(_MODULES))
        (own / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": most + 1}))
        for load in (LayerwiseEncoder, _first_layer):
            with pytest.raises(ValueError, match=f"has {most} positions, the own limit of {own} is {most + 1}$"):
                load(own)
    assert LayerwiseEncoder(own, max_seq_length=most).max_seq_length == most


def _without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets nobody read weights."""
    monkeypatch.setattr(PreTrainedModel, "from_pretrained", lambda *_, **__: pytest.fail("the weights are read"))


def _first_layer(folder: Path, **options: Any) -> MidLayerEncoder:
    return MidLayerEncoder(folder, 1, **options)


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "mamba", "falcon-alibi", "t5", "modernbert"])
def test_models_without_a_table_of_positions_go_beyond_those_of_their_config(
    name: str, tiny_model: Callable[[str], Path]
) -> None:
    long = "word and more words in a row of many " * 60
    for load in (LayerwiseEncoder, _first_layer):
        encoder = load(tiny_model(name), max_seq_length=200)
        assert encoder.max_seq_length == 200
        assert np.isfinite(encoder.encode([long])).all()


@pytest.mark.parametrize(
    ("model_type", "entries", "most"),
    [
        ("mpnet", {**GROUPED, "pad_token_id": 1}, 126),
        ("gptj", {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "rotary_dim": 8}, 64),
        ("ctrl", {"n_embd": 32, "n_layer": 3, "n_head": 4, "dff": 64, "n_positions": 64}, 64),
        ("mpt", {"d_model": 32, "n_layers": 3, "n_heads": 4, "max_seq_len": 64}, 64),
        ("biogpt", GROUPED, 128),
    ],
)
def test_positions_of_architectures_that_are_found_by_structure(
    model_type: str, entries: dict[str, Any], most: int, tmp_path: Path
) -> None:
    folder = save_model(model_type, {"vocab_size": VOCABULARY, **entries}, tmp_path / "model")
    encoder = LayerwiseEncoder(folder)
    assert encoder.max_seq_length == most
    assert np.isfinite(encoder.encode(["word and more words in a row of many " * 60])).all()
    with pytest.raises(ValueError, match=f"has {most} positions, got {most + 1}$"):
        LayerwiseEncoder(folder, max_seq_length=most + 1)


def test_a_limit_below_the_tokens_that_every_text_has_is_told(tiny_folders: dict[str, Path]) -> None:
    """The tokenizer would not truncate at all."""
    for load in (LayerwiseEncoder, _first_layer):
        with pytest.raises(ValueError, match="^max_seq_length: the tokenizer adds 2 tokens to every text, got 1$"):
            load(tiny_folders["bert"], max_seq_length=1)
        assert load(tiny_folders["llama"], max_seq_length=1).max_seq_length == 1


def test_a_limit_that_is_set_later_is_checked_alike(tiny_folders: dict[str, Path]) -> None:
    encoder = _first_layer(tiny_folders["bert"])
    for limit, message in (
        (129, "has 128 positions, got 129"),
        (1, "adds 2 tokens"),
        (0, "at least 1"),
        ("5", "an int"),
    ):
        with pytest.raises(ValueError, match=f"^max_seq_length: .*{message}"):
            encoder.max_seq_length = limit  # type: ignore[assignment]
    assert encoder.max_seq_length == 128
    encoder.max_seq_length = 5
    assert encoder.recipe.max_seq_length == 5
    encoder.max_seq_length = None  # type: ignore[assignment]
    assert encoder.max_seq_length == 128
    assert np.isfinite(encoder.encode(["many words " * 200])).all()


def test_a_tokenizer_that_fails_on_what_it_does_not_know_is_told(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folders["bert"], tmp_path / "unknown"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    words = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "text": 4}
    tokenizer["model"] = {"type": "WordPiece", "unk_token": "[UNK]", "vocab": words, "max_input_chars_per_word": 9}
    tokenizer["model"]["continuing_subword_prefix"] = "##"
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    for load in (LayerwiseEncoder, _first_layer):
        with pytest.raises(ValueError, match="has no tokenizer that can be used .*Missing \\[UNK\\] token"):
            load(folder)


@pytest.fixture
def add_token(tiny_folders: dict[str, Path], tmp_path: Path) -> Callable[..., Path]:
    """A function that saves a model whose tokenizer has a token more than the model, added in some way."""

    def add(family: str, how: str, *args: Any, **kwargs: Any) -> Path:
        folder = Path(shutil.copytree(tiny_folders[family], tmp_path / "more"))
        tokenizer = AutoTokenizer.from_pretrained(folder)
        getattr(tokenizer, how)(*args, **kwargs)
        tokenizer.save_pretrained(folder)
        return folder

    return add


@pytest.mark.parametrize("family", ["bert", "llama"])
@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("add_tokens", ["zzz"]),
        ("add_special_tokens", {"additional_special_tokens": ["zzz"]}),
        ("add_special_tokens", {"pad_token": "zzz"}),
    ],
    ids=str,
)
def test_a_tokenizer_of_more_tokens_than_the_model_is_told_before_the_weights_are_read(
    family: str, how: str, what: Any, add_token: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = add_token(family, how, what)
    _without_weights(monkeypatch)
    for load in (LayerwiseEncoder, _first_layer):
        with pytest.raises(ValueError, match="has 401 tokens, up to 'zzz', but the model has embeddings for 400;"):
            load(folder)


def test_a_special_token_that_no_text_has_is_told_once_a_text_has_it(add_token: Callable[..., Path]) -> None:
    """As the image token of Gemma 3's text models, which have no embedding for it."""
    folder = add_token("llama", "add_tokens", ["<image>"], special_tokens=True)
    for load in (LayerwiseEncoder, _first_layer):
        encoder = load(folder)
        assert np.isfinite(encoder.encode(["a text", "image"])).all()
        message = "holds the token '<image>', number 400, but the model has embeddings for 400 tokens$"
        with pytest.raises(ValueError, match=message):
            encoder.encode(["a text", "an <image>"])


def test_token_types_that_would_be_dropped_are_told(tiny_folders: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folders["bert"], tmp_path / "types"))
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"]["single"][1]["Sequence"]["type_id"] = 1
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    names = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "model_input_names": names}))
    for load in (LayerwiseEncoder, _first_layer):
        with pytest.raises(ValueError, match="gives single texts other token types than 0"):
            load(folder)
