"""Which architectures of GGUF files llama.cpp computes alike with fewer blocks, as its source of November 2026 has it.

llama.cpp derives more from the number of blocks than loops: scales, positions, even which tensors there are. A file of
such a model would load after a cut, and give other vectors without a word.
"""

from midlayer_embed.errors import InputError

# Those whose number of blocks only says how often it loops, and names the model's size.
_WITHOUT_HEAD = (
    *("bloom", "exaone", "falcon", "gemma3", "gpt2", "llama", "mistral3", "mpt", "olmo", "phi3", "qwen2", "qwen3"),
    *("qwen3moe", "seed_oss", "smollm3", "starcoder", "starcoder2"),
)
KNOWN = (
    *_WITHOUT_HEAD,
    *("bert", "cohere2", "gemma", "gemma2", "gptneox", "internlm2", "jina-bert-v2", "modern-bert", "nemotron"),
    *("nomic-bert", "olmo2", "olmoe", "phi2", "qwen2moe", "stablelm", "xverse"),
)
# The head for next tokens. Embeddings do not need it, and these architectures load without: they take the embeddings of
# the tokens in its place, as they do for models that share the two.
HEAD = "output.weight"
# The number of blocks at which an architecture takes another scale for its attention.
_OTHER_SCALE = {"gemma2": 46, "gemma3": 62}
_BY_NUMBER = "llama.cpp takes another {} where there are fewer blocks"
_REFUSED = {
    "baichuan": _BY_NUMBER.format("encoding of positions"),
    "deepseek2": _BY_NUMBER.format("attention"),
    "exaone4": _BY_NUMBER.format("sliding window"),
    "gemma3n": "one tensor holds embeddings of all its blocks",
    "gemma4": "one tensor holds embeddings of all its blocks",
    "minicpm": _BY_NUMBER.format("scale of what blocks add"),
    "minicpm3": _BY_NUMBER.format("scale of what blocks add"),
    "minimax-01": _BY_NUMBER.format("decay of its attention"),
}


def check_can_be_cut(architecture: str | None, n_blocks: int) -> None:
    """Reject an architecture that llama.cpp would compute otherwise with fewer blocks, or may.

    Args:
        architecture: Its name in the file.
        n_blocks: The number of blocks of the whole model.

    Raises:
        InputError: (a ValueError) the message says why.

    Example:
        >>> check_can_be_cut("llama", 32)
        >>> check_can_be_cut("gemma3", 62)
        Traceback (most recent call last):
        ...
        midlayer_embed.errors.InputError: model: a gemma3 file of 62 blocks cannot be cut: llama.cpp takes another ...
    """
    why = _REFUSED.get(str(architecture))
    if _OTHER_SCALE.get(str(architecture)) == n_blocks:
        why = _BY_NUMBER.format("scale for the attention")
    if why is not None:
        raise InputError(f"model: a {architecture} file of {n_blocks} blocks cannot be cut: {why}")
    if architecture not in KNOWN:
        raise InputError(
            f"model: whether llama.cpp computes {architecture} alike with fewer blocks is not known; expected one of "
            f"{', '.join(sorted(KNOWN))}"
        )


def needs_head(architecture: str | None) -> bool:
    """Whether llama.cpp loads no file of an architecture without the head for next tokens.

    Example:
        >>> needs_head("llama"), needs_head("phi2")
        (False, True)
    """
    return architecture not in _WITHOUT_HEAD
