"""Adapters that cannot be merged: each is named before anything is computed. And the command line's adapters."""

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
    PromptTuningConfig,
)
from support.tiny_models import ADAPTER_WEIGHTS, change_adapter
from transformers import AutoModelForCausalLM

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.cli.program import main
from midlayer_embed.models import adapters
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.options import Source

_CAUSAL = {"head": AutoModelForCausalLM, "task_type": "CAUSAL_LM"}

MakeAdapter = Callable[..., Path]


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
    change_adapter(lora, change)
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
    (lora / ADAPTER_WEIGHTS).unlink()
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
    (bare / ADAPTER_WEIGHTS).unlink()
    prompts = json.dumps({"peft_type": "PROMPT_TUNING"})
    for given, message in [
        (str(lora), "expected a list of folders or Hub ids, got '"),
        (lora, "expected a list of folders or Hub ids"),
        (None, "expected a list of folders or Hub ids, got None"),
        ([3], "expected folders or Hub ids, got 3"),
        ([""], "expected folders or Hub ids, got ''"),
        ([tmp_path / "nowhere"], "nowhere' is neither a folder nor a Hub id"),
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
    (lora / ADAPTER_WEIGHTS).write_bytes((lora / ADAPTER_WEIGHTS).read_bytes()[:1000])
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
    change_adapter(lora, lambda w: _without_place(w, "0.self_attn.q_proj", "0.self_attn.z_proj"))
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
