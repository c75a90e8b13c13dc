"""What readers of ONNX graphs make of a saved folder that holds them: see `readers`.

The rules are those of ONNX Runtime with tokenizers, sentence-transformers with optimum-onnx 0.1, transformers.js 4.3,
OpenVINO 2026.4 and fastembed 0.9, each tried once; slow tests try the first three again.
"""

import mmap
from collections.abc import Iterator

from midlayer_embed.encoder.onnx.names import FOLDER, MODEL_FILE, QUANTIZED_FILE, STATES, VECTORS
from midlayer_embed.encoder.serve.folder import Finding, SavedFolder, without_prompts

_JS_POOLINGS = {"mean": "mean", "cls": "cls", "lasttoken": "last_token"}
_FASTEMBED_POOLINGS = {"mean": "MEAN", "cls": "CLS", "lasttoken": "LAST_TOKEN"}
# Architectures of which transformers.js looks for an encoder and a decoder.
_JS_PAIRS = ("t5", "mt5", "umt5", "longt5", "bart", "mbart", "m2m_100", "marian", "pegasus", "blenderbot")


def has_graphs(saved: SavedFolder) -> bool:
    """Whether a folder holds an ONNX graph where readers look for it."""
    return (saved.path / FOLDER / MODEL_FILE).is_file()


def onnx_runtime(saved: SavedFolder) -> Iterator[Finding]:
    """A script with onnxruntime and tokenizers alone, or OpenVINO."""
    if not saved.tokenizer:
        yield "refused", "there is no tokenizer.json"
    if _gives_vectors(saved):
        yield "right", f"{VECTORS} has the vectors"
    else:
        yield "right", f"{STATES} has the token states; pooling and what follows are yours"
    yield "right", f"cut texts with enable_truncation({saved.transformer.get('max_seq_length')})"
    yield from without_prompts(saved, "")


def optimum(saved: SavedFolder) -> Iterator[Finding]:
    """sentence-transformers with backend="onnx": Optimum is for transformers below 4.58."""
    needed = saved.whole.get("requirements") or {}
    for name, wanted in sorted(needed.items()):
        yield "refused", f"the folder asks for {name} {wanted}, and Optimum is for transformers below 4.58"
    if not needed:
        yield "right", 'backend="onnx", with optimum-onnx and sentence-transformers 5'
    if (saved.path / FOLDER / QUANTIZED_FILE).is_file():
        yield "right", f'int8: model_kwargs={{"file_name": "{QUANTIZED_FILE}"}}'


def transformers_js(saved: SavedFolder) -> Iterator[Finding]:
    """transformers.js, in node and in browsers."""
    model_type, modes, after = saved.config.get("model_type"), saved.pooling_modes, saved.after_pooling
    if not saved.tokenizer:
        yield "refused", "there is no tokenizer.json"
    if model_type in _JS_PAIRS:
        yield "refused", f"of {model_type} models it looks for an encoder and a decoder"
    if _gives_vectors(saved):
        yield "with an option", f"AutoModel, whose output {VECTORS} has the vectors"
    elif len(modes) > 1 or modes[0] not in _JS_POOLINGS or set(after) - {"Normalize"}:
        yield "with an option", f"pool {STATES} yourself, or write the graph with --embedding"
    else:
        normalised = ", normalize: true" if "Normalize" in after else ""
        yield "with an option", f'pooling: "{_JS_POOLINGS[modes[0]]}"{normalised}'
        if modes == ["lasttoken"] and saved.tokenizer_config.get("padding_side") != "left":
            yield "with an option", "one text at a time: it takes the last place of a batch, be it padding"
    if saved.ends_with_added_tokens:
        yield "right", "a text above model_max_length loses what the tokenizer adds at its end"
    yield from without_prompts(saved, "")


def fastembed(saved: SavedFolder) -> Iterator[Finding]:
    """Fastembed's `TextEmbedding.add_custom_model`, and specific_model_path for a folder on disk."""
    modes, after = saved.pooling_modes, saved.after_pooling
    if not saved.tokenizer:
        yield "refused", "there is no tokenizer.json"
    if _gives_vectors(saved):
        yield "with an option", f'add_custom_model with PoolingType.DISABLED and output_name="{VECTORS}"'
    elif len(modes) > 1 or modes[0] not in _FASTEMBED_POOLINGS or set(after) - {"Normalize"}:
        yield "refused", "it has no such pooling; write the graph with --embedding"
    else:
        pooling, normalised = _FASTEMBED_POOLINGS[modes[0]], "Normalize" in after
        yield "with an option", f"add_custom_model with PoolingType.{pooling} and normalization={normalised}"
    yield from without_prompts(saved, "")


def _gives_vectors(saved: SavedFolder) -> bool:
    """Whether the graph has the output of vectors, whose name is nowhere else in the file."""
    path = saved.path / FOLDER / MODEL_FILE
    if not path.stat().st_size:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return data.rfind(VECTORS.encode()) >= 0


READERS = {
    "ONNX Runtime, OpenVINO": onnx_runtime,
    "sentence-transformers on ONNX": optimum,
    "transformers.js": transformers_js,
    "fastembed": fastembed,
}
