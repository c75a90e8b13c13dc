"""What a stranger loads from a saved encoder has its vectors, whatever was done to it since; or nothing is saved."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Pooling
from torch import nn

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.cli.program import main

_TARGETS = ["q_proj", "v_proj"]


def _lora(**entries: Any) -> Any:
    from peft import LoraConfig

    return LoraConfig(**{"r": 4, "target_modules": _TARGETS, "init_lora_weights": False, **entries})


def _two_adapters(encoder: MidLayerEncoder) -> None:
    encoder.add_adapter(_lora(), adapter_name="one")
    encoder.add_adapter(_lora(), adapter_name="two")
    encoder.set_adapter(["one", "two"])


def _one_of_two(encoder: MidLayerEncoder) -> None:
    _two_adapters(encoder)
    encoder.set_adapter("one")


def _disabled(encoder: MidLayerEncoder) -> None:
    encoder.add_adapter(_lora())
    encoder.disable_adapters()


def _merged_already(encoder: MidLayerEncoder) -> None:
    encoder.add_adapter(_lora())
    for module in encoder.modules():
        if hasattr(module, "lora_A"):
            module.merge()


def _wrapped(encoder: MidLayerEncoder) -> None:
    from peft import get_peft_model

    encoder[0].model = get_peft_model(encoder[0].model, _lora(use_dora=True))


def _whole_module(encoder: MidLayerEncoder) -> None:
    encoder.add_adapter(_lora(modules_to_save=["norm"]))
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if "modules_to_save" in name:
                weight.add_(0.5)


def _edited(encoder: MidLayerEncoder) -> None:
    with torch.no_grad():
        for weight in encoder.parameters():
            weight.add_(0.05 * torch.randn_like(weight))


def _set(**values: Any) -> Callable[[MidLayerEncoder], None]:
    def change(encoder: MidLayerEncoder) -> None:
        for name, value in values.items():
            setattr(encoder, name, value)

    return change


def _left(side: str) -> Callable[[MidLayerEncoder], None]:
    def change(encoder: MidLayerEncoder) -> None:
        encoder.max_seq_length = 5
        setattr(encoder.tokenizer, side, "left")

    return change


def _new_token(encoder: MidLayerEncoder) -> None:
    encoder.tokenizer.add_tokens(["stadium"])
    encoder[0].model.resize_token_embeddings(len(encoder.tokenizer))


def _cls(encoder: MidLayerEncoder) -> None:
    encoder[1] = Pooling(32, "cls")


CHANGES: dict[str, Callable[[MidLayerEncoder], Any]] = {
    "adapter": lambda encoder: encoder.add_adapter(_lora()),
    "two adapters": _two_adapters,
    "one of two": _one_of_two,
    "disabled": _disabled,
    "merged already": _merged_already,
    "wrapped by peft": _wrapped,
    "a whole module": _whole_module,
    "edited weights": _edited,
    "half": lambda encoder: encoder.half(),
    "bfloat16": lambda encoder: encoder.to(torch.bfloat16),
    "limit": _set(max_seq_length=5),
    "truncated on the left": _left("truncation_side"),
    "padded on the left": _left("padding_side"),
    "prompts": _set(prompts={"q": "A question: "}, default_prompt_name="q"),
    "dimensions": _set(truncate_dim=16),
    "another pooling": _cls,
    "a module more": lambda encoder: encoder.append(Dense(32, 8)),
    "a new token in the texts": _new_token,
    "new tokens": lambda encoder: encoder[0].model.resize_token_embeddings(encoder[0].model.vocab_size + 8),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_done_to_an_encoder_is_saved(
    llama_folder: Path, sentences: list[str], tmp_path: Path, change: str
) -> None:
    torch.manual_seed(0)
    encoder = MidLayerEncoder(llama_folder, 2)
    before = encoder.encode(sentences)
    CHANGES[change](encoder)
    expected = encoder.encode(sentences)
    unlike = expected.shape != before.shape or not np.allclose(expected, before, atol=1e-6)
    assert unlike == (change not in ("disabled", "new tokens"))  # else the test shows nothing
    encoder.save_pretrained(str(tmp_path / "out"))
    found = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(sentences)
    tolerance = {"half": 5e-3, "bfloat16": 5e-2}.get(change, 1e-5)
    np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), atol=tolerance, rtol=tolerance)
    np.testing.assert_array_equal(encoder.encode(sentences), expected)  # the encoder is as it was


def test_an_adapter_that_was_loaded_later_is_saved(
    llama_folder: Path, make_adapter: Callable[..., Path], sentences: list[str], tmp_path: Path
) -> None:
    encoder = MidLayerEncoder(llama_folder, 3)
    before = encoder.encode(sentences)
    encoder.load_adapter(str(make_adapter(llama_folder)))
    expected = encoder.encode(sentences)
    assert not np.allclose(expected, before, atol=1e-3)
    encoder.save_pretrained(str(tmp_path / "out"))
    assert not (tmp_path / "out" / "adapter_config.json").exists()
    assert "trained further" in (tmp_path / "out" / "README.md").read_text()
    found = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(sentences)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert encoder.active_adapters() == ["default"]


class _Own(nn.Module):
    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return features


def _without_block(encoder: MidLayerEncoder) -> None:
    del encoder[0].model.layers[1]


def _other_block(encoder: MidLayerEncoder) -> None:
    encoder[0].model.layers[1].mlp.act_fn = nn.Tanh()


def _mixed(encoder: MidLayerEncoder) -> None:
    encoder[0].model.layers[1].bfloat16()


def _quantised(encoder: MidLayerEncoder) -> None:
    encoder[0].model = torch.ao.quantization.quantize_dynamic(encoder[0].model, {nn.Linear})


def _float8(encoder: MidLayerEncoder) -> None:
    for layer in encoder[0].model.layers:
        layer.mlp.down_proj.to(torch.float8_e4m3fn)


def _prompt_learning(encoder: MidLayerEncoder) -> None:
    from peft import PrefixTuningConfig, get_peft_model

    encoder[0].model = get_peft_model(
        encoder[0].model, PrefixTuningConfig(num_virtual_tokens=2, task_type="FEATURE_EXTRACTION")
    )


REFUSED: dict[str, tuple[Callable[[MidLayerEncoder], Any], str]] = {
    "a class of the user": (lambda encoder: encoder.append(_Own()), "the module _Own is of"),
    "a block less": (_without_block, r"layers\.1 is missing, and the config says .*LlamaDecoderLayer"),
    "another activation": (_other_block, r"layers\.1\.mlp\.act_fn is .*Tanh, and the config says"),
    "two dtypes": (_mixed, "all weights in one dtype, got .* in float32, .* in bfloat16"),
    "int8": (_quantised, r"layers\.0\.mlp\.down_proj is torch\.ao\..*\.Linear, and the config says torch\.nn\."),
    "float8": (_float8, "quantised, such as layers.0.mlp.down_proj.weight to float8_e4m3fn"),
    "prompt learning": (_prompt_learning, "learns prompts, which cannot be merged"),
}


@pytest.mark.parametrize("change", REFUSED)
def test_what_a_stranger_could_not_load_is_refused_before_anything_is_written(
    llama_folder: Path, tmp_path: Path, change: str
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    spoil, message = REFUSED[change]
    spoil(encoder)
    for save in (encoder.save_pretrained, encoder.save):
        with pytest.raises(ValueError, match=f"^save: .*({message})"):
            save(str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_an_adapter_is_not_saved_into(llama_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ValueError, match="adapter_config.json, which would be loaded instead"):
        MidLayerEncoder(llama_folder, 2).save_pretrained(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["adapter_config.json"]


def test_a_failure_half_way_leaves_what_there_was(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    encoder.save_pretrained(str(tmp_path / "old"))
    (tmp_path / "old" / "mine.txt").write_text("mine")
    before = {path: path.read_bytes() for path in (tmp_path / "old").rglob("*") if path.is_file()}

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("no space")

    with monkeypatch.context() as failing:
        failing.setattr(Pooling, "save", fail)
        for name in ("old", "new"):
            with pytest.raises(OSError, match="no space"):
                encoder.save_pretrained(str(tmp_path / name))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    MidLayerEncoder(llama_folder, 1).save_pretrained(str(tmp_path / "old"))
    assert (tmp_path / "old" / "mine.txt").read_text() == "mine"
    assert len(SentenceTransformer(str(tmp_path / "old"), device="cpu")[0].model.layers) == 1


# --- Quantised checkpoints

_BLOCK = 8
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [_BLOCK, _BLOCK]}


def _in_fp8(folder: Path, plain: Path) -> dict[str, torch.Tensor]:
    """Makes the weights of a folder float8 with a scale for each block; returns what they are, undone by hand."""
    weights, undone = {}, {}
    for name, weight in load_file(plain / "model.safetensors").items():
        weights[name] = undone[name] = weight
        if "proj" in name:
            rows, columns = (size // _BLOCK for size in weight.shape)
            scales = weight.reshape(rows, _BLOCK, columns, _BLOCK).abs().amax(dim=(1, 3)) / 448
            each = scales.repeat_interleave(_BLOCK, 0).repeat_interleave(_BLOCK, 1)
            weights[name] = (weight / each).to(torch.float8_e4m3fn)
            weights[f"{name}_scale_inv"] = scales
            undone[name] = weights[name].float() * each
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return undone


def _with_quantization(folder: Path, entries: dict[str, Any] | None) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": entries} if entries else config))


def test_an_fp8_checkpoint_is_undone_and_saved_as_floats(
    llama_folder: Path, sentences: list[str], tmp_path: Path
) -> None:
    fp8, oracle = (Path(shutil.copytree(llama_folder, tmp_path / name)) for name in ("fp8", "oracle"))
    save_file(_in_fp8(fp8, llama_folder), oracle / "model.safetensors", metadata={"format": "pt"})
    _with_quantization(fp8, FP8)
    expected = MidLayerEncoder(oracle, 2).encode(sentences)
    encoder = MidLayerEncoder(fp8, 2)
    np.testing.assert_allclose(encoder.encode(sentences), expected, atol=1e-6)
    np.testing.assert_allclose(LayerwiseEncoder(fp8).encode(sentences)[:, 2], expected, atol=1e-5)
    encoder.save_pretrained(str(tmp_path / "out"))
    saved = load_file(tmp_path / "out" / "model.safetensors")
    assert {weight.dtype for weight in saved.values()} == {torch.float32}
    found = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(sentences)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("method", ["gptq", "awq", "bitsandbytes", "compressed-tensors", "mxfp4"])
def test_weights_that_stay_quantised_are_refused_by_the_config_alone(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    folder = Path(shutil.copytree(llama_folder, tmp_path / "model"))
    _with_quantization(folder, {"quant_method": method, "bits": 4})
    (folder / "model.safetensors").unlink()
    assert main(["export", str(folder), str(tmp_path / "out"), "--layer", "1"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1 and f"are quantised ({method})" in said


def test_scales_that_no_config_speaks_of_are_refused(llama_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(llama_folder, tmp_path / "model"))
    _in_fp8(folder, llama_folder)
    with pytest.raises(ValueError, match="holds weights inside the model that its config does not ask for"):
        MidLayerEncoder(folder, 2)


# --- Own code

_CODE = """
from transformers import LlamaConfig, LlamaModel

class OwnConfig(LlamaConfig):
    model_type = "own_llama"

class OwnModel(LlamaModel):
    config_class = OwnConfig
"""


@pytest.fixture
def own_code_folder(llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model with code of its own, which transformers copies to a cache."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = Path(shutil.copytree(llama_folder, tmp_path / "own"))
    (folder / "modeling_own.py").write_text(_CODE)
    config = json.loads((folder / "config.json").read_text())
    maps = {"AutoConfig": "modeling_own.OwnConfig", "AutoModel": "modeling_own.OwnModel"}
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own_llama", "auto_map": maps}))
    return folder


def test_a_model_with_its_own_code_is_not_exported_and_its_weights_are_not_read(
    own_code_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", None)
    out = tmp_path / "out"
    assert main(["export", str(own_code_folder), str(out), "--layer", "2", "--trust-remote-code"]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "code of its own, which SentenceTransformer does not load without trust_remote_code" in said
    assert not out.exists()


def test_an_encoder_with_its_own_code_encodes_and_is_not_saved(
    own_code_folder: Path, sentences: list[str], tmp_path: Path, llama_2: MidLayerEncoder
) -> None:
    encoder = MidLayerEncoder(own_code_folder, 2, trust_remote_code=True)
    np.testing.assert_allclose(encoder.encode(sentences), llama_2.encode(sentences), atol=1e-6)
    with pytest.raises(ValueError, match="save: the model OwnModel has code of its own"):
        encoder.save_pretrained(str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_trust_alone_is_no_reason_to_refuse(llama_folder: Path, tmp_path: Path) -> None:
    MidLayerEncoder(llama_folder, 2, trust_remote_code=True).save_pretrained(str(tmp_path / "out"))
    assert (tmp_path / "out" / "modules.json").is_file()
