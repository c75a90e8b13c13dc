"""Tiny exports of every architecture that is known, with values in their configs that are no defaults."""

from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from midlayer_embed import MidLayerEncoder
from support.architectures import MODELS, SENTENCES
from support.tiny_models import save_model

# Of 5 tokens and of over 400, and two between them.
TEXTS = ("The weather is lovely.", " ".join(SENTENCES * 12), "word", SENTENCES[4])


_FITTED_ON = [f"{text} {number}" for text in SENTENCES for number in range(10)]


def _rope(**entries: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 777.0, **entries}}


def _two_ropes(**entries: Any) -> dict[str, Any]:
    full, sliding = _rope(**entries)["rope_parameters"], {"rope_type": "default", "rope_theta": 99.0}
    return {"rope_parameters": {"full_attention": full, "sliding_attention": sliding}}


_LLAMA3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 128}
_LONGROPE = {"short_factor": [1.0] * 4, "long_factor": [2.0, 3.0, 4.0, 5.0]}
_ODD = {"layer_types": ["full_attention", "sliding_attention", "full_attention"]}
# Name of a tiny model, what is particular to this one: entries of its config.
_VARIANTS: dict[tuple[str, str], dict[str, Any]] = {
    **{(name, "theta"): _rope() for name in ("falcon", "gemma", "gemma2", "llama", "mistral", "qwen3")},
    **{(name, "linear"): _rope(rope_type="linear", factor=3.0) for name in ("falcon", "gpt_neox", "llama", "phi")},
    ("llama", "dynamic"): _rope(rope_type="dynamic", factor=4.0),
    ("llama", "llama3"): _rope(rope_type="llama3", factor=4.0, **_LLAMA3),
    ("llama", "yarn"): _rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=128),
    ("gpt_neox", "rope"): _rope(partial_rotary_factor=0.5),
    ("phi", "rope"): _rope(partial_rotary_factor=0.25),
    ("phi3", "rope"): _rope(partial_rotary_factor=0.5),
    ("phi3", "longrope"): {"original_max_position_embeddings": 128, **_rope(rope_type="longrope", **_LONGROPE)},
    ("gemma3", "rope"): _two_ropes(),
    ("gemma3", "linear"): _two_ropes(rope_type="linear", factor=3.0),
    ("modernbert", "rope"): _two_ropes(),
    ("gemma2", "odd"): _ODD,
    ("gemma3", "odd"): _ODD,
    ("modernbert", "odd"): {"layer_types": ["sliding_attention", "full_attention", "full_attention"]},
    ("modernbert", "every"): _ODD,
    ("qwen2", "plain"): {"use_sliding_window": False},
    ("mistral", "full"): {"sliding_window": None},
    ("llama", "bias"): {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu"},
    ("gpt_neox", "serial"): {"use_parallel_residual": False, "attention_bias": False},
    ("gpt2", "scaled"): {"scale_attn_by_inverse_layer_idx": True, "layer_norm_epsilon": 1e-3},
    ("gpt2", "unscaled"): {"scale_attn_weights": False},
    ("gemma2", "capped"): {"attn_logit_softcapping": 2.0, "query_pre_attn_scalar": 16},
    ("gemma3", "scaled"): {"query_pre_attn_scalar": 16},
    ("mamba2", "limited"): {"time_step_limit": (0.0, 0.5)},
    ("t5", "gated"): {"feed_forward_proj": "gated-gelu", "relative_attention_max_distance": 20},
}


@dataclass(frozen=True)
class Export:
    """A tiny model, and how one of its layers is exported."""

    model_type: str
    entries: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def tolerance(self) -> float:
        """How far vectors may differ: older versions compute in float32 whatever the weights are in."""
        return 1e-5 if "dtype" not in self.options else 0.1


def _models() -> dict[str, tuple[str, dict[str, Any]]]:
    """Every tiny model and its variants, with enough positions for the long text."""
    found = {}
    for name, (model_type, entries) in MODELS.items():
        more = {key: 512 for key in ("max_position_embeddings", "n_positions") if key in entries}
        found[name] = (model_type, {**entries, **more})
    for (name, variant), changes in _VARIANTS.items():
        found[f"{name}-{variant}"] = (found[name][0], deepcopy({**found[name][1], **changes}))
    return found


def exports() -> dict[str, Export]:
    """Exports by name."""
    models = _models()
    found = {name: Export(*model) for name, model in models.items()}

    def more(name: str, what: str, **options: Any) -> None:
        found[f"{name}, {what}"] = Export(*models[name], options)

    for mode in ("cls", "lasttoken", "max", "mean_sqrt_len_tokens", "weightedmean", "cls+mean", "mean+cls"):
        more("llama", mode, pooling_mode=mode)
    more("llama", "prompts", prompts={"query": "A query: "}, default_prompt_name="query")
    more("llama", "prompts left out", prompts={"query": "A query: "}, default_prompt_name="query", include_prompt=False)
    more("bert", "prompts left out", prompts={"query": "A query:"}, default_prompt_name="query", include_prompt=False)
    more("llama", "truncated", max_seq_length=16)
    more("llama", "truncated dimensions", truncate_dim=8)
    more("llama", "layer 0", layer=0)
    more("llama", "raw", final_norm=False)
    more("gpt_neox", "raw", final_norm=False)
    more("falcon", "raw", final_norm=False)
    for dtype in ("bfloat16", "float16"):
        more("llama", dtype, dtype=dtype)
    for name in ("bert", "gemma3", "gpt_neox", "llama", "mamba"):
        for template in ("echo", "eol", "Of {text}, in short:"):
            more(name, f"template {template}", template=template)
        for transform in ("center", "standardize", "remove:1", "whiten"):
            more(name, transform, transform=transform, transform_texts=_FITTED_ON)
        more(name, "all of it", template="echo", transform="whiten", transform_texts=_FITTED_ON, dim=8)
    more("llama", "bidirectional", bidirectional=True)
    more("gemma3", "bidirectional", bidirectional=True)
    return found


def write_exports(folder: Path, wanted: dict[str, Export]) -> dict[str, list[list[int]]]:
    """Write each export into a folder of its name, with the vectors of `TEXTS`. Returns the token ids by name."""
    ids = {}
    for name, export in wanted.items():
        base = folder / "models" / name.partition(",")[0]
        if not base.exists():
            save_model(export.model_type, export.entries, base)
        options = {"layer": 2, "device": "cpu", **export.options}
        encoder = MidLayerEncoder(base, **options)
        encoder.save_pretrained(str(folder / "exports" / name))
        vectors = encoder.encode(list(TEXTS), batch_size=1)  # some rotary scalings depend on the rest of the batch
        np.save(folder / "exports" / name / "vectors.npy", vectors)
        ids[name] = [encoder.tokenizer(text, truncation=True)["input_ids"] for text in TEXTS]
    return ids
