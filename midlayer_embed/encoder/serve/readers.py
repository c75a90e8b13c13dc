"""What others make of a saved folder, by their own rules and its files: right, by an option, refused, other vectors.

The rules are those of sentence-transformers 3.4 to 6.2, text-embeddings-inference (TEI) 1.9, vLLM up to September 2026
and llama.cpp's converter of the same time. Those of sentence-transformers are tested by these versions themselves.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from midlayer_embed.encoder.serve.folder import OLD_NAMES, Finding, SavedFolder, Verdict, class_of, without_prompts
from midlayer_embed.encoder.serve.older_config import needs_eager_attention, older_entries
from midlayer_embed.encoder.serve.onnx_readers import READERS as ONNX_READERS
from midlayer_embed.encoder.serve.onnx_readers import has_graphs

_ORDER: tuple[Verdict, ...] = ("right", "with an option", "other vectors", "refused")
_TEI_ACTIVATIONS = {"torch.nn.modules.linear.Identity", "torch.nn.modules.activation.Tanh", "None"}
# Architectures that TEI's own backend has: without a GPU as well, and only with one.
_TEI_ANYWHERE = ("bert", "camembert", "distilbert", "gemma3_text", "modernbert", "qwen3", "roberta", "xlm-roberta")
_TEI_ON_GPUS = ("llama", "mistral", "qwen2")
_TEI_NAMES = {"mean": "mean", "cls": "cls", "lasttoken": "last-token"}
# Entries of config.json without which it does not start.
_TEI_NEEDS = {
    "gemma3_text": ("_sliding_window_pattern", "pad_token_id", "rope_local_base_freq", "use_bidirectional_attention"),
    "modernbert": ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta", "pad_token_id"),
    "qwen2": ("use_sliding_window",),
    "qwen3": ("eos_token_id", "use_sliding_window"),
}
# Architectures that vLLM has itself. It leaves others to transformers, whose kernels differ.
_VLLM_KNOWN = (
    *("bert", "falcon", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "modernbert", "opt"),
    *("phi", "phi3", "qwen2", "qwen3", "roberta", "xlm-roberta"),
)
_VLLM_NAMES = {"mean": "MEAN", "cls": "CLS", "lasttoken": "LAST"}
# Architectures that its converter knows without a language head; those that write their pooling into the GGUF file.
_GGUF_POOLED = (
    "bert",
    "camembert",
    "distilbert",
    "gemma3_text",
    "modernbert",
    "qwen2",
    "qwen3",
    "roberta",
    "xlm-roberta",
)
_GGUF_KNOWN = (*_GGUF_POOLED, "llama", "t5")
_GGUF_NAMES = {"mean": "mean", "cls": "cls", "lasttoken": "last"}
# The first versions of transformers 4 that know an architecture, where older ones are still about.
_SINCE = {"gemma3_text": "4.50", "modernbert": "4.48", "qwen3": "4.51"}


@dataclass(frozen=True)
class Reading:
    """What a reader makes of a folder.

    Attributes:
        reader: Who reads.
        verdict: "right"; "with an option": the words name it; "refused": it fails, so nobody is misled; "other
            vectors": it goes on without a word.
        words: Why, and what else to know; empty if there is nothing to add.
    """

    reader: str
    verdict: Verdict
    words: str

    def __str__(self) -> str:
        return f"{self.reader}: {self.verdict}" + (f": {self.words}" if self.words else "")


def read_by_others(folder: str | Path) -> list[Reading]:
    """What each reader makes of a sentence-transformers folder; decided from its files alone.

    Readers of ONNX graphs are among them if the folder holds graphs.

    Args:
        folder: What `save_pretrained` or `export` wrote, or any other folder that begins with a Transformer and a
            Pooling.

    Raises:
        InputError: (a ValueError) it is no such folder.

    Example:
        >>> for reading in read_by_others("smollm2-layer-12"):                           # doctest: +SKIP
        ...     print(reading)
        sentence-transformers 6: right
        ...
    """
    saved = SavedFolder.read(Path(folder))
    readers = _READERS | (ONNX_READERS if has_graphs(saved) else {})
    return [_summary(reader, list(rules(saved))) for reader, rules in readers.items()]


def _summary(reader: str, findings: list[Finding]) -> Reading:
    """One line for all that was found: the worst verdict, and the words for it; notes on what is right come last."""
    worst: Verdict = max((verdict for verdict, _ in findings), key=_ORDER.index, default="right")
    notes = ("right",) if worst != "refused" else ()
    return Reading(reader, worst, "; ".join(words for verdict, words in findings if verdict in (worst, *notes)))


def _newest(saved: SavedFolder) -> Iterator[Finding]:
    needed = saved.whole.get("requirements") or {}
    versions = ", ".join(f"{name} {wanted}" for name, wanted in sorted(needed.items()))
    if versions:
        yield "right", f"it asks for {versions}"


def _older(saved: SavedFolder) -> Iterator[Finding]:
    """sentence-transformers 3.4 to 5.3."""
    new = next((module["type"] for module in saved.modules if not module["type"].startswith(OLD_NAMES)), None)
    if new is not None:
        yield "refused", f"no class {new} in older versions"
    elif "word_embedding_dimension" not in saved.pooling or "embedding_dimension" in saved.pooling:
        yield "refused", "the Pooling has a config of newer versions"
    elif saved.transformer.keys() - {"max_seq_length", "do_lower_case", "model_args", "tokenizer_args", "config_args"}:
        yield "refused", "sentence_bert_config.json has entries of newer versions"
    elif saved.tokenizer_config.get("tokenizer_class") == "TokenizersBackend":
        yield "refused", "no tokenizer class TokenizersBackend in transformers 4"
    if saved.config.get("model_type") == "umt5":
        yield "refused", "no encoder of UMT5 alone in older versions"
    yield from _of_transformers_4(saved)
    if saved.whole.get("truncate_dim"):
        yield "other vectors", "all dimensions: truncate_dim of the config is ignored"
    if since := _SINCE.get(saved.config.get("model_type", "")):
        yield "right", f"from transformers {since} on"
    yield "right", "it strips spaces around a text, which version 5.4 and later keep"


def _of_transformers_4(saved: SavedFolder) -> Iterator[Finding]:
    older = older_entries(saved.config)
    if not saved.is_of_last_states:
        yield "other vectors", "its last states are normed ones"
    if older is None:
        yield "other vectors", "config.json says what transformers 4 does not read"
        return
    missing = sorted(
        key for key, value in older.items() if saved.config.get(key, value) != value or key not in saved.config
    )
    missing = [key for key in missing if key != "torch_dtype"]
    if missing:
        yield "other vectors", f"config.json lacks {', '.join(missing)}, so other values are taken"


def _tei(saved: SavedFolder) -> Iterator[Finding]:
    config, model_type = saved.config, saved.config.get("model_type")
    missing = [name for name in _TEI_NEEDS.get(str(model_type), ()) if config.get(name) is None]
    if model_type not in (*_TEI_ANYWHERE, *_TEI_ON_GPUS):
        yield "refused", f"it has no {model_type} models"
    elif "max_seq_length" not in saved.transformer:
        yield "refused", "sentence_bert_config.json has no max_seq_length"
    elif missing or any(isinstance(value, dict) for value in (config.get("rope_parameters") or {}).values()):
        yield (
            "refused",
            f"config.json has no {missing[0]}" if missing else "config.json has rope_parameters of two kinds",
        )
    elif not saved.tokenizer:
        yield "refused", "there is no tokenizer.json"
    yield from _tei_pooling(saved)
    yield from _tei_modules(saved)
    if not saved.is_of_last_states:
        yield "other vectors", "it pools the last, normed states"
    reads = "is_causal" if model_type == "qwen2" else "use_bidirectional_attention"
    if saved.is_made_bidirectional and config.get(reads) is not (model_type != "qwen2"):
        yield "other vectors", "it attends causally"
    if (config.get("rope_scaling") or {}) and model_type != "modernbert":
        yield "refused" if model_type == "llama" else "other vectors", "no rotary scaling"
    yield from without_prompts(saved, "--default-prompt-name {}")
    if saved.n_texts_in_template > 1:
        yield "right", "it refuses texts that are longer with their template than max_seq_length"
    if model_type in _TEI_ON_GPUS:
        yield "right", "on a CUDA GPU only"
    if config.get("hidden_act") == "gelu":
        yield "right", "but for an approximate GELU"


def _tei_pooling(saved: SavedFolder) -> Iterator[Finding]:
    modes, flags = saved.pooling_modes, saved.pooling_flags
    known = [mode for mode in modes if mode in _TEI_NAMES]
    if modes != known:
        other = len(modes) > 1 and bool(flags) and bool(known)
        yield "other vectors" if other else "refused", f"no pooling by {'+'.join(modes)}"
    elif len(modes) > 1:
        yield "other vectors" if flags else "refused", f"one pooling alone, not {'+'.join(modes)}"
    elif flags != modes:
        yield "with an option", f"--pooling {_TEI_NAMES[modes[0]]}"


def _tei_modules(saved: SavedFolder) -> Iterator[Finding]:
    kinds, named = saved.after_pooling, [class_of(module["type"]) for module in saved.modules]
    dense = [module for module in saved.modules if class_of(module["type"]) == "Dense"]
    # One name that it does not know, and it looks for no Dense at all.
    knows_all = not {"Dropout", "LayerNorm"} & set(named)
    if dense and not (knows_all and all(module["type"] == OLD_NAMES + "Dense" for module in dense)):
        yield "other vectors", "it leaves out the Dense"
    activations = {str(saved.config_of(module).get("activation_function")) for module in dense}
    if unknown := sorted(activations - _TEI_ACTIVATIONS):
        yield "refused", f"no activation {unknown[0]}"
    if "LayerNorm" in kinds:
        yield "other vectors", "it leaves out the LayerNorm"
    if saved.whole.get("truncate_dim"):
        yield "other vectors", "all dimensions"
    if "Normalize" not in kinds:
        yield "right", 'normalised to length 1, unless a request says "normalize": false'


def _vllm(saved: SavedFolder) -> Iterator[Finding]:
    modes = saved.pooling_modes
    if not saved.is_of_last_states:
        yield "other vectors", "it pools the last, normed states"
    if modes == ["mean_sqrt_len_tokens"]:
        yield "other vectors", "the mean: the same but for their length"
    elif len(modes) > 1 or modes[0] not in _VLLM_NAMES:
        yield (
            "other vectors",
            f"no pooling by {'+'.join(modes)}: it takes the architecture's own, the last token of decoders",
        )
    elif saved.modules[1]["type"] != OLD_NAMES + "Pooling" or saved.pooling_flags != modes:
        option = '--pooler-config \'{"pooling_type": "' + _VLLM_NAMES[modes[0]] + "\"}'"
        yield "with an option", f"{option} before September 2026, which would pool the last token without a word"
    if "LayerNorm" in saved.after_pooling:
        yield "other vectors", "it leaves out the LayerNorm"
    dense = [module["type"] for module in saved.modules if class_of(module["type"]) == "Dense"]
    if any(type_ != OLD_NAMES + "Dense" for type_ in dense):
        yield "other vectors", "before September 2026 it leaves out the Dense"
    if saved.whole.get("truncate_dim"):
        yield "other vectors", "all dimensions"
    if saved.config.get("model_type") in ("mt5", "t5", "umt5"):
        yield "refused", "no encoder of T5 alone"
    elif saved.config.get("model_type") not in _VLLM_KNOWN:
        yield "right", f"{saved.config.get('model_type')} is not among its own architectures: compare some vectors"
    if saved.is_made_bidirectional:
        yield "other vectors", "some architectures attend causally there; compare vectors"
    yield from without_prompts(saved, "")
    yield "right", "it refuses texts above max_seq_length, unless a request says truncate_prompt_tokens"


def _llama_cpp(saved: SavedFolder) -> Iterator[Finding]:
    model_type, modes = str(saved.config.get("model_type")), saved.pooling_modes
    if model_type not in _GGUF_KNOWN:
        yield "refused", f"no conversion of {model_type} without its language head is known"
    if saved.has_template:
        by_ids = "its ids of a test text are of no tokenizer that it knows"
        yield ("refused", by_ids) if saved.is_byte_level else ("other vectors", "it leaves out the template")
    if not saved.is_of_last_states:
        yield "other vectors", "it pools the last, normed states"
    if len(modes) > 1 or modes[0] not in _GGUF_NAMES:
        yield "refused", f"no pooling by {'+'.join(modes)}"
    elif model_type not in _GGUF_POOLED:
        yield "with an option", f"llama-server --pooling {_GGUF_NAMES[modes[0]]}"
    if "Dense" in saved.after_pooling or "LayerNorm" in saved.after_pooling:
        yield "other vectors", "it leaves out the modules after pooling"
    if model_type == "gemma3_text" and not saved.is_made_bidirectional:
        yield "other vectors", "it takes the model for EmbeddingGemma, which attends in both directions"
    elif model_type != "gemma3_text" and saved.is_made_bidirectional:
        yield "other vectors", "it attends causally"
    if saved.whole.get("truncate_dim"):
        yield "other vectors", "all dimensions"
    yield from without_prompts(saved, "")


def _transformers(saved: SavedFolder) -> Iterator[Finding]:
    path = (saved.transformer.get("modality_config") or {}).get("text", {}).get("method_output_name")
    what = "last_hidden_state" if saved.is_of_last_states else f"output_hidden_states=True and {path}"
    yield (
        "right",
        f"AutoTokenizer gives the ids, AutoModel the token states ({what}); pooling and what follows are yours",
    )
    needed = (saved.whole.get("requirements") or {}).get("transformers")
    if needed:
        yield "right", f"transformers {needed}"
    elif list(_of_transformers_4(saved)):
        yield "right", "transformers 5"
    if needs_eager_attention(saved.config):
        yield "right", 'transformers 4 needs attn_implementation="eager"'


_READERS: dict[str, Callable[[SavedFolder], Iterator[Finding]]] = {
    "sentence-transformers 6": _newest,
    "sentence-transformers 3.4 to 5.3": _older,
    "TEI": _tei,
    "vLLM": _vllm,
    "llama.cpp": _llama_cpp,
    "transformers": _transformers,
}
