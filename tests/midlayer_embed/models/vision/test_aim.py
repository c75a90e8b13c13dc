"""AIM against a plain implementation; there are no published weights here."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support.vision.architectures import IMAGE_MODELS, N_PATCHES
from support.vision.oracle import aim_under_mask
from support.vision.tiny_vision import pixel_values
from transformers import AutoConfig

from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.models.vision.aim import AimConfig, AimModel
from midlayer_embed.models.vision.aim_config import from_published


@pytest.fixture
def aim(tiny_image_model: Callable[[str], Path]) -> AimModel:
    return AimModel.from_pretrained(tiny_image_model("aim")).eval()


@pytest.mark.parametrize("prefix", [0, 4, N_PATCHES, [0, 4]])
def test_under_causal_attention_a_patch_sees_those_before_it_and_the_prefix(
    aim: AimModel, prefix: int | list[int], tiny_image_model: Callable[[str], Path]
) -> None:
    pixels = pixel_values(2)
    lengths = prefix if isinstance(prefix, list) else [prefix, prefix]
    allowed = torch.ones(2, N_PATCHES, N_PATCHES, dtype=torch.bool).tril()
    for image, length in enumerate(lengths):
        allowed[image, :, :length] = True
    given = torch.tensor(prefix) if isinstance(prefix, list) else prefix
    with torch.no_grad():
        found = aim(pixels, is_causal=True, prefix_length=given).last_hidden_state
    expected = aim_under_mask(tiny_image_model("aim"), pixels, allowed).float()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_otherwise_every_patch_sees_all(aim: AimModel) -> None:
    pixels = pixel_values(2)
    with torch.no_grad():
        every = aim(pixels).last_hidden_state
        torch.testing.assert_close(aim(pixels, is_causal=True, prefix_length=N_PATCHES).last_hidden_state, every)
        assert (aim(pixels, is_causal=True).last_hidden_state - every).abs().max() > 0.1


def test_the_future_changes_nothing_under_causal_attention(aim: AimModel) -> None:
    pixels = pixel_values(1)
    changed = pixels.clone()
    changed[..., -8:, -8:] += 1  # the last patch
    with torch.no_grad():
        one, other = (aim(images, is_causal=True, prefix_length=3).last_hidden_state for images in (pixels, changed))
    differ = (one - other).abs().amax(dim=-1)[0]
    assert differ[:-1].max() == 0 < differ[-1]


def test_a_prefix_without_causal_attention_is_refused(aim: AimModel) -> None:
    with pytest.raises(ValueError, match="^prefix_length: only causal attention has a prefix, got 2 without$"):
        aim(pixel_values(1), prefix_length=2)


def test_it_can_be_trained(aim: AimModel) -> None:
    pixels = pixel_values(2)
    aim(pixels, is_causal=True).last_hidden_state.square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in aim.parameters())


def test_widths_that_cannot_be_divided_are_refused() -> None:
    for width, heads in ((30, 5), (32, 3)):
        with pytest.raises(ValueError, match=rf"^hidden_size: expected a multiple of 4 and of the {heads} heads, got"):
            AimModel(AimConfig(hidden_size=width, num_attention_heads=heads, num_hidden_layers=1))


def test_the_names_of_the_weights_are_those_that_are_published() -> None:
    """Of AIM-600M, which has 24 blocks; built without values."""
    with torch.device("meta"):
        model = AimModel(AimConfig())
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    block = {
        "norm_1.weight": (1536,),
        "norm_1.bias": (1536,),
        "attn.qkv.weight": (4608, 1536),
        "attn.proj.weight": (1536, 1536),
        "norm_2.weight": (1536,),
        "norm_2.bias": (1536,),
        "mlp.fc1.weight": (6144, 1536),
        "mlp.fc2.weight": (1536, 6144),
    }
    assert shapes == {
        "preprocessor.patchifier.proj.weight": (1536, 3, 14, 14),
        "preprocessor.patchifier.proj.bias": (1536,),
        "preprocessor.patchifier.norm.weight": (1536,),
        "preprocessor.patchifier.norm.bias": (1536,),
        **{f"trunk.blocks.{n}.{name}": shape for n in range(24) for name, shape in block.items()},
        "trunk.post_trunk_norm.weight": (1536,),
        "trunk.post_trunk_norm.bias": (1536,),
    }
    assert sum(parameter.numel() for parameter in model.parameters()) == pytest.approx(680e6, rel=0.01)


def test_a_published_folder_is_the_same_model(tiny_image_model: Callable[[str], Path]) -> None:
    published, ours = (find_checkpoint(tiny_image_model(name)) for name in ("aim-published", "aim"))
    assert published.family == ours.family
    names = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "image_size", "patch_size")
    for name in names:
        assert getattr(published.config, name) == getattr(ours.config, name)


def test_what_a_published_config_leaves_out_is_as_in_all_of_them() -> None:
    config = from_published({"embed_dim": 64, "num_blocks": 2, "num_heads": 4, "probe_layers": [0, 1]})
    assert (config.image_size, config.patch_size, config.num_channels, config.intermediate_size) == (224, 14, 3, 256)


def test_the_config_is_written_and_read_by_transformers(tmp_path: Path) -> None:
    config = AutoConfig.for_model("aim", **{**IMAGE_MODELS["aim"].entries, "intermediate_size": 40})
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "aim"
    again = AutoConfig.from_pretrained(tmp_path)
    assert again.to_diff_dict() | {"_name_or_path": ""} == config.to_diff_dict() | {"_name_or_path": ""}
