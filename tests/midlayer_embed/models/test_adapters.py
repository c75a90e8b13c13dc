import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import (
    IA3Config,
    LoHaConfig,
    LoKrConfig,
    LoraConfig,
    OFTConfig,
    PeftModel,
)
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer
from support.tiny_models import ADAPTER_WEIGHTS
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.models import adapters

_CAUSAL = {"head": AutoModelForCausalLM, "task_type": "CAUSAL_LM"}

MakeAdapter = Callable[..., Path]


@pytest.fixture
def merged_by_peft(tmp_path: Path) -> Callable[..., Path]:
    """A function that merges adapters into a whole model, one after the other, by nothing but peft."""

    def merge(base: Path, *adapters: Path, head: Any = AutoModel) -> Path:
        model = head.from_pretrained(base)
        for adapter in adapters:
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        folder = tmp_path / f"merged-{base.name}"
        shutil.copytree(base, folder, dirs_exist_ok=True)
        (model if head is AutoModel else model.base_model).save_pretrained(folder)
        return folder

    return merge


def _check_against(merged: Path, base: Path, given: list[Path], sentences: list[str], atol: float = 1e-5) -> np.ndarray:
    """Every layer of both encoders equals that of a model whose weights peft has merged; returns the vectors."""
    expected = LayerwiseEncoder(merged).encode(sentences)
    every = LayerwiseEncoder(base, adapters=given).encode(sentences)
    np.testing.assert_allclose(every, expected, atol=atol)
    for layer in range(4):
        vectors = MidLayerEncoder(base, layer, adapters=given).encode(sentences)
        np.testing.assert_allclose(vectors, expected[:, layer], atol=atol)
    assert (np.abs(expected - LayerwiseEncoder(base).encode(sentences)).max(axis=(0, 2))[1:] > 1e-3).all()
    return every


@pytest.mark.parametrize(
    ("name", "head", "targets"),
    [
        ("llama", AutoModel, ["q_proj", "down_proj"]),
        ("llama", AutoModelForCausalLM, ["q_proj", "down_proj"]),
        ("llama", AutoModelForSequenceClassification, ["q_proj", "down_proj"]),
        ("gpt_neox", AutoModelForCausalLM, ["query_key_value", "dense"]),
        ("opt", AutoModelForCausalLM, ["q_proj", "fc1"]),
        ("gpt2", AutoModelForCausalLM, ["c_attn"]),
        ("mamba", AutoModelForCausalLM, ["in_proj", "x_proj", "embeddings"]),
        ("bert", AutoModel, ["query", "dense"]),
        ("bert", AutoModelForMaskedLM, ["query", "dense"]),
        ("albert", AutoModelForMaskedLM, ["query", "ffn"]),
    ],
)
def test_two_adapters_are_merged_in_order_as_peft_merges_them(
    tiny_model: Callable[[str], Path],
    make_adapter: MakeAdapter,
    merged_by_peft: Callable[..., Path],
    sentences: list[str],
    name: str,
    head: Any,
    targets: list[str],
) -> None:
    base = tiny_model(name)
    fan_in = {"fan_in_fan_out": True} if name == "gpt2" else {}
    if head is AutoModelForMaskedLM:  # whose own dense layers would be adapted, too
        fan_in["exclude_modules"] = r"cls\..*|predictions\..*"
    one = make_adapter(base, head=head, seed=1, target_modules=targets, **fan_in)
    other = make_adapter(base, head=head, seed=2, target_modules=targets[:1], use_rslora=True, **fan_in)
    _check_against(merged_by_peft(base, one, other, head=head), base, [one, other], sentences)


def test_an_adapter_of_the_base_model_and_one_of_a_causal_model_go_together(
    llama_folder: Path, make_adapter: MakeAdapter, merged_by_peft: Callable[..., Path], sentences: list[str]
) -> None:
    one = make_adapter(llama_folder, seed=1)
    other = make_adapter(llama_folder, seed=2, **_CAUSAL)
    assert any(key.startswith("base_model.model.layers.") for key in load_file(one / ADAPTER_WEIGHTS))
    assert any(key.startswith("base_model.model.model.layers.") for key in load_file(other / ADAPTER_WEIGHTS))
    halfway = merged_by_peft(llama_folder, one)
    whole = merged_by_peft(halfway, other, head=AutoModelForCausalLM)
    _check_against(whole, llama_folder, [one, other], sentences)


def test_order_matters_where_it_must(
    llama_folder: Path, make_adapter: MakeAdapter, merged_by_peft: Callable[..., Path], sentences: list[str]
) -> None:
    one = make_adapter(llama_folder, seed=1)
    other = make_adapter(llama_folder, seed=2, use_dora=True)  # scales rows to a length
    there = _check_against(merged_by_peft(llama_folder, one, other), llama_folder, [one, other], sentences)
    back = _check_against(merged_by_peft(llama_folder, other, one), llama_folder, [other, one], sentences)
    assert np.abs(there - back).max() > 1e-3


@pytest.mark.parametrize(
    ("config", "entries"),
    [
        # Names and patterns of names as the model with a head has them.
        (
            LoraConfig,
            {
                **_CAUSAL,
                "target_modules": r"model\.layers\.\d+\.self_attn\.(q|v)_proj",
                "rank_pattern": {"model.layers.1.self_attn.q_proj": 2},
                "alpha_pattern": {r"^model\.layers\.0\.self_attn\.v_proj": 64},
            },
        ),
        (LoraConfig, {**_CAUSAL, "target_modules": "all-linear"}),
        (LoraConfig, {**_CAUSAL, "target_modules": ["q_proj", "lm_head", "embed_tokens"]}),
        (LoraConfig, {**_CAUSAL, "modules_to_save": ["embed_tokens", "lm_head", "norm"]}),
        (LoraConfig, {**_CAUSAL, "trainable_token_indices": {"embed_tokens": [5, 60, 70]}}),
        (LoraConfig, {**_CAUSAL, "layers_to_transform": [0, 2]}),
        (LoraConfig, {"init_lora_weights": "pissa"}),
        (LoraConfig, {"use_dora": True, "bias": "lora_only"}),
        (LoHaConfig, {}),
        (LoKrConfig, {}),
        (IA3Config, {"r": None, "feedforward_modules": ["down_proj"]}),
        (OFTConfig, {"r": 0, "oft_block_size": 4, "target_modules": ["q_proj", "v_proj"]}),
    ],
    ids=[
        "patterns",
        "all-linear",
        "embeddings",
        "saved",
        "tokens",
        "layers",
        "pissa",
        "dora",
        *["loha", "lokr", "ia3", "oft"],
    ],
)
def test_every_kind_is_merged_as_peft_merges_it(
    llama_folder: Path,
    make_adapter: MakeAdapter,
    merged_by_peft: Callable[..., Path],
    sentences: list[str],
    config: Any,
    entries: dict[str, Any],
) -> None:
    given = {key: value for key, value in {"r": 4, **entries}.items() if value is not None}
    if "r" not in given:
        config, given = (lambda r, **rest: IA3Config(**rest)), given
    head = given.get("head", AutoModel)
    adapter = make_adapter(llama_folder, config, **given)
    _check_against(merged_by_peft(llama_folder, adapter, head=head), llama_folder, [adapter], sentences)


def test_mixtures_of_experts_take_adapters_of_a_causal_model(
    make_model: Callable[..., Path],
    make_adapter: MakeAdapter,
    merged_by_peft: Callable[..., Path],
    sentences: list[str],
) -> None:
    base = make_model("mixtral")  # whose names peft converts from those of older transformers
    adapter = make_adapter(base, target_modules=["q_proj", "o_proj"], **_CAUSAL)
    _check_against(merged_by_peft(base, adapter, head=AutoModelForCausalLM), base, [adapter], sentences)


def test_what_is_saved_is_stock_and_holds_the_merged_weights(
    llama_folder: Path,
    make_adapter: MakeAdapter,
    merged_by_peft: Callable[..., Path],
    sentences: list[str],
    tmp_path: Path,
) -> None:
    given = [make_adapter(llama_folder, seed=1), make_adapter(llama_folder, seed=2, **_CAUSAL)]
    encoder = MidLayerEncoder(llama_folder, 2, adapters=given, bidirectional=True)
    encoder.save_pretrained(str(tmp_path / "out"))
    assert not list((tmp_path / "out").glob("adapter*"))
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert saved.keys() == {
        key for key in load_file(llama_folder / "model.safetensors") if not key.startswith("layers.2.")
    }
    base = load_file(llama_folder / "model.safetensors")
    added = load_file(given[0] / ADAPTER_WEIGHTS), load_file(given[1] / ADAPTER_WEIGHTS)
    module = "layers.1.self_attn.q_proj"
    delta = sum(
        weights[f"{prefix}.{module}.lora_B.weight"] @ weights[f"{prefix}.{module}.lora_A.weight"] * 8 / 4
        for prefix, weights in zip(("base_model.model", "base_model.model.model"), added, strict=True)
    )
    torch.testing.assert_close(saved[f"{module}.weight"], base[f"{module}.weight"] + delta)
    plain = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    np.testing.assert_allclose(plain.encode(sentences), encoder.encode(sentences), atol=1e-6)
    every = LayerwiseEncoder(llama_folder, adapters=given, bidirectional=True).encode(sentences)
    np.testing.assert_allclose(plain.encode(sentences), every[:, 2], atol=1e-5)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "merged into the weights, in this order: adapter-1, adapter-2" in card
    assert "made bidirectional" in card


def test_no_peft_module_stays_behind_and_blocks_above_are_never_made(
    llama_folder: Path, make_adapter: MakeAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = make_adapter(llama_folder)
    read: list[str] = []
    original = adapters._AdapterWeights.read
    monkeypatch.setattr(adapters._AdapterWeights, "read", lambda self, keys: read.extend(keys) or original(self, keys))
    model = MidLayerEncoder(llama_folder, 1, adapters=[adapter]).transformers_model
    plain = MidLayerEncoder(llama_folder, 1).transformers_model
    assert [type(module) for module in model.modules()] == [type(module) for module in plain.modules()]
    assert {name: weight.shape for name, weight in model.named_parameters()} == {
        name: weight.shape for name, weight in plain.named_parameters()
    }
    assert all(weight.requires_grad for weight in model.parameters())  # it may be trained further
    assert not hasattr(model, "peft_config")
    assert len(read) == 6 and all(".layers.0." in key for key in read)
    read.clear()
    MidLayerEncoder(llama_folder, 0, adapters=[adapter])  # none of whose weights is left
    assert read == []


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sums_are_made_in_float32_and_rounded_once(
    llama_folder: Path, make_adapter: MakeAdapter, merged_by_peft: Callable[..., Path], dtype: str
) -> None:
    given = [make_adapter(llama_folder, seed=seed) for seed in (1, 2)]
    merged = AutoModel.from_pretrained(merged_by_peft(llama_folder, *given), dtype=getattr(torch, dtype))
    for found in (
        LayerwiseEncoder(llama_folder, adapters=given, dtype=dtype).backbone.model,
        MidLayerEncoder(llama_folder, 3, adapters=given, dtype=dtype).transformers_model,
    ):
        expected = {**dict(merged.named_parameters()), **dict(merged.named_buffers())}
        for name, value in {**dict(found.named_parameters()), **dict(found.named_buffers())}.items():
            assert value.dtype == expected[name].dtype
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
