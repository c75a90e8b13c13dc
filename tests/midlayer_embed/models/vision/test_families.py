from collections.abc import Callable
from copy import deepcopy
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiers import sampled
from support.vision.architectures import DIM, IMAGE_FAMILIES, IMAGE_MODELS, N_BLOCKS, N_PATCHES, PATCH, SIZE
from support.vision.oracle import plain_states
from support.vision.tiny_vision import pixel_values
from transformers import AutoConfig, BertConfig, PretrainedConfig

from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.models.families import blocks_of, final_norm_of, known_families
from midlayer_embed.models.vision.families import (
    VisionFamily,
    forward_arguments,
    image_encoder_config,
    known_vision_families,
    n_patches,
    vision_family_of,
)
from midlayer_embed.models.weights import load_base_model

_CPU = torch.device("cpu")
_HOOKS = Path(__file__).parents[4] / "docs" / "build_hooks.py"


def _load(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Any, PretrainedConfig, VisionFamily]:
    checkpoint = find_checkpoint(folder)
    assert isinstance(checkpoint.family, VisionFamily)
    return load_base_model(checkpoint, deepcopy(checkpoint.config), dtype, _CPU), checkpoint.config, checkpoint.family


def _states(folder: Path, pixels: torch.Tensor) -> list[torch.Tensor]:
    """The states by hooks on the blocks of the table."""
    model, config, family = _load(folder)
    found: list[torch.Tensor] = []
    blocks = blocks_of(model, family)
    blocks[0].register_forward_pre_hook(lambda _, args: found.append(args[0]))
    for block in blocks:
        block.register_forward_hook(lambda _, __, out: found.append(out))
    with torch.no_grad():
        model(**forward_arguments(config, pixels))
    return found


def test_every_row_of_the_table_has_a_tiny_model() -> None:
    assert {tiny.model_type for tiny in IMAGE_MODELS.values()} == set(known_vision_families())
    assert not set(known_vision_families()) & set(known_families())


def test_the_family_of_a_text_model_is_unknown() -> None:
    assert vision_family_of(BertConfig()) is None


def test_the_states_of_every_block_are_those_of_transformers(every_image_folder: tuple[str, Path]) -> None:
    name, folder = every_image_folder
    pixels = pixel_values(2)
    found, (expected, norm) = _states(folder, pixels), plain_states(name, folder, pixels)
    assert len(found) == N_BLOCKS + 1
    for state, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(state, plain.float(), atol=1e-5, rtol=1e-5)
    model, _, family = _load(folder)
    final_norm = final_norm_of(model, family)
    assert final_norm is not None
    torch.testing.assert_close(final_norm(found[-1]), norm(expected[-1]).float(), atol=1e-5, rtol=1e-5)


def test_what_the_table_says_of_tokens_and_norms_is_so(any_image_folder: tuple[str, Path]) -> None:
    name, folder = any_image_folder
    tiny = IMAGE_MODELS[name]
    checkpoint = find_checkpoint(folder)
    model, config, family = _load(folder)
    assert (checkpoint.modality, checkpoint.n_blocks, checkpoint.embedding_dim(1, "mean")) == ("image", N_BLOCKS, DIM)
    assert (family.n_prefix, family.has_cls) == (tiny.n_prefix, tiny.has_cls)
    assert family.norm_after_pooling == tiny.pools_first
    assert n_patches(config, SIZE, SIZE) == N_PATCHES
    pixels = pixel_values(1)
    with torch.no_grad():
        last = model(**forward_arguments(config, pixels)).last_hidden_state
    assert last.shape == (1, tiny.n_prefix + N_PATCHES, DIM)
    raw = _states(folder, pixels)[-1]
    final_norm = final_norm_of(model, family)
    assert final_norm is not None
    normed = final_norm(raw)
    assert (last - normed).abs().max() < 1e-5 if family.ends_with_norm else (last - raw).abs().max() < 1e-5
    assert (normed - raw).abs().max() > 0.1  # a norm that shows


def test_the_tokens_before_the_patches_do_not_depend_on_the_image(any_image_folder: tuple[str, Path]) -> None:
    name, folder = any_image_folder
    one, other = _states(folder, pixel_values(2))[0]
    same = (one == other).all(dim=-1)
    assert int(same.sum()) == IMAGE_MODELS[name].n_prefix
    assert same[: IMAGE_MODELS[name].n_prefix].all()


def test_patches_are_in_raster_order(any_image_folder: tuple[str, Path]) -> None:
    """A change of one patch changes one token of layer 0."""
    name, folder = any_image_folder
    plain = pixel_values(1)
    changed = plain.repeat(N_PATCHES, 1, 1, 1)
    for number in range(N_PATCHES):
        row, column = divmod(number, SIZE // PATCH)
        changed[number, :, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH] += 1
    differ = (_states(folder, changed)[0] - _states(folder, plain)[0]).abs().amax(dim=-1) > 1e-4
    expected = torch.eye(N_PATCHES, dtype=torch.bool)
    assert (differ[:, IMAGE_MODELS[name].n_prefix :] == expected).all()
    assert not differ[:, : IMAGE_MODELS[name].n_prefix].any()


@pytest.mark.parametrize(
    "name", sampled((name for name in IMAGE_MODELS if name not in ("aimv2", "aimv2-vision")), *IMAGE_FAMILIES)
)
@pytest.mark.parametrize(("height", "width"), [(16, 40), (48, 48)])
def test_images_of_other_sizes_are_taken(
    name: str, height: int, width: int, tiny_image_model: Callable[[str], Path]
) -> None:
    folder = tiny_image_model(name)
    pixels = pixel_values(2, height=height, width=width)
    _, config, family = _load(folder)
    assert n_patches(config, height, width) == (height // PATCH) * (width // PATCH)
    found = _states(folder, pixels)
    assert found[0].shape[1] == family.n_prefix + n_patches(config, height, width)
    asks = IMAGE_MODELS[name].model_type.startswith(("vit", "deit", "clip", "siglip", "ijepa"))
    expected, _ = plain_states(name, folder, pixels, **({"interpolate_pos_encoding": True} if asks else {}))
    for state, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(state, plain.float(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["aimv2", "aimv2-vision"])
def test_a_model_of_one_size_refuses_others_in_one_line(name: str, tiny_image_model: Callable[[str], Path]) -> None:
    config = find_checkpoint(tiny_image_model(name)).config
    with pytest.raises(ValueError, match="images: this aimv2_vision_model takes images of 24 x 24 pixels, got 32 x 16"):
        forward_arguments(config, pixel_values(1, height=32, width=16))


def test_an_image_smaller_than_a_patch_is_refused(tiny_image_model: Callable[[str], Path]) -> None:
    config = find_checkpoint(tiny_image_model("dinov2")).config
    with pytest.raises(ValueError, match="images: expected at least one patch of 8 x 8 pixels, got images of 24 x 7"):
        forward_arguments(config, pixel_values(1, height=24, width=7))


def test_sizes_may_be_pairs() -> None:
    config = AutoConfig.for_model("vit", image_size=[32, 64], patch_size=[8, 16])
    assert n_patches(config, 32, 64) == 16
    assert "interpolate_pos_encoding" not in forward_arguments(config, pixel_values(1, height=32, width=64))
    assert "interpolate_pos_encoding" in forward_arguments(config, pixel_values(1, height=64, width=32))


def test_mae_keeps_every_patch_in_half_precision_too(tiny_image_model: Callable[[str], Path]) -> None:
    """Numbers above 256 are not all different in bfloat16, and MAE's patches are sorted by them."""
    config = find_checkpoint(tiny_image_model("mae")).config
    noise = forward_arguments(config, pixel_values(2, height=160, width=160).bfloat16())["noise"]
    assert (noise.argsort(dim=1) == torch.arange(400)).all()
    assert config.mask_ratio == 0


def test_a_config_is_not_changed() -> None:
    config = AutoConfig.for_model("vit_mae")
    assert image_encoder_config(config).mask_ratio == 0
    assert config.mask_ratio == 0.75


def test_the_pages_list_every_image_encoder() -> None:
    pytest.importorskip("mkdocs")
    spec = spec_from_file_location("build_hooks", _HOOKS)
    assert spec is not None and spec.loader is not None
    hooks = module_from_spec(spec)
    spec.loader.exec_module(hooks)
    page = (_HOOKS.parent / "reference" / "architectures.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in hooks.on_page_markdown(page).splitlines() if line.startswith("| `")]
    assert [row[0].strip("| `") for row in rows] == ["model_type", *known_vision_families()]
    assert ["`layers`", "`pooler.layernorm`, of the mean", "1", "yes |"] in [row[1:] for row in rows]
