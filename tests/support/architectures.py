"""The configs of the tiny models: one of every architecture, and what is particular to some. Imports no library."""

from typing import Any

N_BLOCKS = 3
DIM = 32
VOCABULARY = 400

SENTENCES = [
    "The weather is lovely today.",
    "It is so sunny outside!",
    "He drove to the stadium.",
    "A short one.",
    "Matrices are factored into a product of an orthogonal and a triangular one, which is slower but safer.",
    "word",
    "Numbers, signs & punctuation: 3.14, (a + b)^2 = c?",
    "The mean of an empty slice is not a number, whatever the weather may be at the stadium today.",
]

_COMMON = {"vocab_size": VOCABULARY, "hidden_size": DIM, "num_hidden_layers": N_BLOCKS, "initializer_range": 0.15}
_ATTENTION = {**_COMMON, "intermediate_size": 64, "num_attention_heads": 4, "max_position_embeddings": 128}
GROUPED = {**_ATTENTION, "num_key_value_heads": 2, "pad_token_id": None}
_GEMMA = {**_ATTENTION, "num_key_value_heads": 2, "head_dim": 8}
_BERT = {**_ATTENTION, "pad_token_id": 0}
_CLS_SEP = {"cls_token_id": 1, "bos_token_id": 1, "sep_token_id": 2, "eos_token_id": 2}
_ROBERTA = {**_ATTENTION, "pad_token_id": 1, "type_vocab_size": 1}
_FALCON = {**_COMMON, "num_attention_heads": 4, "max_position_embeddings": 128}
_T5 = {**_COMMON, "d_kv": 8, "d_ff": 64, "num_heads": 4, "tie_word_embeddings": True}
_OPT = {**_COMMON, "ffn_dim": 64, "num_attention_heads": 4, "max_position_embeddings": 128}
_MIXED_ATTENTION = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}

# Name: model type, config entries. A variant of an architecture is named after what is particular to it.
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", GROUPED),
    "gpt_neox": ("gpt_neox", _ATTENTION),
    "bert": ("bert", _BERT),
    "mamba": ("mamba", {**_COMMON, "state_size": 4}),
    "albert": ("albert", {**_BERT, "embedding_size": 16}),
    "albert-groups": ("albert", {**_BERT, "embedding_size": 16, "num_hidden_groups": 2}),
    "camembert": ("camembert", _ROBERTA),
    "distilbert": ("distilbert", {**_BERT, "hidden_dim": 64}),
    "falcon": ("falcon", _FALCON),
    "falcon-alibi": ("falcon", {**_FALCON, "alibi": True, "parallel_attn": False}),
    "falcon-new": ("falcon", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "gemma": ("gemma", _GEMMA),
    "gemma2": ("gemma2", {**_GEMMA, **_MIXED_ATTENTION}),
    "gemma3": ("gemma3_text", {**_GEMMA, **_MIXED_ATTENTION}),
    "gpt2": ("gpt2", {**_COMMON, "n_head": 4, "n_positions": 128}),
    "mamba2": ("mamba2", {**_COMMON, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1, "chunk_size": 8}),
    "mistral": ("mistral", {**GROUPED, "sliding_window": 8}),
    "modernbert": ("modernbert", {**_BERT, **_CLS_SEP, "local_attention": 8}),
    "mt5": ("mt5", {**_T5, "feed_forward_proj": "gated-gelu"}),
    "opt": ("opt", {**_OPT, "word_embed_proj_dim": DIM}),
    "opt-projected": ("opt", {**_OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "phi": ("phi", GROUPED),
    "phi3": ("phi3", GROUPED),
    "qwen2": ("qwen2", {**GROUPED, "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "qwen3": ("qwen3", {**GROUPED, "head_dim": 8}),
    "roberta": ("roberta", _ROBERTA),
    "t5": ("t5", _T5),
    "umt5": ("umt5", _T5),
    "xlm-roberta": ("xlm-roberta", _ROBERTA),
}
ARCHITECTURES = sorted(MODELS)
TINY_TYPES = {model_type for model_type, _ in MODELS.values()}
# One of each kind: a decoder of each norm, an encoder, a recurrent model.
FAMILIES = ["bert", "gpt_neox", "llama", "mamba"]

NORMS = {
    "falcon": "ln_f",
    "gpt2": "ln_f",
    "gpt_neox": "final_layer_norm",
    "mamba": "norm_f",
    "mamba2": "norm_f",
    "modernbert": "final_norm",
    "mt5": "encoder.final_layer_norm",
    "opt": "decoder.final_layer_norm",
    "phi": "final_layernorm",
    "t5": "encoder.final_layer_norm",
    "umt5": "encoder.final_layer_norm",
    **dict.fromkeys(["gemma", "gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3"], "norm"),
}
