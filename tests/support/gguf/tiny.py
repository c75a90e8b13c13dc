"""Writes tiny GGUF files of several architectures with the writer of the package gguf, as llama.cpp would."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np

DIM, HIDDEN, VOCABULARY, HEADS = 32, 128, 300, 4
# The size of a head: transformers reads none for Qwen3, and takes the scale of Gemma 3 for one of 256.
_HEAD = {"gemma3": 256, "qwen3": 128}
# The number of positions: transformers reads none for GPT-2.
_POSITIONS = {"gpt2": 1024}
_NORMS = ("attn_norm", "ffn_norm")


def _llama(head: int = DIM // HEADS) -> dict[str, tuple[int, ...]]:
    return {
        **{f"attn_{part}": (HEADS * head, DIM) for part in "qkv"},
        **{"attn_output": (DIM, HEADS * head)},
        **{"ffn_gate": (HIDDEN, DIM), "ffn_up": (HIDDEN, DIM), "ffn_down": (DIM, HIDDEN)},
    }


_LLAMA = _llama()
_WITH_BIAS = {"attn_output": (DIM, DIM), "ffn_up": (HIDDEN, DIM), "ffn_down": (DIM, HIDDEN)}
# The matrices of a block, its norms (or vectors), and whether all of them have biases, by architecture.
_BLOCKS: dict[str, tuple[dict[str, tuple[int, ...]], tuple[str, ...], bool]] = {
    "llama": (_LLAMA, _NORMS, False),
    "qwen2": (_LLAMA, _NORMS, False),
    "qwen3": (_llama(_HEAD["qwen3"]), _NORMS, False),
    "gemma3": (_llama(_HEAD["gemma3"]), (*_NORMS, "post_attention_norm", "post_ffw_norm"), False),
    "gpt2": ({"attn_qkv": (3 * DIM, DIM), **_WITH_BIAS}, _NORMS, True),
    "phi2": ({"attn_qkv": (3 * DIM, DIM), **_WITH_BIAS}, ("attn_norm",), True),
    "bert": (
        {**{f"attn_{part}": (DIM, DIM) for part in "qkv"}, **_WITH_BIAS},
        ("attn_output_norm", "layer_output_norm"),
        True,
    ),
    "nomic-bert": (
        {
            "attn_qkv": (3 * DIM, DIM),
            **{name: shape for name, shape in _LLAMA.items() if name[-2:] not in ("_q", "_k", "_v")},
        },
        ("attn_output_norm", "layer_output_norm"),
        False,
    ),
}
ARCHITECTURES = tuple(_BLOCKS)
# Those that transformers reads out of a GGUF file.
READ_BY_TRANSFORMERS = ("llama", "qwen2", "qwen3", "gemma3", "gpt2")
_WITH_POSITIONS = ("gpt2", "bert")


def tiny_gguf(
    path: Path,
    architecture: str = "llama",
    n_blocks: int = 3,
    *,
    kind: str = "F32",
    alignment: int | None = None,
    untied: bool = False,
    fields: dict[str, Any] | None = None,
) -> Path:
    """Writes a file of random but reproducible weights.

    Args:
        path: The file.
        architecture: One of `ARCHITECTURES`; others get the tensors of a Llama.
        n_blocks: The number of blocks.
        kind: The type of its matrices; of K-quants, whose bytes are drawn, they have 256 columns.
        alignment: Of its tensors.
        untied: Whether it has a head for next tokens.
        fields: More fields: ints, floats, bools, strings and lists; they win over those that a file has by itself.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for key, value in {**_fields(architecture, n_blocks), **(fields or {})}.items():
        writer.add_key_value(key, value, *_type_of(value))
    rng = np.random.default_rng(0)
    for name, shape in _tensors(architecture, n_blocks, untied):
        weights = rng.normal(scale=0.2, size=shape).astype(np.float32)
        if "norm" in name and architecture != "gemma3":
            weights += 1
        of_type = gguf.GGMLQuantizationType["F32" if len(shape) < 2 else kind]
        if of_type.name in ("F32", "F16"):
            writer.add_tensor(name, weights.astype(np.float16 if of_type.name == "F16" else np.float32))
        elif of_type.name.endswith("_K"):
            in_block, of_block = gguf.GGML_QUANT_SIZES[of_type]
            drawn = rng.integers(0, 256, size=(shape[0], 256 // in_block * of_block), dtype=np.uint8)
            writer.add_tensor(name, drawn, raw_dtype=of_type)
        else:
            writer.add_tensor(name, gguf.quants.quantize(weights, of_type), raw_dtype=of_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def fields_of(path: Path) -> dict[str, tuple[list[Any], Any]]:
    """The type and the value of each field, as the package gguf reads them."""
    fields = gguf.GGUFReader(path).fields
    return {key: (found.types, found.contents()) for key, found in fields.items() if not key.startswith("GGUF.")}


def tensors_of(path: Path) -> dict[str, tuple[str, list[int], bytes]]:
    """The type, the shape and the bytes of each tensor, as the package gguf reads them."""
    tensors = gguf.GGUFReader(path).tensors
    return {found.name: (found.tensor_type.name, found.shape.tolist(), found.data.tobytes()) for found in tensors}


def _type_of(value: Any) -> tuple[Any, ...]:
    kinds = gguf.GGUFValueType
    if isinstance(value, list):
        return kinds.ARRAY, {bool: kinds.BOOL, int: kinds.INT32, float: kinds.FLOAT32, str: kinds.STRING}[
            type(value[0])
        ]
    return ({bool: kinds.BOOL, int: kinds.UINT32, float: kinds.FLOAT32, str: kinds.STRING}[type(value)],)


def _fields(architecture: str, n_blocks: int) -> dict[str, Any]:
    from tokenizers.pre_tokenizers import ByteLevel

    tokens = ["<eos>", *sorted(ByteLevel.alphabet()), "he", "ll"]
    tokens += [f"<{number}>" for number in range(VOCABULARY - len(tokens))]
    head = _HEAD.get(architecture, DIM // HEADS)
    of_architecture = {
        "block_count": n_blocks,
        "context_length": _POSITIONS.get(architecture, 64),
        "embedding_length": DIM,
        "feed_forward_length": HIDDEN,
        "attention.head_count": HEADS,
        "attention.head_count_kv": HEADS,
        "attention.layer_norm_rms_epsilon": 1e-5,
        "attention.layer_norm_epsilon": 1e-5,
        "attention.key_length": head,
        "attention.value_length": head,
        "rope.freq_base": 10000.0,
        "rope.dimension_count": head,
        "vocab_size": VOCABULARY,
        **({"attention.sliding_window": 8} if architecture == "gemma3" else {}),
        **({"attention.causal": False} if "bert" in architecture else {}),
    }
    return {
        "general.name": "Tiny",
        **{f"{architecture}.{name}": value for name, value in of_architecture.items()},
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] + [1] * (VOCABULARY - 1),
        "tokenizer.ggml.merges": ["h e", "l l"],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 0,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.add_bos_token": False,
    }


def _tensors(architecture: str, n_blocks: int, untied: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
    matrices, norms, biases = _BLOCKS.get(architecture, _BLOCKS["llama"])

    def with_bias(name: str, shape: tuple[int, ...], wanted: bool) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield f"{name}.weight", shape
        if wanted:
            yield f"{name}.bias", shape[:1]

    yield "token_embd.weight", (VOCABULARY, DIM)
    if architecture in _WITH_POSITIONS:
        yield "position_embd.weight", (_POSITIONS.get(architecture, 64), DIM)
    if "bert" in architecture:
        yield "token_types.weight", (2, DIM)
        yield from with_bias("token_embd_norm", (DIM,), True)
    for block in range(n_blocks):
        for name, shape in matrices.items():
            of_qwen2 = architecture == "qwen2" and name[-2:] in ("_q", "_k", "_v")
            yield from with_bias(f"blk.{block}.{name}", shape, biases or of_qwen2)
        for name in norms:
            yield from with_bias(f"blk.{block}.{name}", (DIM,), biases or "bert" in architecture)
        if architecture in ("qwen3", "gemma3"):
            yield f"blk.{block}.attn_q_norm.weight", (_HEAD.get(architecture, DIM // HEADS),)
            yield f"blk.{block}.attn_k_norm.weight", (_HEAD.get(architecture, DIM // HEADS),)
    if "bert" not in architecture:
        yield from with_bias("output_norm", (DIM,), biases)
    if untied or architecture == "phi2":
        yield from with_bias("output", (VOCABULARY, DIM), architecture == "phi2")
