"""Table of architectures: the paths of their blocks, their sites and final norm. No model is loaded here.

To add an architecture, add a row here and a tiny model to the tests. Architectures that are not in the table are found
by structure or registered by the user (`discovery`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn
from transformers import PretrainedConfig

from midlayer_embed.errors import InputError
from midlayer_embed.models.sites import BlockSites, Tap, mixer_sites, transformer_sites


@dataclass(frozen=True)
class HiddenStates:
    """The raw states that stock transformers returns as `hidden_states`, with `config.tie_last_hidden_states = False`.

    Attributes:
        first_layer: Layer of the first entry; the other entries follow in order.
        has_last_layer: Whether the raw states of layer L are included, not only the normed ones.
    """

    first_layer: int = 0
    has_last_layer: bool = True


@dataclass(frozen=True)
class Family:
    """Properties of an architecture. Dotted paths start at the base model (the one that `AutoModel` loads).

    Attributes:
        blocks: Path of the list of blocks. The input of the first block is layer 0.
        final_norm: Path of the norm after the last block; None if the model has none.
        hidden_states: Raw states that stock transformers returns; None if unknown.
        ends_with_norm: Whether `last_hidden_state` is the output of the final norm (without one, of the last block).
        calls: Indices in the list of blocks 1, 2, ..., where blocks share weights; None: each item is one block.
        fewest_blocks: Smallest number of blocks that stock transformers can build.
        position_offset: Number of positions in `max_position_embeddings` that no token can have.
        model_class: Name of the class to load, if not `AutoModel`'s: the encoder of an encoder-decoder, or of images.
            One of transformers, or with the module that it is in.
        sites: Where the sites within a block are; None if unknown.
        weights: Prefix of its weights in a checkpoint of several models, where transformers does not know it.
        auto: The criterion that "auto" takes for this architecture, whatever is embedded, and why; None: it depends.
    """

    blocks: str
    final_norm: str | None
    hidden_states: HiddenStates | None = HiddenStates()
    ends_with_norm: bool = True
    calls: tuple[int, ...] | None = None
    fewest_blocks: int = 0
    position_offset: int = 0
    model_class: str | None = None
    sites: BlockSites | None = None
    auto: tuple[str, str] | None = None
    weights: str = ""


# Norm, attention, sum, norm, MLP, sum.
_PRE_NORM = transformer_sites("self_attn", "mlp", between="post_attention_layernorm")
# The same with a norm of what each part adds.
_SANDWICH = transformer_sites("post_attention_layernorm", "post_feedforward_layernorm", "pre_feedforward_layernorm")
# Attention, sum, norm, MLP, sum, norm.
_ADD_AND_NORM = transformer_sites("attention.output.dense", "output.dense", between=Tap("attention"))
_T5_SITES = transformer_sites("layer.0.SelfAttention", "layer.1.DenseReluDense", between="layer.1")


def _roberta(config: PretrainedConfig) -> Family:
    # Positions start after the index of the padding token.
    return Family("encoder.layer", None, position_offset=(config.pad_token_id or 0) + 1, sites=_ADD_AND_NORM)


def _opt(config: PretrainedConfig) -> Family:
    # OPT-350m is post-norm, hence without a final norm, and projects its last states to the width of the vocabulary.
    has_norm = config.do_layer_norm_before and not config._remove_final_layer_norm
    return Family(
        "decoder.layers",
        "decoder.final_layer_norm" if has_norm else None,
        ends_with_norm=config.word_embed_proj_dim == config.hidden_size,
        sites=transformer_sites(
            "self_attn",
            "fc2",
            between="final_layer_norm" if config.do_layer_norm_before else Tap("self_attn_layer_norm"),
        ),
    )


def _gpt_neox(config: PretrainedConfig) -> Family:
    between = None if config.use_parallel_residual else "post_attention_layernorm"
    return Family("layers", "final_layer_norm", sites=transformer_sites("attention", "mlp", between))


def _falcon(config: PretrainedConfig) -> Family:
    is_parallel = config.new_decoder_architecture or config.parallel_attn
    between = None if is_parallel else "post_attention_layernorm"
    return Family("h", "ln_f", _LAST_IS_NORMED, sites=transformer_sites("self_attention", "mlp", between))


def _albert(config: PretrainedConfig) -> Family:
    # Every layer is a call of one of a few groups (of a single group in all published models).
    if config.inner_group_num != 1:
        raise InputError(f"model: ALBERT with inner_group_num = {config.inner_group_num} is not supported, only with 1")
    n_layers, n_groups = config.num_hidden_layers, config.num_hidden_groups
    calls = tuple(int(layer / (n_layers / n_groups)) for layer in range(n_layers))
    layer = "albert_layers.0"
    sites = transformer_sites(f"{layer}.attention.dense", f"{layer}.ffn_output", between=Tap(f"{layer}.attention"))
    return Family("encoder.albert_layer_groups", None, calls=calls, sites=sites)


_BERT = Family("encoder.layer", None, sites=_ADD_AND_NORM)
_LLAMA = Family("layers", "norm", sites=_PRE_NORM)
_GEMMA_2 = Family("layers", "norm", sites=_SANDWICH)
# The embeddings are not recorded.
_MAMBA = Family("layers", "norm_f", HiddenStates(first_layer=1), sites=mixer_sites("mixer"))
# Older forward passes, where the last of the hidden states is always the normed one, whatever the config says.
_LAST_IS_NORMED = HiddenStates(has_last_layer=False)

_FAMILIES: dict[str, Family | Callable[[PretrainedConfig], Family]] = {
    "albert": _albert,
    "bert": _BERT,
    "camembert": _roberta,
    "distilbert": Family(
        "transformer.layer", None, sites=transformer_sites("attention", "ffn", between=Tap("sa_layer_norm"))
    ),
    "falcon": _falcon,
    "gemma": _LLAMA,
    "gemma2": _GEMMA_2,
    "gemma3_text": _GEMMA_2,
    "gpt2": Family("h", "ln_f", sites=transformer_sites("attn", "mlp", between="ln_2")),
    "gpt_neox": _gpt_neox,
    "llama": _LLAMA,
    "mamba": _MAMBA,
    "mamba2": _MAMBA,
    "mistral": _LLAMA,
    "modernbert": Family(
        "layers",
        "final_norm",
        fewest_blocks=1,  # its initialisation divides by the number of blocks
        sites=transformer_sites("attn", "mlp", between="mlp_norm"),
    ),
    "mt5": Family("encoder.block", "encoder.final_layer_norm", model_class="MT5EncoderModel", sites=_T5_SITES),
    "opt": _opt,
    "phi": Family("layers", "final_layernorm", sites=transformer_sites("self_attn", "mlp", between=None)),
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "roberta": _roberta,
    "t5": Family("encoder.block", "encoder.final_layer_norm", model_class="T5EncoderModel", sites=_T5_SITES),
    "umt5": Family(
        "encoder.block",
        "encoder.final_layer_norm",
        _LAST_IS_NORMED,
        model_class="UMT5EncoderModel",
        sites=_T5_SITES,
    ),
    "xlm-roberta": _roberta,
}


def known_families() -> list[str]:
    """Sorted `config.model_type`s of the table.

    Example:
        >>> "llama" in known_families()
        True
    """
    return sorted(_FAMILIES)


def family_of(config: PretrainedConfig) -> Family | None:
    """The family of a model's config, or None if the architecture is not in the table.

    Raises:
        InputError: (a ValueError) this variant of the architecture is not supported.

    Example:
        >>> from transformers import OPTConfig
        >>> family_of(OPTConfig()).final_norm, family_of(OPTConfig(do_layer_norm_before=False)).final_norm
        ('decoder.final_layer_norm', None)
    """
    family = _FAMILIES.get(config.model_type)
    return family(config) if callable(family) else family


def blocks_of(model: nn.Module, family: Family) -> Sequence[nn.Module]:
    """Blocks 1..L of a base model in call order; a block that is called repeatedly is listed repeatedly."""
    blocks = model.get_submodule(family.blocks)
    assert isinstance(blocks, nn.ModuleList)
    return list(blocks) if family.calls is None else [blocks[call] for call in family.calls]


def final_norm_of(model: nn.Module, family: Family) -> nn.Module | None:
    """The final norm of a base model, or None if it has none."""
    return None if family.final_norm is None else model.get_submodule(family.final_norm)
