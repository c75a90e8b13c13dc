import json
import logging
import pickle
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
    PromptTuningConfig,
)
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.cli.program import main
from midlayer_embed.models import adapters
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.options import Source

_WEIGHTS = "adapter_model.safetensors"
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


@pytest.fixture
def lora(llama_folder: Path, make_adapter: MakeAdapter, tmp_path: Path) -> Path:
    """An adapter of the tiny Llama that a test may spoil."""
    return Path(shutil.copytree(make_adapter(llama_folder), tmp_path / "lora"))


def _change_weights(adapter: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    save_file(change(load_file(adapter / _WEIGHTS)), adapter / _WEIGHTS, metadata={"format": "pt"})


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
    assert any(key.startswith("base_model.model.layers.") for key in load_file(one / _WEIGHTS))
    assert any(key.startswith("base_model.model.model.layers.") for key in load_file(other / _WEIGHTS))
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
    added = load_file(given[0] / _WEIGHTS), load_file(given[1] / _WEIGHTS)
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


def _without_place(weights: dict[str, torch.Tensor], old: str, new: str) -> dict[str, torch.Tensor]:
    assert any(old in key for key in weights)
    return {key.replace(old, new): weight for key, weight in weights.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda w: _without_place(w, "0.self_attn.q_proj", "0.self_attn.z_proj"),
            r"layers\.0\.self_attn\.z_proj\.lora_A",
        ),
        (lambda w: _without_place(w, "layers.2.", "layers.3."), r"layers\.3\.mlp\.down_proj\.lora_A"),  # has 3 blocks
        (lambda w: _without_place(w, "lora_A", "lora_C"), r"layers\.0\.mlp\.down_proj\.lora_C"),
        (lambda w: _without_place(w, ".layers.", ".h."), r"base_model\.model\.h\.0"),  # another architecture's
        (lambda w: {**w, "base_model.model.lm_head.weight": torch.ones(2)}, r"base_model\.model\.lm_head\.weight"),
        (lambda w: {**w, "base_model.model.norm.bias": torch.ones(32)}, r"base_model\.model\.norm\.bias"),
        (
            lambda w: {key: weight for key, weight in w.items() if "0.self_attn.q_proj" not in key},
            r"lacks weights .* layers\.0\.self_attn\.q_proj\.lora_A\.weight".replace(" layers", r" .*layers"),
        ),
        (lambda w: {key: weight[:, :3].contiguous() for key, weight in w.items()}, r"does not fit .*size mismatch"),
        (lambda w: {key: weight * float("nan") for key, weight in w.items()}, r"cannot be merged"),
        (lambda _: {}, r"holds no weights"),
    ],
    ids=["module", "block", "parameter", "architecture", "head", "bias", "missing", "shape", "nan", "empty"],
)
def test_nothing_of_an_adapter_is_passed_over_in_silence(
    llama_folder: Path,
    lora: Path,
    change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]],
    message: str,
) -> None:
    _change_weights(lora, change)
    for load in (LayerwiseEncoder, lambda folder, **given: MidLayerEncoder(folder, 3, **given)):
        with pytest.raises(ValueError, match=f"adapters: .*lora.*{message}") as error:
            load(llama_folder, adapters=[lora])
        assert "\n" not in str(error.value)


def test_an_adapter_of_another_model_is_named(tiny_model: Callable[[str], Path], make_adapter: MakeAdapter) -> None:
    adapter = make_adapter(tiny_model("gpt_neox"), target_modules=["query_key_value"])
    with pytest.raises(
        ValueError, match=rf"{adapter} does not fit this llama model; its first weight is .*\.layers\.0"
    ):
        LayerwiseEncoder(tiny_model("llama"), adapters=[adapter])


def test_a_head_of_an_adapter_is_left_out_and_said_so(
    llama_folder: Path, make_adapter: MakeAdapter, caplog: pytest.LogCaptureFixture
) -> None:
    adapter = make_adapter(llama_folder, target_modules=["q_proj", "lm_head"], **_CAUSAL)
    with caplog.at_level(logging.INFO, logger="midlayer_embed"):
        LayerwiseEncoder(llama_folder, adapters=[adapter])
    assert "3 weights outside the base model" in caplog.text
    assert "base_model.model.lm_head" in caplog.text


class _Bomb:
    def __reduce__(self) -> Any:
        return (open, ("boom", "w"))


def test_a_pickle_is_refused_before_anybody_reads_it(
    llama_folder: Path, lora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (lora / "adapter_model.bin").write_bytes(pickle.dumps({"weight": _Bomb()}))
    LayerwiseEncoder(llama_folder, adapters=[lora])  # the safetensors beside it are read
    (lora / _WEIGHTS).unlink()
    with pytest.raises(
        ValueError, match=r"holds adapter_model\.bin and no adapter_model\.safetensors; a pickle can run"
    ):
        find_checkpoint(llama_folder, Source(adapters=[lora]))
    assert not Path("boom").exists()


def test_a_missing_peft_is_one_line(llama_folder: Path, lora: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"^adapters: merging them needs .*pip install 'midlayer-embed\[peft\]'$"):
        find_checkpoint(llama_folder, Source(adapters=[lora]))
    find_checkpoint(llama_folder, Source(adapters=[]))


def test_mistakes_about_adapters_are_named_before_weights_are_read(
    llama_folder: Path, lora: Path, tmp_path: Path
) -> None:
    def spoilt(name: str, config: str) -> Path:
        folder = Path(shutil.copytree(lora, tmp_path / name))
        (folder / "adapter_config.json").write_text(config)
        return folder

    (tmp_path / "empty").mkdir()
    bare = Path(shutil.copytree(lora, tmp_path / "bare"))
    (bare / _WEIGHTS).unlink()
    prompts = json.dumps({"peft_type": "PROMPT_TUNING"})
    for given, message in [
        (str(lora), "expected a list of folders or hub ids, got '"),
        (lora, "expected a list of folders or hub ids"),
        (None, "expected a list of folders or hub ids, got None"),
        ([3], "expected folders or hub ids, got 3"),
        ([""], "expected folders or hub ids, got ''"),
        ([tmp_path / "nowhere"], "nowhere' is neither a folder nor a hub id"),
        (["org/nowhere"], r"'org/nowhere' is neither a folder nor a repository with adapter_config\.json"),
        ([tmp_path / "empty"], r"holds no adapter_config\.json, so it is not a PEFT adapter"),
        ([bare], r"bare holds no adapter_model\.safetensors"),
        ([spoilt("no-json", "{")], r"adapter_config\.json is not the config of a PEFT adapter"),
        ([spoilt("a-list", "[1]")], r"adapter_config\.json is not the config of a PEFT adapter"),
        ([spoilt("prompts", prompts)], "expected an adapter of type LORA, .* got 'PROMPT_TUNING'"),
    ]:
        with pytest.raises(ValueError, match=f"adapters: .*{message}"):
            find_checkpoint(llama_folder, Source(adapters=given))  # type: ignore[arg-type]


def test_files_that_are_broken_are_named(llama_folder: Path, lora: Path) -> None:
    config = json.loads((lora / "adapter_config.json").read_text())
    (lora / "adapter_config.json").write_text(json.dumps({**config, "r": -1}))
    with pytest.raises(ValueError, match=r"adapters: .*lora"):
        LayerwiseEncoder(llama_folder, adapters=[lora])
    (lora / "adapter_config.json").write_text(json.dumps(config))
    (lora / _WEIGHTS).write_bytes((lora / _WEIGHTS).read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"adapters: .*adapter_model\.safetensors cannot be read"):
        LayerwiseEncoder(llama_folder, adapters=[lora])


def test_each_list_of_adapters_is_another_revision(llama_folder: Path, make_adapter: MakeAdapter) -> None:
    one, other = (make_adapter(llama_folder, seed=seed) for seed in (1, 2))
    lists: list[list[Path]] = [[], [one], [other], [one, other], [other, one]]
    revisions = [find_checkpoint(llama_folder, Source(adapters=given)).revision for given in lists]
    assert len(set(revisions)) == len(lists)
    assert all(revision.startswith(revisions[0]) for revision in revisions)
    assert find_checkpoint(llama_folder, Source(adapters=[one, other])).revision == revisions[3]
    elsewhere = Path(shutil.copytree(one, one.parent / "elsewhere"))
    assert find_checkpoint(llama_folder, Source(adapters=[elsewhere])).revision == revisions[1]


def test_the_prompt_tuning_that_is_refused_is_a_real_one(llama_folder: Path, make_adapter: MakeAdapter) -> None:
    def prompt_tuning(r: int, target_modules: Any, **given: Any) -> PromptTuningConfig:
        return PromptTuningConfig(num_virtual_tokens=3, **given)

    adapter = make_adapter(llama_folder, prompt_tuning, **_CAUSAL)
    with pytest.raises(ValueError, match="expected an adapter of type LORA, .* got 'PROMPT_TUNING'"):
        find_checkpoint(llama_folder, Source(adapters=[adapter]))


def test_the_command_line_merges_adapters_in_order(
    llama_folder: Path, make_adapter: MakeAdapter, sentences: list[str], tmp_path: Path
) -> None:
    one, other = make_adapter(llama_folder, seed=1), make_adapter(llama_folder, seed=2, use_dora=True)
    (tmp_path / "a.txt").write_text("\n".join(sentences))
    files = ["--input", str(tmp_path / "a.txt"), "--output", str(tmp_path / "v.npy")]
    given = ["--adapter", str(one), "--adapter", str(other), "--bidirectional"]
    assert main(["encode", str(llama_folder), "--layer", "2", *files, *given, "--quiet"]) == 0
    expected = LayerwiseEncoder(llama_folder, adapters=[one, other], bidirectional=True).encode(sentences, layers=[2])
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), expected[:, 0], atol=1e-5)


def test_on_the_command_line_a_bad_adapter_is_one_line_and_exit_2(
    llama_folder: Path, lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _change_weights(lora, lambda w: _without_place(w, "0.self_attn.q_proj", "0.self_attn.z_proj"))
    (tmp_path / "a.txt").write_text("one\n")
    before = sorted(tmp_path.rglob("*"))
    files = ["--input", str(tmp_path / "a.txt"), "--output", str(tmp_path / "v.npy")]
    for arguments in (["encode", str(llama_folder), *files], ["export", str(llama_folder), str(tmp_path / "out")]):
        for adapter in (lora, tmp_path / "nowhere"):
            assert main([*arguments, "--layer", "2", "--adapter", str(adapter), "--quiet"]) == 2
            captured = capsys.readouterr()
            assert "adapters: " in captured.err
            assert len(captured.err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
