"""Every state of a tiny image encoder, the plain way: by stock transformers, MAE and AIM by hand."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel, BeitForMaskedImageModeling

from support.vision.architectures import IMAGE_MODELS, N_BLOCKS, PATCH


def plain_states(name: str, folder: Path, pixels: torch.Tensor, **arguments: Any) -> tuple[list[torch.Tensor], Any]:
    """The raw states (b, t, d) of layers 0..L, and the final norm; asserted to agree with what the model returns."""
    tiny = IMAGE_MODELS[name]
    if tiny.model_type == "aim":
        return _states_of_aim(folder, pixels)
    model = _stock_model(name, folder)
    with torch.no_grad():
        if tiny.model_type == "vit_mae":
            return _states_of_mae(model, pixels), model.layernorm
        output = model(pixel_values=pixels, output_hidden_states=True, **arguments)
        states, norm = list(output.hidden_states), _norm(model, name, folder)
        assert len(states) == N_BLOCKS + 1
        if tiny.model_type.startswith("clip"):  # norms CLS only
            torch.testing.assert_close(output.last_hidden_state, states[-1])
            torch.testing.assert_close(output.pooler_output, norm(states[-1][:, 0]))
        elif tiny.pools_first:
            torch.testing.assert_close(output.last_hidden_state, states[-1])
            torch.testing.assert_close(output.pooler_output, norm(states[-1][:, 1:].mean(dim=1)))
        elif name != "beit-masked":  # its norm is in its head
            torch.testing.assert_close(output.last_hidden_state, norm(states[-1]))
    return states, norm


def plain_vectors(
    name: str, folder: Path, pixels: torch.Tensor, *, pooling_mode: str, final_norm: bool, **arguments: Any
) -> np.ndarray:
    """The vectors (b, L+1, d) of all layers."""
    tiny = IMAGE_MODELS[name]
    states, norm = plain_states(name, folder, pixels, **arguments)

    def pooled(tokens: torch.Tensor) -> torch.Tensor:
        return tokens[:, tiny.n_prefix :].mean(dim=1) if pooling_mode == "mean" else tokens[:, 0]

    with torch.no_grad():
        if not final_norm:
            found = [pooled(state) for state in states]
        elif tiny.pools_first:
            found = [norm(pooled(state)) for state in states]
        else:
            found = [pooled(norm(state)) for state in states]
    return torch.stack(found, dim=1).float().numpy()


def _stock_model(name: str, folder: Path) -> Any:
    if name == "beit-masked":
        return BeitForMaskedImageModeling.from_pretrained(folder).eval().beit
    model = AutoModel.from_pretrained(folder).eval()
    return getattr(model, "vision_model", model)


def _norm(model: nn.Module, name: str, folder: Path) -> nn.Module:
    if name == "beit-masked":
        return BeitForMaskedImageModeling.from_pretrained(folder).layernorm
    return model.get_submodule(IMAGE_MODELS[name].norm)


def _states_of_mae(model: Any, pixels: torch.Tensor) -> list[torch.Tensor]:
    """All patches in their order, which the stock model shuffles."""
    embeddings = model.embeddings
    patches = embeddings.patch_embeddings(pixels)
    with_cls = nn.functional.pad(patches, (0, 0, 1, 0))
    positions = embeddings.interpolate_pos_encoding(with_cls, *pixels.shape[-2:])
    patches = patches + positions[:, 1:]
    cls = (embeddings.cls_token + positions[:, :1]).expand(len(pixels), -1, -1)
    states = [torch.cat([cls, patches], dim=1)]
    for block in model.layers:
        states.append(block(states[-1], None))
    return states


def _states_of_aim(folder: Path, pixels: torch.Tensor) -> tuple[list[torch.Tensor], Any]:
    """AIM in float64, patch by patch and head by head."""
    weights = {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}

    def normed(path: str, state: torch.Tensor) -> torch.Tensor:
        centred = state - state.mean(dim=-1, keepdim=True)
        scale = (centred.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
        return centred / scale * weights[f"{path}.weight"] + weights[f"{path}.bias"]

    states = [torch.stack([_patches_of_aim(weights, image, normed) for image in pixels.double()])]
    for number in range(N_BLOCKS):
        states.append(torch.stack([_block_of_aim(weights, number, state, normed) for state in states[-1]]))
    return states, lambda state: normed("trunk.post_trunk_norm", state)


def _patches_of_aim(weights: Any, image: torch.Tensor, normed: Any) -> torch.Tensor:
    kernel, bias = (weights[f"preprocessor.patchifier.proj.{part}"] for part in ("weight", "bias"))
    width, tokens = len(bias), []
    for row in range(image.shape[1] // PATCH):
        for column in range(image.shape[2] // PATCH):
            patch = image[:, row * PATCH : (row + 1) * PATCH, column * PATCH : (column + 1) * PATCH]
            token = normed("preprocessor.patchifier.norm", (kernel * patch).sum(dim=(1, 2, 3)) + bias)
            position = []
            for place in (column, row):
                angles = [place / 10_000 ** (i / (width // 4)) for i in range(width // 4)]
                position += [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
            tokens.append(token + torch.tensor(position, dtype=torch.float64))
    return torch.stack(tokens)


def _block_of_aim(
    weights: Any, number: int, state: torch.Tensor, normed: Any, allowed: torch.Tensor | None = None, n_heads: int = 4
) -> torch.Tensor:
    path, width = f"trunk.blocks.{number}", state.shape[-1]
    joint = normed(f"{path}.norm_1", state) @ weights[f"{path}.attn.qkv.weight"].T
    mixed = torch.empty_like(state)
    size = width // n_heads
    for head in range(n_heads):
        query, key, value = (joint[:, part * width + head * size :][:, :size] for part in range(3))
        scores = query @ key.T / math.sqrt(size)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -math.inf)
        mixed[:, head * size : (head + 1) * size] = scores.softmax(dim=-1) @ value
    state = state + mixed @ weights[f"{path}.attn.proj.weight"].T
    inner = normed(f"{path}.norm_2", state) @ weights[f"{path}.mlp.fc1.weight"].T
    return state + (inner * (1 + torch.erf(inner / math.sqrt(2))) / 2) @ weights[f"{path}.mlp.fc2.weight"].T


def aim_under_mask(folder: Path, pixels: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """The last states (b, n_patches, d) of an AIM in which patch i attends to patch j where allowed[b, i, j]."""
    weights = {name: tensor.double() for name, tensor in load_file(folder / "model.safetensors").items()}
    (start, *_), norm = _states_of_aim(folder, pixels)

    def normed(path: str, state: torch.Tensor) -> torch.Tensor:
        layer = nn.functional.layer_norm(state, state.shape[-1:], eps=1e-6)
        return layer * weights[f"{path}.weight"] + weights[f"{path}.bias"]

    found = []
    for state, may in zip(start, allowed, strict=True):
        for number in range(N_BLOCKS):
            state = _block_of_aim(weights, number, state, normed, may)
        found.append(norm(state))
    return torch.stack(found)
