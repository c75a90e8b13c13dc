"""Which encoders cannot be an ONNX graph, and why: known from the config, before weights are read."""

from typing import Any

from midlayer_embed.errors import InputError

# Rotary positions that are chosen by the number of tokens of the longest text of a batch.
_BY_LENGTH = ("dynamic", "longrope")


def check_can_be_onnx(config: Any, max_seq_length: int) -> None:
    """Reject a model whose ONNX graph would differ from it.

    Args:
        config: The model's config.
        max_seq_length: Number of tokens to which a text is truncated, its template and both copies included.

    Raises:
        InputError: (a ValueError) the message says why.

    Example:
        >>> from transformers import LlamaConfig
        >>> check_can_be_onnx(LlamaConfig(), 512)
    """
    config = config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope] if "rope_type" in rope else [kind for kind in rope.values() if isinstance(kind, dict)]
    for kind in kinds:
        if kind.get("rope_type") not in _BY_LENGTH:
            continue
        original = kind.get("original_max_position_embeddings") if kind["rope_type"] == "longrope" else None
        most = original or config.max_position_embeddings
        if max_seq_length > most:
            raise InputError(
                f"max_seq_length: above {most} tokens the positions of this {config.model_type} model "
                f"({kind['rope_type']}) depend on the longest text of a batch, which a graph cannot express; expected "
                f"at most {most}, got {max_seq_length}"
            )
