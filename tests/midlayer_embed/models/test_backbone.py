import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

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
    [("dtype", "int8"), ("dtype", "nonsense"), ("device", "toaster"), ("max_seq_length", 0), ("pooling_mode", "sum")],
)
def test_bad_arguments_are_named(llama_folder: Path, argument: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{argument}: .*{value}"):
        LayerwiseEncoder(llama_folder, **{argument: value})  # type: ignore[arg-type]
