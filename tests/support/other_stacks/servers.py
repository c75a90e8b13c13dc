"""Readings of a saved folder by the rules of two servers, written anew from what their sources do.

They stop where the servers stop, and go on where they go on, with what they then compute.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

_OLD = "sentence_transformers.models."
# text-embeddings-inference 1.9: the entries of config.json that have no default, by architecture.
_ALL = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_ROTARY = (*_ALL, "num_key_value_heads", "hidden_act", "rms_norm_eps")
_TEI_NEEDS = {
    "bert": (*_ALL, "hidden_act", "type_vocab_size", "layer_norm_eps", "pad_token_id", "initializer_range"),
    "distilbert": ("vocab_size", "dim", "n_layers", "n_heads", "hidden_dim", "activation", "pad_token_id"),
    "gemma3_text": (
        *("attention_bias", "pad_token_id", "hidden_activation", "query_pre_attn_scalar", "rms_norm_eps"),
        *("num_key_value_heads", "rope_local_base_freq", "_sliding_window_pattern", "use_bidirectional_attention"),
    ),
    "llama": (*_ROTARY, "initializer_range"),
    "mistral": (*_ROTARY, "initializer_range"),
    "modernbert": (
        *(*_ALL, "hidden_activation", "initializer_cutoff_factor", "norm_eps", "norm_bias", "pad_token_id"),
        *("bos_token_id", "cls_token_id", "sep_token_id", "global_rope_theta", "local_rope_theta", "local_attention"),
        *("global_attn_every_n_layers", "attention_bias", "attention_dropout", "classifier_activation"),
    ),
    "qwen2": (*_ROTARY, "use_sliding_window"),
    "qwen3": (*_ROTARY, "attention_bias", "use_sliding_window", "eos_token_id"),
}
_TEI_NEEDS |= dict.fromkeys(("camembert", "roberta", "xlm-roberta"), _TEI_NEEDS["bert"])


class Refused(Exception):
    """The server does not start, or answers with an error."""


def _load(file: Path) -> Any:
    return json.loads(file.read_text())


def _need(entries: dict[str, Any], names: tuple[str, ...], file: str) -> None:
    for name in names:
        if entries.get(name) is None:
            raise Refused(f"{file}: missing field `{name}`")


def tei_vectors(folder: Path, texts: list[str]) -> np.ndarray:
    """Vectors by text-embeddings-inference, normalised as it does by default. Raises Refused."""
    config, pooling = _load(folder / "config.json"), _load(folder / "1_Pooling" / "config.json")
    _need(config, ("architectures", "max_position_embeddings"), "config.json")
    if config["model_type"] not in _TEI_NEEDS:
        raise Refused(f"unknown variant `{config['model_type']}`")
    _need(config, _TEI_NEEDS[config["model_type"]], "config.json")
    if (rope := config.get("rope_parameters")) is not None:
        _need(rope, ("rope_theta", "rope_type"), "rope_parameters")
    elif "rms_norm_eps" in _TEI_NEEDS[config["model_type"]]:
        _need(config, ("rope_theta",), "config.json")
    _need(pooling, ("pooling_mode_cls_token", "pooling_mode_mean_tokens"), "1_Pooling/config.json")
    flags = ("pooling_mode_cls_token", "pooling_mode_mean_tokens", "pooling_mode_lasttoken")
    pool = next((flag for flag in flags if pooling.get(flag)), None)
    if pool is None:
        raise Refused(f"Pooling config {pooling} is not supported")
    limits = _load(folder / "sentence_bert_config.json")
    _need(limits, ("max_seq_length",), "sentence_bert_config.json")
    if any(prompt is None for prompt in _load(folder / "config_sentence_transformers.json")["prompts"].values()):
        raise Refused("config_sentence_transformers.json: a prompt is null")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(limits["max_seq_length"])
    found = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        if len(ids) > limits["max_seq_length"]:
            raise Refused(f"`inputs` must have less than {limits['max_seq_length']} tokens. Given: {len(ids)}")
        states = _states(folder, ids)
        by = {"cls_token": states[0], "mean_tokens": states.mean(dim=0), "lasttoken": states[-1]}
        found.append(by[pool.removeprefix("pooling_mode_")])
    return _after_pooling(folder, torch.stack(found), all_types_known=True)


def vllm_vectors(folder: Path, texts: list[str], *, knows_new_names: bool = False) -> np.ndarray:
    """Vectors by vLLM, normalised. Before September 2026 it knew the older names and flags alone.

    A decoder whose pooling it does not understand gets its own default, the last token.
    """
    modules = _load(folder / "modules.json")
    names = {f"{_OLD}Pooling"}
    if knows_new_names:
        names.add("sentence_transformers.sentence_transformer.modules.pooling.Pooling")
    module = next((module for module in modules if module["type"] in names), None)
    said = _load(folder / module["path"] / "config.json") if module else {}
    kinds = [name.removeprefix("pooling_mode_").split("_")[0] for name, value in said.items() if value is True]
    if knows_new_names and isinstance(said.get("pooling_mode"), str):
        kinds.append(said["pooling_mode"])
    kind = next((kind for kind in reversed(kinds) if kind in ("cls", "mean", "lasttoken")), "lasttoken")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    limit = _load(folder / "sentence_bert_config.json").get("max_seq_length")
    found = []
    for text in texts:
        # with the request's truncate_prompt_tokens
        ids = tokenizer(text, truncation=limit is not None, max_length=limit)["input_ids"]
        states = _states(folder, ids)
        found.append({"cls": states[0], "mean": states.mean(dim=0), "lasttoken": states[-1]}[kind])
    return _after_pooling(folder, torch.stack(found), all_types_known=False)


def _states(folder: Path, ids: list[int]) -> torch.Tensor:
    model = AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states: torch.Tensor = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    return states


def _after_pooling(folder: Path, vectors: torch.Tensor, *, all_types_known: bool) -> np.ndarray:
    """Dense modules under their older name, then length 1. A server that has to know all types else takes none."""
    modules = _load(folder / "modules.json")
    known = {f"{_OLD}{kind}" for kind in ("Dense", "Normalize", "Pooling", "Transformer")}
    if all_types_known and any(module["type"] not in known for module in modules):
        modules = []
    for module in modules:
        if module["type"] == f"{_OLD}Dense":
            said = _load(folder / module["path"] / "config.json")
            if said["activation_function"] != "torch.nn.modules.linear.Identity":
                raise Refused(f"unknown variant `{said['activation_function']}`")
            weights = load_file(folder / module["path"] / "model.safetensors")
            vectors = vectors @ weights["linear.weight"].T + weights["linear.bias"]
    return torch.nn.functional.normalize(vectors, dim=1).numpy()
