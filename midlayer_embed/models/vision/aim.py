"""The trunk of AIM (autoregressive image models), written from the paper.

El-Nouby et al. 2024, "Scalable Pre-training of Large Autoregressive Image Models" (arXiv:2401.08541). Patches in raster
order, with fixed sinusoidal positions and without CLS, go through pre-norm transformer blocks. Training predicts the
next patch under causal attention that all patches may look past to the first ones (the prefix); afterwards every patch
attends to all others.

Not all is in the paper. Read off the authors' public repository (apple/ml-aim, folder aim-v1; its code is under Apple's
own licence, and none of it is here):

- the names of the weights: `preprocessor.patchifier.{proj,norm}`, `trunk.blocks.K.{norm_1,attn.qkv,attn.proj,norm_2,
  mlp.fc1,mlp.fc2}`, `trunk.post_trunk_norm`, and `head.*`, the probe on top, which is left out here;
- the entries of the published config.json (see `aim_config`);
- a norm of the embedded patches before positions are added; no biases in the blocks but those of norms; the exact GELU;
  MLPs four times as wide as states; an epsilon of 1e-6; the order of queries, keys and values in `qkv`; columns in the
  first half of a position, rows in the second, each as sines, then cosines.

Tested against a plain implementation on random weights only: the published weights were not at hand.
"""

from typing import Any, cast

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from midlayer_embed.errors import InputError
from midlayer_embed.models.vision.aim_config import AimConfig
from midlayer_embed.models.vision.families import height_and_width

__all__ = ["AimConfig", "AimModel"]

_LONGEST_WAVE = 10_000


class AimModel(PreTrainedModel):  # type: ignore[no-untyped-call]
    """The trunk of an AIM: pixels in, the states of the patches out.

    Example:
        >>> config = AimConfig(hidden_size=32, num_attention_heads=4, num_hidden_layers=2, patch_size=8)
        >>> model = AimModel(config).eval()
        >>> model(torch.zeros(1, 3, 32, 16)).last_hidden_state.shape  # 4 rows of 2 patches
        torch.Size([1, 8, 32])
    """

    config_class = AimConfig
    base_model_prefix = "aim"
    main_input_name = "pixel_values"
    input_modalities = "image"
    _supports_sdpa = True

    def __init__(self, config: AimConfig) -> None:
        super().__init__(config)
        if config.hidden_size % config.num_attention_heads or config.hidden_size % 4:
            raise InputError(
                f"hidden_size: expected a multiple of 4 and of the {config.num_attention_heads} heads, got "
                f"{config.hidden_size}"
            )
        self.preprocessor = _Preprocessor(config)
        self.trunk = _Trunk(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def forward(
        self,
        pixel_values: torch.Tensor,
        *,
        is_causal: bool = False,
        prefix_length: int | torch.Tensor = 0,
        **_: Any,
    ) -> BaseModelOutput:
        """The states of all patches, in raster order, after the last norm.

        Args:
            pixel_values: (n_images, channels, height, width), normalised as for ImageNet.
            is_causal: Whether a patch attends only to itself, to the patches before it and to the prefix, as in
                training; otherwise to all patches.
            prefix_length: Number of first patches that every patch attends to, in 0..n_patches: one for all images, or
                (n_images,).

        Returns:
            `last_hidden_state` (n_images, n_patches, hidden_size).

        Raises:
            InputError: (a ValueError) a prefix without causal attention.
        """
        tokens = self.preprocessor(pixel_values.to(self.dtype))
        mask = None
        if is_causal:
            mask = prefix_mask(tokens.shape[1], torch.as_tensor(prefix_length, device=tokens.device))
        elif isinstance(prefix_length, torch.Tensor) or prefix_length:
            raise InputError(f"prefix_length: only causal attention has a prefix, got {prefix_length} without")
        return BaseModelOutput(last_hidden_state=self.trunk(tokens, mask))


def prefix_mask(n_patches: int, prefix_length: torch.Tensor) -> torch.Tensor:
    """Which patches (columns) a patch (row) attends to: those up to itself, and the prefix.

    Args:
        n_patches: Number of patches.
        prefix_length: () or (n_images,), integers.

    Returns:
        Booleans, (1, 1, n_patches, n_patches) or (n_images, 1, n_patches, n_patches).

    Example:
        >>> prefix_mask(3, torch.tensor(2))[0, 0].int().tolist()
        [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    """
    number = torch.arange(n_patches, device=prefix_length.device)
    in_prefix = number < prefix_length.reshape(-1, 1, 1, 1)
    return (number <= number[:, None]) | in_prefix


class _Patchifier(nn.Module):
    def __init__(self, config: AimConfig) -> None:
        super().__init__()
        patch = height_and_width(config.patch_size)
        self.proj = nn.Conv2d(config.num_channels, config.hidden_size, patch, stride=patch)
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)


class _Preprocessor(nn.Module):
    """Pixels to patches with positions."""

    def __init__(self, config: AimConfig) -> None:
        super().__init__()
        self.patchifier = _Patchifier(config)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        grid = self.patchifier.proj(pixel_values)
        tokens = self.patchifier.norm(grid.flatten(2).mT)
        n_rows, n_columns = grid.shape[-2:]
        return cast(torch.Tensor, tokens + _positions(n_rows, n_columns, tokens.shape[-1]).to(tokens))


def _positions(n_rows: int, n_columns: int, width: int) -> torch.Tensor:
    """Sinusoidal positions (n_rows * n_columns, width): the column in the first half, the row in the second."""
    exponents = torch.arange(width // 4, dtype=torch.float64) / (width // 4)
    speeds = _LONGEST_WAVE**-exponents
    rows = torch.arange(n_rows).repeat_interleave(n_columns)
    columns = torch.arange(n_columns).repeat(n_rows)
    angles = [place[:, None] * speeds for place in (columns, rows)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)


class _Trunk(nn.Module):
    def __init__(self, config: AimConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(config) for _ in range(config.num_hidden_layers))
        self.post_trunk_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        for block in self.blocks:
            states = block(states, mask)
        return cast(torch.Tensor, self.post_trunk_norm(states))


class _Block(nn.Module):
    def __init__(self, config: AimConfig) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.attn = _Attention(config)
        self.norm_2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = _MLP(config)

    def forward(self, states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        states = states + self.attn(self.norm_1(states), mask)
        return cast(torch.Tensor, states + self.mlp(self.norm_2(states)))


class _Attention(nn.Module):
    def __init__(self, config: AimConfig) -> None:
        super().__init__()
        self.n_heads = config.num_attention_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size, bias=False)
        self.proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, states: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        parts = self.qkv(states).chunk(3, dim=-1)
        queries, keys, values = (part.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for part in parts)
        mixed = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return cast(torch.Tensor, self.proj(mixed.transpose(1, 2).flatten(2)))


class _MLP(nn.Module):
    def __init__(self, config: AimConfig) -> None:
        super().__init__()
        assert config.intermediate_size is not None
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return cast(torch.Tensor, self.fc2(self.act(self.fc1(states))))
