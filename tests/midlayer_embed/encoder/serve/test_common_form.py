"""A saved folder is written as older readers know it, wherever a layer can be said so; newer ones read it alike.

What older versions themselves make of such folders is tried by `make test-stacks`.
"""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, LayerNorm, Normalize
from support.architectures import ARCHITECTURES, FAMILIES
from support.tiers import sampled
from support.tiny_models import save_with_modules
from transformers import AutoConfig, AutoTokenizer, ByT5Tokenizer

from midlayer_embed import MidLayerEncoder
from midlayer_embed.errors import InputError

pytestmark = pytest.mark.model
_OLD = "sentence_transformers.models."
# Their second layer has no form that older versions know: raw states, or blocks that they cannot tell apart.
_ROTARY = ("partial_rotary_factor", "rope_theta", "rotary_emb_base", "rotary_pct")
_NEW = ("albert-groups", "opt-projected", "qwen2")


def _load(file: Path) -> Any:
    return json.loads(file.read_text())


def _save(encoder: MidLayerEncoder, folder: Path) -> Path:
    encoder.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize("name", sampled(ARCHITECTURES, *FAMILIES, *_NEW))
def test_every_architecture_is_saved_in_the_common_form_and_read_as_it_was(
    name: str, tiny_model: Callable[[str], Path], sentences: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = MidLayerEncoder(tiny_model(name), 2)
    out = _save(encoder, tmp_path / "out")
    types = [module["type"] for module in _load(out / "modules.json")]
    if name in _NEW:
        assert not any(type_.startswith(_OLD) for type_ in types)
        assert "sentence-transformers" in _load(out / "config_sentence_transformers.json")["requirements"]
    else:
        assert types == [_OLD + "Transformer", _OLD + "Pooling"]
        assert _load(out / "sentence_bert_config.json").keys() <= {"max_seq_length", "do_lower_case", "model_args"}
        assert "requirements" not in _load(out / "config_sentence_transformers.json")
    text = "".join(file.read_text() for file in out.rglob("*.json"))
    assert str(tmp_path) not in text and "is_local" not in text and "local_files_only" not in text
    with caplog.at_level(logging.WARNING, "sentence_transformers"):
        plain = SentenceTransformer(str(out), device="cpu")
    assert not [record for record in caplog.records if record.name.startswith("sentence_transformers")]
    np.testing.assert_allclose(plain.encode(sentences), encoder.encode(sentences), atol=1e-6)
    here, there = encoder[0].model.config.to_dict(), plain[0].model.config.to_dict()
    ignored = ("_name_or_path", "transformers_version")
    changed = {key for key in {*here, *there} if here.get(key) != there.get(key)} - set(ignored)
    # what the older names carry with them
    assert changed <= {"global_attn_every_n_layers", "sliding_window_pattern", "_sliding_window_pattern", *_ROTARY}
    assert AutoTokenizer.from_pretrained(out)(sentences)["input_ids"] == encoder.tokenizer(sentences)["input_ids"]


def test_both_spellings_of_the_config_and_the_pooling_are_written(llama_folder: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(llama_folder, tmp_path / "base"))
    config = {**_load(base / "config.json"), "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}
    (base / "config.json").write_text(json.dumps(config))
    out = _save(MidLayerEncoder(base, 2, pooling_mode="lasttoken"), tmp_path / "out")
    saved = _load(out / "config.json")
    assert saved["rope_theta"] == saved["rope_parameters"]["rope_theta"] == 5e5
    assert saved["torch_dtype"] == saved["dtype"] == "float32"
    pooling = _load(out / "1_Pooling" / "config.json")
    assert pooling["word_embedding_dimension"] == 32 and pooling["pooling_mode"] == "lasttoken"
    flags = {flag: value for flag, value in pooling.items() if flag.startswith("pooling_mode_")}
    assert len(flags) == 6 and [flag for flag, value in flags.items() if value] == ["pooling_mode_lasttoken"]


@pytest.mark.parametrize(
    "options",
    [
        {"final_norm": False},
        {"bidirectional": True},
        {"pooling_mode": "mean+cls"},
        {"truncate_dim": 8},
        {"prompts": {"q": "A query: "}, "include_prompt": False},
    ],
    ids=lambda options: next(iter(options)),
)
def test_what_older_versions_would_read_as_something_else_they_cannot_load(
    llama_folder: Path, sentences: list[str], tmp_path: Path, options: dict[str, Any]
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, **options)
    out = _save(encoder, tmp_path / "out")
    assert not any(module["type"].startswith(_OLD) for module in _load(out / "modules.json"))
    # versions that know the new names but not the requirements stop at this one
    assert "query_length" in _load(out / "sentence_bert_config.json")
    assert _load(out / "config_sentence_transformers.json")["requirements"]["sentence-transformers"] == ">=6.0"
    plain = SentenceTransformer(str(out), device="cpu")
    np.testing.assert_allclose(plain.encode(sentences), encoder.encode(sentences), atol=1e-6)


@pytest.mark.parametrize("mode", ["cls+mean", "cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"])
def test_every_pooling_is_read_as_it_was(llama_folder: Path, sentences: list[str], tmp_path: Path, mode: str) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, pooling_mode=mode)
    out = _save(encoder, tmp_path / "out")
    assert _load(out / "modules.json")[1]["type"] == _OLD + "Pooling"
    plain = SentenceTransformer(str(out), device="cpu")
    np.testing.assert_allclose(plain.encode(sentences), encoder.encode(sentences), atol=1e-6)
    again = MidLayerEncoder(out, -1)
    assert again.recipe.pooling_mode == mode
    np.testing.assert_allclose(again.encode(sentences), encoder.encode(sentences), atol=1e-6)


def test_modules_after_pooling_have_their_older_names(llama_folder: Path, sentences: list[str], tmp_path: Path) -> None:
    whole = save_with_modules(
        llama_folder, tmp_path / "whole", lambda dim: Dense(dim, 8), lambda _: LayerNorm(8), lambda _: Normalize()
    )
    encoder = MidLayerEncoder(whole, -1)
    out = _save(encoder, tmp_path / "out")
    kinds = ["Transformer", "Pooling", "Dense", "LayerNorm", "Normalize"]
    assert [module["type"] for module in _load(out / "modules.json")] == [_OLD + kind for kind in kinds]
    keys = {"in_features", "out_features", "bias", "activation_function"}
    assert _load(out / "2_Dense" / "config.json").keys() == keys
    plain = SentenceTransformer(str(out), device="cpu")
    np.testing.assert_allclose(plain.encode(sentences), encoder.encode(sentences), atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "gemma3", "gpt_neox", "llama", "mamba", "t5"])
def test_a_chat_template_wraps_no_text(
    name: str, tiny_model: Callable[[str], Path], sentences: list[str], tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_model(name), tmp_path / "base"))
    (base / "chat_template.jinja").write_text("{% for m in messages %}a chat {{ m['content'] }} of words{% endfor %}")
    encoder = MidLayerEncoder(base, 2)
    assert encoder.tokenizer.chat_template is not None  # else the test shows nothing
    out = _save(encoder, tmp_path / "out")
    plain = SentenceTransformer(str(out), device="cpu")
    without = MidLayerEncoder(tiny_model(name), 2)
    np.testing.assert_allclose(plain.encode(sentences), without.encode(sentences), atol=1e-6)


def test_the_tokenizer_is_saved_without_what_the_last_call_left_in_it(
    llama_folder: Path, sentences: list[str], tmp_path: Path
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, max_seq_length=8)
    untouched = _save(encoder, tmp_path / "untouched")
    encoder.encode(sentences)
    out = _save(encoder, tmp_path / "out")
    saved = _load(out / "tokenizer.json")
    assert saved["truncation"] is saved["padding"] is None
    assert (out / "tokenizer.json").read_bytes() == (untouched / "tokenizer.json").read_bytes()


def test_a_tokenizer_that_is_more_than_its_json_keeps_its_class(
    tiny_model: Callable[[str], Path], sentences: list[str], tmp_path: Path
) -> None:
    base = Path(shutil.copytree(tiny_model("t5"), tmp_path / "base"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (base / name).unlink()
    ByT5Tokenizer(extra_ids=0).save_pretrained(base)
    encoder = MidLayerEncoder(base, 2)
    out = _save(encoder, tmp_path / "out")
    assert _load(out / "tokenizer_config.json")["tokenizer_class"] == "ByT5Tokenizer"
    assert not any(module["type"].startswith(_OLD) for module in _load(out / "modules.json"))
    plain = SentenceTransformer(str(out), device="cpu")
    np.testing.assert_allclose(plain.encode(sentences), encoder.encode(sentences), atol=1e-6)


def test_tokens_of_the_class_are_tokens_of_the_plain_one(llama_folder: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(llama_folder, tmp_path / "base"))
    said = {**_load(base / "tokenizer_config.json"), "tokenizer_class": "LlamaTokenizer", "add_bos_token": True}
    (base / "tokenizer_config.json").write_text(json.dumps({**said, "additional_special_tokens": ["word"]}))
    encoder = MidLayerEncoder(base, 2)
    out = _save(encoder, tmp_path / "out")
    for text in ("a word", "the weather", "<eos> said aloud"):
        assert AutoTokenizer.from_pretrained(out)(text)["input_ids"] == encoder.tokenizer(text)["input_ids"]


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_half_precision_is_read_in_half_precision(llama_folder: Path, tmp_path: Path, dtype: str) -> None:
    out = _save(MidLayerEncoder(llama_folder, 2, dtype=dtype), tmp_path / "out")
    saved = _load(out / "config.json")
    assert saved["dtype"] == saved["torch_dtype"] == dtype
    plain = SentenceTransformer(str(out), device="cpu")
    assert next(plain.parameters()).dtype == getattr(torch, dtype)


def test_infinity_is_a_number(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    out = _save(MidLayerEncoder(tiny_model("mamba2"), 2), tmp_path / "out")
    assert _load(out / "config.json")["time_step_limit"] == [0.0, float("inf")]
    assert tuple(AutoConfig.from_pretrained(out).time_step_limit) == (0.0, float("inf"))


def test_a_tokenizer_that_would_lose_the_template_when_it_is_loaded_is_not_saved(
    llama_folder: Path, sentences: list[str], tmp_path: Path
) -> None:
    """CodeLlama's builds what it adds to a text anew, on loading and whenever a text has its own special token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    folder = Path(shutil.copytree(llama_folder, tmp_path / "code"))
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>", "<FILL_ME>"]
    backend.train_from_iterator(sentences, trainers.BpeTrainer(vocab_size=200, special_tokens=special))
    backend.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "CodeLlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    encoder = MidLayerEncoder(folder, 2, template="He: {text}.")
    expected = encoder.encode(sentences)
    with pytest.raises(InputError, match="^save: CodeLlamaTokenizer would load another tokenizer than the encoder has"):
        encoder.save_pretrained(str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    np.testing.assert_array_equal(encoder.encode(sentences), expected)
