"""Checkpoints of image encoders: with heads, with a text encoder beside, damaged, unknown."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support.forks import run_code
from support.vision.architectures import IMAGE_MODELS, N_BLOCKS
from support.vision.tiny_vision import pixel_values
from transformers import AutoModel, BeitConfig, BeitForMaskedImageModeling, CLIPModel

from midlayer_embed.models import discovery, families
from midlayer_embed.models.adapters import CONFIG_FILE
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.models.vision.families import forward_arguments
from midlayer_embed.models.weights import load_base_model
from midlayer_embed.options import Source

_CPU = torch.device("cpu")
_KNOWN = r"expected a text model, or a known image model \(aim, aimv2, .*vit, vit_mae\)$"
# Of another kind: the class, and the entries of a small config.
_SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
_UNKNOWN: dict[str, tuple[dict[str, Any], str]] = {
    "convnext": ({"hidden_sizes": [8, 8, 8, 8], "depths": [1, 1, 1, 1]}, "image"),
    "swin": ({"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 1]}, "image"),
    "resnet": ({"embedding_size": 8, "hidden_sizes": [8], "depths": [1]}, "image"),
    "vit_msn": ({**_SMALL, "image_size": 16, "patch_size": 8}, "image"),
    "videomae": ({**_SMALL, "image_size": 16, "patch_size": 8}, "video"),
    "vivit": ({**_SMALL, "image_size": 16, "tubelet_size": [2, 8, 8]}, "video"),
    "wav2vec2": ({**_SMALL, "num_conv_pos_embedding_groups": 2}, "audio"),
    "hubert": ({**_SMALL, "num_conv_pos_embedding_groups": 2}, "audio"),
}


def _load(folder: Path, **options: Any) -> Any:
    checkpoint = find_checkpoint(folder, Source(**options))
    return load_base_model(checkpoint, checkpoint.config, torch.float32, _CPU)


@pytest.fixture
def copy_of(tiny_image_model: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(tiny_image_model(name), tmp_path / name))


def _change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _change_config(folder: Path, **entries: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **entries}))


def _one_of_block_1(weights: dict[str, torch.Tensor]) -> str:
    """A weight of the second block of the image encoder."""
    return min(name for name in weights if "1." in name and ".1." in name and not name.startswith("text_model"))


def test_a_weight_that_is_missing_is_named(any_image_folder: tuple[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(any_image_folder[1], tmp_path / "model"))
    _change_weights(folder, lambda weights: weights.pop(_one_of_block_1(weights)))
    with pytest.raises(ValueError, match=r"^model: .* lacks weights that its config asks for, such as .*\.1\.\S+$"):
        _load(folder)


def test_a_weight_that_has_no_place_is_named(any_image_folder: tuple[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(any_image_folder[1], tmp_path / "model"))

    def add(weights: dict[str, torch.Tensor]) -> None:
        name = _one_of_block_1(weights)
        weights[f"{name.rpartition('.')[0]}.surplus"] = torch.zeros(1)

    _change_weights(folder, add)
    with pytest.raises(ValueError, match=r"holds weights inside the model .*such as \S*surplus$"):
        _load(folder)


def test_weights_of_another_shape_are_named(any_image_folder: tuple[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(any_image_folder[1], tmp_path / "model"))
    _change_weights(folder, lambda weights: weights.update({_one_of_block_1(weights): torch.zeros(3)}))
    with pytest.raises(ValueError, match=r"weights of other shapes .*: \(3,\) instead of \(\d"):
        _load(folder)


@pytest.mark.parametrize("name", ["vit", "clip", "aim-published"])
def test_weights_that_are_cut_or_gone_are_one_line(name: str, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of(name)
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"^model: .*model\.safetensors cannot be read, it is truncated or damaged"):
        find_checkpoint(folder)
    file.unlink()
    with pytest.raises(ValueError, match=r"^model: the folder .* holds no weights: neither model\.safetensors nor"):
        find_checkpoint(folder)


@pytest.mark.parametrize("name", ["beit", "beit-classifier"])
def test_the_norm_in_beits_pooler_is_no_head(name: str, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of(name)
    _change_weights(folder, lambda weights: [weights.pop(one) for one in list(weights) if "pooler.layernorm" in one])
    with pytest.raises(ValueError, match=r"lacks weights .*pooler\.layernorm\.bias$"):
        _load(folder)


@pytest.mark.parametrize("name", ["vit", "deit", "siglip-vision", "aimv2-vision", "siglip"])
def test_what_is_above_the_last_block_may_be_missing(name: str, copy_of: Callable[[str], Path]) -> None:
    folder, pixels = copy_of(name), pixel_values(1)
    whole = _load(folder)

    def drop(weights: dict[str, torch.Tensor]) -> None:
        heads = [one for one in weights if one.removeprefix("vision_model.").startswith(("pooler.", "head."))]
        assert heads
        for head in heads:
            del weights[head]

    _change_weights(folder, drop)
    torch.testing.assert_close(_load(folder)(pixels).last_hidden_state, whole(pixels).last_hidden_state)


@pytest.mark.parametrize("name", ["clip", "siglip", "aimv2"])
def test_of_two_towers_the_image_encoder_is_loaded_whatever_is_in_the_other(
    name: str, copy_of: Callable[[str], Path]
) -> None:
    folder = copy_of(name)
    tower = AutoModel.from_pretrained(folder).vision_model.eval()
    _change_weights(folder, lambda weights: [weights.pop(one) for one in list(weights) if one.startswith("text_")])
    checkpoint = find_checkpoint(folder)
    assert checkpoint.config.model_type == IMAGE_MODELS[name].model_type + "_vision_model"
    model = _load(folder)
    assert not any(one.startswith("text_model") for one, _ in model.named_parameters())
    expected = tower.state_dict()
    assert model.state_dict().keys() == expected.keys()
    assert all((tensor == expected[key]).all() for key, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "model_class", ["CLIPForImageClassification", "SiglipForImageClassification", "Dinov2ForImageClassification"]
)
def test_a_classifier_gives_its_encoder(model_class: str, tmp_path: Path) -> None:
    of_kind = {"CLIP": "clip", "Sigl": "siglip", "Dino": "dinov2"}[model_class[:4]]
    config = transformers.AutoConfig.for_model(of_kind, **IMAGE_MODELS[of_kind].entries)
    torch.manual_seed(1)
    model = getattr(transformers, model_class)(config).eval()
    model.save_pretrained(tmp_path)
    pixels = pixel_values(2)
    own = model.base_model if of_kind == "dinov2" else model.vision_model
    torch.testing.assert_close(_load(tmp_path)(pixels).last_hidden_state, own(pixels).last_hidden_state)


def test_a_model_saved_again_is_the_same(any_image_folder: tuple[str, Path], tmp_path: Path) -> None:
    model, pixels = _load(any_image_folder[1]), pixel_values(2)
    model.save_pretrained(tmp_path)
    again = find_checkpoint(tmp_path)
    assert again.modality == "image"
    arguments = forward_arguments(again.config, pixels)
    torch.testing.assert_close(_load(tmp_path)(**arguments).last_hidden_state, model(**arguments).last_hidden_state)


def test_only_the_first_blocks_can_be_loaded(any_image_folder: tuple[str, Path]) -> None:
    checkpoint = find_checkpoint(any_image_folder[1])
    checkpoint.config.num_hidden_layers = 2
    model = load_base_model(checkpoint, checkpoint.config, torch.float32, _CPU)
    assert len(families.blocks_of(model, checkpoint.family)) == 2 < N_BLOCKS


def test_other_precisions(any_image_folder: tuple[str, Path]) -> None:
    checkpoint = find_checkpoint(any_image_folder[1])
    model = load_base_model(checkpoint, checkpoint.config, torch.bfloat16, _CPU)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    pixels = pixel_values(2)
    exact = load_base_model(checkpoint, checkpoint.config, torch.float32, _CPU)
    found = model(**forward_arguments(checkpoint.config, pixels.bfloat16())).last_hidden_state
    expected = exact(**forward_arguments(checkpoint.config, pixels)).last_hidden_state
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("model_type", _UNKNOWN)
def test_an_unknown_architecture_of_images_video_or_audio_is_one_line(model_type: str, tmp_path: Path) -> None:
    entries, takes = _UNKNOWN[model_type]
    transformers.AutoConfig.for_model(model_type, **entries).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=rf"^model: architecture '{model_type}' takes {takes}; {_KNOWN}"):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize("model_type", ["blip", "siglip2", "clipseg"])
def test_other_models_of_images_and_texts_are_one_line(model_type: str, tmp_path: Path) -> None:
    transformers.AutoConfig.for_model(model_type).save_pretrained(tmp_path)
    known = r"its config holds the configs of several models \(of images, known are aim, .*, vit_mae\)$"
    with pytest.raises(ValueError, match=rf"^model: architecture '{model_type}' is not a plain text model: {known}"):
        find_checkpoint(tmp_path)


def test_what_only_text_models_have_is_refused(tiny_image_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = tiny_image_model("vit")
    (tmp_path / CONFIG_FILE).write_text(json.dumps({"peft_type": "LORA", "r": 4, "target_modules": ["q_proj"]}))
    with pytest.raises(ValueError, match=r"^adapters: only text models take them, and this is an image model \(vit\)$"):
        find_checkpoint(folder, Source(adapters=(str(tmp_path),)))
    with pytest.raises(ValueError, match=r"^bidirectional: expected a causal text model; .*image model \(vit\)$"):
        find_checkpoint(folder, Source(bidirectional=True))
    with pytest.raises(ValueError, match=r"^gguf_file: .*"):
        find_checkpoint(folder, Source(gguf_file="model.gguf"))


@pytest.mark.parametrize("model_type", ["vit", "clip"])
def test_an_image_encoder_that_is_known_cannot_be_registered(model_type: str) -> None:
    with pytest.raises(ValueError, match=f"^model_type: '{model_type}' is known already and cannot be registered$"):
        discovery.register(model_type, blocks="layers", final_norm="norm")


def test_beit_before_finetuning_has_the_norm_of_its_head(tmp_path: Path) -> None:
    """Published ones say that they pool first, and have no such norm."""
    entries = IMAGE_MODELS["beit-masked"].entries
    assert "use_mean_pooling" not in entries
    assert BeitConfig().use_mean_pooling
    model = BeitForMaskedImageModeling(BeitConfig(**entries)).eval()
    with torch.no_grad():
        model.layernorm.weight.mul_(2)
    model.save_pretrained(tmp_path)
    pixels = pixel_values(2)
    with torch.no_grad():
        expected = model.layernorm(model.beit(pixels).last_hidden_state)
    torch.testing.assert_close(_load(tmp_path)(pixels).last_hidden_state, expected)


def test_a_clip_of_unequal_towers_counts_the_blocks_and_the_width_of_the_image_encoder(
    tiny_image_model: Callable[[str], Path],
) -> None:
    folder = tiny_image_model("clip")
    config = CLIPModel.from_pretrained(folder).config
    checkpoint = find_checkpoint(folder)
    assert config.text_config.num_hidden_layers != config.vision_config.num_hidden_layers == checkpoint.n_blocks
    assert config.text_config.hidden_size != checkpoint.embedding_dim(0, "mean") == config.vision_config.hidden_size


@pytest.mark.parametrize("name", ["clip", "siglip", "aimv2", "vit"])
def test_weights_that_are_quantised_are_refused_of_two_towers_too(name: str, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of(name)
    _change_config(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    with pytest.raises(ValueError, match=r"^model: the weights of \S+ are quantised \(gptq\); expected"):
        find_checkpoint(folder)


@pytest.mark.parametrize("channels", [1, 4])
def test_a_model_of_other_images_than_rgb_is_refused(channels: int, copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("vit")
    _change_config(folder, num_channels=channels)
    with pytest.raises(ValueError, match=rf"^model: \S+ takes images of {channels} channels; only images in RGB"):
        find_checkpoint(folder)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"embed_dim": "wide"}, r"cannot be loaded: .*hidden_size.* expected int, got str"),
        ({"embed_dim": None}, r"cannot be loaded: .*hidden_size.* expected int, got NoneType"),
        ({"num_blocks": 0}, "has no blocks"),
        ({"num_blocks": 4}, r"lacks weights .*trunk\.blocks\.3\."),
        ({"num_heads": 5}, "hidden_size: expected a multiple of 4 and of the 5 heads, got 32"),
        ({"patch_size": 7}, r"weights of other shapes .*proj\.weight: \(32, 3, 8, 8\) instead of \(32, 3, 7, 7\)"),
    ],
)
def test_what_is_wrong_with_a_published_aim_is_one_line(
    entries: dict[str, Any], message: str, copy_of: Callable[[str], Path]
) -> None:
    folder = copy_of("aim-published")
    _change_config(folder, **entries)
    with pytest.raises(ValueError, match=message) as error:
        _load(folder)
    assert "\n" not in str(error.value)


def test_what_is_nearly_a_published_aim_has_no_model_type(copy_of: Callable[[str], Path]) -> None:
    folder = copy_of("aim-published")
    (folder / "config.json").write_text(json.dumps({"embed_dim": 32, "depth": 3}))
    with pytest.raises(ValueError, match=r"config\.json has no model_type, so the architecture is unknown$"):
        find_checkpoint(folder)


@pytest.mark.process
def test_image_encoders_on_the_hub(tiny_image_model: Callable[[str], Path], tmp_path: Path) -> None:
    """The hub as its cache has it."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    for name in ("aim-published", "clip", "vit"):
        root = tmp_path / f"models--org--{name}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(commit)
        shutil.copytree(tiny_image_model(name), root / "snapshots" / commit)
    (root / "snapshots" / commit / "config.json").write_text(json.dumps({"hidden_size": 32}))  # of no model_type
    code = """
import numpy as np
from midlayer_embed import ImageLayerwiseEncoder
for name in ("aim-published", "clip", "vit"):
    try:
        encoder = ImageLayerwiseEncoder(f"org/{name}")
        print(encoder.checkpoint.revision, encoder.encode(np.zeros((30, 30, 3), np.uint8)).shape)
    except ValueError as error:
        print(error)
"""
    environment = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    aim, clip, untyped = run_code(code, env=environment).splitlines()
    assert aim == clip == f"{commit} (4, 32)"
    assert untyped.startswith("model: 'org/vit' cannot be loaded: Unrecognized model")
