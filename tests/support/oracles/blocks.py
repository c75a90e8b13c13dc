"""One block of each kind, written by hand with plain calls of its modules, for comparison with the sites of an encoder.

Every block takes its module, what enters it (b, t, d), and the arguments that the model itself passes to it: masks and
positions. It returns its sites by name.
"""

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoConfig, AutoModel

from support.architectures import NORMS
from support.tiny_models import ENCODERS

Given = Mapping[str, Any]
Sites = dict[str, torch.Tensor]
Block = Callable[[Any, torch.Tensor, Given], Sites]


def _attend(attention: nn.Module, states: torch.Tensor, given: Given) -> torch.Tensor:
    """What attention, or a mixer, makes of states under the masks and positions of the block."""
    parameters = inspect.signature(attention.forward).parameters.values()
    names = {parameter.name for parameter in parameters}
    out = attention(states, **{name: value for name, value in given.items() if name in names})
    return out[0] if isinstance(out, tuple) else out


def _in_turn(x: torch.Tensor, attn_out: torch.Tensor, mlp: Callable[[torch.Tensor], torch.Tensor]) -> Sites:
    mid = x + attn_out
    mlp_out = mlp(mid)
    return {
        "resid_pre": x,
        "attn_out": attn_out,
        "resid_mid": mid,
        "mlp_out": mlp_out,
        "resid_post": mid + mlp_out,
    }


def _in_parallel(x: torch.Tensor, attn_out: torch.Tensor, mlp_out: torch.Tensor) -> Sites:
    return {"resid_pre": x, "attn_out": attn_out, "mlp_out": mlp_out, "resid_post": x + attn_out + mlp_out}


def _llama(block: Any, x: torch.Tensor, given: Given) -> Sites:
    attn_out = _attend(block.self_attn, block.input_layernorm(x), given)
    return _in_turn(x, attn_out, lambda mid: block.mlp(block.post_attention_layernorm(mid)))


def _gemma_2(block: Any, x: torch.Tensor, given: Given) -> Sites:
    attn_out = block.post_attention_layernorm(_attend(block.self_attn, block.input_layernorm(x), given))
    return _in_turn(
        x, attn_out, lambda mid: block.post_feedforward_layernorm(block.mlp(block.pre_feedforward_layernorm(mid)))
    )


def _gpt_2(block: Any, x: torch.Tensor, given: Given) -> Sites:
    return _in_turn(x, _attend(block.attn, block.ln_1(x), given), lambda mid: block.mlp(block.ln_2(mid)))


def _gpt_neox(block: Any, x: torch.Tensor, given: Given) -> Sites:
    attn_out = _attend(block.attention, block.input_layernorm(x), given)
    if block.use_parallel_residual:
        return _in_parallel(x, attn_out, block.mlp(block.post_attention_layernorm(x)))
    return _in_turn(x, attn_out, lambda mid: block.mlp(block.post_attention_layernorm(mid)))


def _falcon(block: Any, x: torch.Tensor, given: Given) -> Sites:
    if block.config.new_decoder_architecture:
        attn_out = _attend(block.self_attention, block.ln_attn(x), given)
        return _in_parallel(x, attn_out, block.mlp(block.ln_mlp(x)))
    normed = block.input_layernorm(x)
    attn_out = _attend(block.self_attention, normed, given)
    if block.config.parallel_attn:
        return _in_parallel(x, attn_out, block.mlp(normed))
    return _in_turn(x, attn_out, lambda mid: block.mlp(block.post_attention_layernorm(mid)))


def _phi(block: Any, x: torch.Tensor, given: Given) -> Sites:
    normed = block.input_layernorm(x)
    return _in_parallel(x, _attend(block.self_attn, normed, given), block.mlp(normed))


def _opt(block: Any, x: torch.Tensor, given: Given) -> Sites:
    def mlp(states: torch.Tensor) -> torch.Tensor:
        return block.fc2(block.activation_fn(block.fc1(states)))

    if block.do_layer_norm_before:
        attn_out = _attend(block.self_attn, block.self_attn_layer_norm(x), given)
        return _in_turn(x, attn_out, lambda mid: mlp(block.final_layer_norm(mid)))
    attn_out = _attend(block.self_attn, x, given)
    return _added_and_normed(x, attn_out, block.self_attn_layer_norm, mlp, block.final_layer_norm)


def _modernbert(block: Any, x: torch.Tensor, given: Given) -> Sites:
    attn_out = _attend(block.attn, block.attn_norm(x), given)
    return _in_turn(x, attn_out, lambda mid: block.mlp(block.mlp_norm(mid)))


def _t5(block: Any, x: torch.Tensor, given: Given) -> Sites:
    attention, mlp = block.layer
    given = {**given, "mask": given["attention_mask"]}  # which is its name in T5 and mT5, not in UMT5
    attn_out = _attend(attention.SelfAttention, attention.layer_norm(x), given)
    return _in_turn(x, attn_out, lambda mid: mlp.DenseReluDense(mlp.layer_norm(mid)))


def _added_and_normed(
    x: torch.Tensor,
    attn_out: torch.Tensor,
    first_norm: Callable[[torch.Tensor], torch.Tensor],
    mlp: Callable[[torch.Tensor], torch.Tensor],
    second_norm: Callable[[torch.Tensor], torch.Tensor],
) -> Sites:
    mid = first_norm(x + attn_out)
    mlp_out = mlp(mid)
    return {
        "resid_pre": x,
        "attn_out": attn_out,
        "resid_mid": mid,
        "mlp_out": mlp_out,
        "resid_post": second_norm(mid + mlp_out),
    }


def _bert(block: Any, x: torch.Tensor, given: Given) -> Sites:
    attention, intermediate = block.attention, block.intermediate
    attn_out = attention.output.dense(_attend(attention.self, x, given))
    return _added_and_normed(
        x,
        attn_out,
        attention.output.LayerNorm,
        lambda mid: block.output.dense(intermediate.intermediate_act_fn(intermediate.dense(mid))),
        block.output.LayerNorm,
    )


def _distilbert(block: Any, x: torch.Tensor, given: Given) -> Sites:
    ffn = block.ffn
    return _added_and_normed(
        x,
        _attend(block.attention, x, given),
        block.sa_layer_norm,
        lambda mid: ffn.lin2(ffn.activation(ffn.lin1(mid))),
        block.output_layer_norm,
    )


def _albert(group: Any, x: torch.Tensor, given: Given) -> Sites:
    (block,) = group.albert_layers
    attention = block.attention
    heads = (*x.shape[:2], attention.num_attention_heads, -1)
    parts = [part(x).view(heads).transpose(1, 2) for part in (attention.query, attention.key, attention.value)]
    attended = nn.functional.scaled_dot_product_attention(*parts, attn_mask=given["attention_mask"])
    return _added_and_normed(
        x,
        attention.dense(attended.transpose(1, 2).reshape(x.shape)),
        attention.LayerNorm,
        lambda mid: block.ffn_output(block.activation(block.ffn(mid))),
        block.full_layer_layer_norm,
    )


def _mamba(block: Any, x: torch.Tensor, given: Given) -> Sites:
    mixed = _attend(block.mixer, block.norm(x.to(block.norm.weight.dtype)), given)
    x = x.to(torch.float32 if block.residual_in_fp32 else x.dtype)
    return {"resid_pre": x, "mixer_out": mixed, "resid_post": x + mixed}


# The path of the blocks, and what a block does.
_BLOCKS: dict[str, tuple[str, Block]] = {
    "albert": ("encoder.albert_layer_groups", _albert),
    "distilbert": ("transformer.layer", _distilbert),
    "falcon": ("h", _falcon),
    "gemma2": ("layers", _gemma_2),
    "gemma3_text": ("layers", _gemma_2),
    "gpt2": ("h", _gpt_2),
    "gpt_neox": ("layers", _gpt_neox),
    "modernbert": ("layers", _modernbert),
    "opt": ("decoder.layers", _opt),
    "phi": ("layers", _phi),
    **dict.fromkeys(["bert", "camembert", "roberta", "xlm-roberta"], ("encoder.layer", _bert)),
    **dict.fromkeys(["gemma", "llama", "mistral", "phi3", "qwen2", "qwen3"], ("layers", _llama)),
    **dict.fromkeys(["mamba", "mamba2"], ("layers", _mamba)),
    **dict.fromkeys(["mt5", "t5", "umt5"], ("encoder.block", _t5)),
}


class PlainSites:
    """The sites of every block of a model, without any code of ours.

    Args:
        folder: The model.
        bidirectional: Whether every token attends to every other token of its text.
        adapter: An adapter that peft merges into the weights.
        dtype: dtype of the weights.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bidirectional: bool = False,
        adapter: Path | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._kind = AutoConfig.from_pretrained(folder).model_type
        self._bidirectional = bidirectional
        model: Any = ENCODERS.get(self._kind, AutoModel).from_pretrained(folder, dtype=dtype)
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
        self._model: Any = model.eval()
        path, self._block = _BLOCKS[self._kind]
        blocks = self._model.get_submodule(path)
        n_blocks = self._model.config.num_hidden_layers
        # ALBERT calls a few groups again and again.
        self._blocks = [blocks[number * len(blocks) // n_blocks] for number in range(n_blocks)]
        post_norm_opt = self._kind == "opt" and not self._model.config.do_layer_norm_before
        has_norm = self._kind in NORMS and not post_norm_opt
        self.final_norm: nn.Module = self._model.get_submodule(NORMS[self._kind]) if has_norm else nn.Identity()

    @torch.inference_mode()
    def of(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> list[Sites]:
        """The token states (b, t, d) at every site of blocks 1..L."""
        given: list[dict[str, Any]] = []

        def keep(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            bound = inspect.signature(block.forward).bind(*args, **kwargs).arguments
            _, *others = bound.items()
            flat = {**dict(others), **bound.get("kwargs", {})}
            given.append({name: value for name, value in flat.items() if name != "kwargs"})

        hooks = [block.register_forward_pre_hook(keep, with_kwargs=True) for block in dict.fromkeys(self._blocks)]
        out = self._model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False, output_hidden_states=True
        )
        for hook in hooks:
            hook.remove()
        states = list(out.hidden_states)
        if self._kind in ("mamba", "mamba2"):  # which does not return its embeddings
            states.insert(0, self._model.embeddings(input_ids))
        if not self._bidirectional:
            return [self._block(*of_block) for of_block in zip(self._blocks, states, given, strict=False)]
        to_every_token = {"attention_mask": attention_mask[:, None, None, :].bool()}
        found = [self._block(self._blocks[0], states[0], {**given[0], **to_every_token})]
        for block, arguments in zip(self._blocks[1:], given[1:], strict=True):
            found.append(self._block(block, found[-1]["resid_post"], {**arguments, **to_every_token}))
        return found

    def means(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, *, final_norm: bool) -> list[Sites]:
        """The mean over each text's tokens, (b, d); the residual stream after the model's own norm, if asked for."""
        weights = (attention_mask / attention_mask.sum(dim=1, keepdim=True))[:, :, None]
        norm = self.final_norm if final_norm else nn.Identity()
        with torch.inference_mode():
            return [
                {
                    site: ((norm(states) if site.startswith("resid") else states).float() * weights).sum(dim=1)
                    for site, states in block.items()
                }
                for block in self.of(input_ids, attention_mask)
            ]
