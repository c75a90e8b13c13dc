"""Adds ONNX graphs to a saved folder, or saves an encoder with them; and says on the card what they are.

The graphs are of the folder as plain sentence-transformers loads it, in float32: what serves is what was checked.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from sentence_transformers import SentenceTransformer

from midlayer_embed.encoder.export import export_encoder
from midlayer_embed.encoder.onnx.early import check_packages, check_saved_folder
from midlayer_embed.encoder.onnx.graph import write_graph
from midlayer_embed.encoder.onnx.loss import Int8Loss, measure_loss, samples
from midlayer_embed.encoder.onnx.names import FOLDER, INPUTS, MODEL_FILE, QUANTIZED_FILE, STATES, VECTORS
from midlayer_embed.encoder.onnx.quantise import quantise
from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_folder
from midlayer_embed.ground.checks import check_bool
from midlayer_embed.ground.markdown import table
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.ground.whole_files import file_sha256

if TYPE_CHECKING:
    from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder

_CARD = "README.md"
_HEADING = "## ONNX"
_GUIDE = "https://midlayer-embed.github.io/midlayer-embed/guides/onnx.html"


@dataclass(frozen=True)
class OnnxExport:
    """The graphs of a folder.

    Attributes:
        folder: The sentence-transformers folder that holds them.
        sizes: Bytes of each file, by its path in the folder; weights above 2 GB are in a file of their own.
        outputs: Names of the outputs of each graph.
        loss: What int8 costs; None without int8.
        difference: Of an encoder that was saved, what `export_encoder` returns: the largest difference between the
            vectors of its folder and its own; 0 for a folder that was saved before.
    """

    folder: Path
    sizes: dict[str, int]
    outputs: tuple[str, ...]
    loss: Int8Loss | None = None
    difference: float = 0.0

    def __str__(self) -> str:
        files = ", ".join(f"{name} ({_megabytes(size)})" for name, size in self.sizes.items())
        lost = f"; int8: {self.loss}" if self.loss is not None else ""
        return f"{self.folder}: {files}: {' and '.join(self.outputs)}{lost}"


def export_onnx(
    encoder: "MidLayerEncoder | str | Path",
    folder: str | Path | None = None,
    *,
    embedding: bool = False,
    int8: bool = False,
    texts: Sequence[str] | None = None,
    overwrite: bool = False,
) -> OnnxExport:
    """Save an encoder as a sentence-transformers folder with ONNX graphs, or add graphs to a saved folder.

    The folder is that of `save_pretrained`, checked in a fresh process, and has `onnx/model.onnx` besides, where
    `SentenceTransformer(backend="onnx")` and transformers.js look for it. Inputs are `input_ids` and `attention_mask`,
    int64 of (texts, tokens); the output `last_hidden_state` is of (texts, tokens, width), float32.

    Args:
        encoder: The encoder to save, or a sentence-transformers folder that was saved before.
        folder: Where to save an encoder; it appears with its graphs, or not at all. None for a saved folder.
        embedding: Whether the graph also returns `sentence_embedding`, (texts, dim): pooling, transform and
            normalisation inside.
        int8: Whether to write `onnx/model_quantized.onnx` as well, with weights of 8 bits; its loss is measured.
        texts: Texts like those that will be embedded, which the loss is measured on. None: starter texts.
        overwrite: Replace the contents of `folder`, or the graphs of a saved folder.

    Returns:
        The files, and the loss of int8.

    Raises:
        InputError: (a ValueError) an argument is invalid, a package is missing, or ONNX cannot express the model.
        ExportFailed: (a RuntimeError) the folder or a graph gives other vectors; nothing is saved.

    Example:
        >>> export_onnx(MidLayerEncoder("starter", 7), "smollm2-layer-7", int8=True)         # doctest: +SKIP
        OnnxExport(folder=PosixPath('smollm2-layer-7'), sizes={'onnx/model.onnx': 213330751, ...
    """
    embedding, int8 = check_bool("embedding", embedding), check_bool("int8", int8)
    check_texts(texts, int8=int8)
    check_packages()
    if isinstance(encoder, (str, Path)):
        if folder is not None:
            raise InputError(f"folder: expected None to add graphs to the folder {encoder}, got {str(folder)!r}")
        saved = check_saved_folder(encoder, overwrite=overwrite)
        with atomic_folder(saved, add=True) as partial:
            written = add_graphs(saved, partial, embedding=embedding, int8=int8, texts=texts)
        _remove_others(saved, written)
        return written
    if folder is None:
        raise InputError("folder: required to save an encoder; only a saved folder does without")
    found: list[OnnxExport] = []
    difference = export_encoder(
        encoder,
        folder,
        overwrite=overwrite,
        complete=lambda whole: found.append(add_graphs(whole, whole, embedding=embedding, int8=int8, texts=texts)),
    )
    return replace(found[0], folder=Path(folder), difference=difference)


def check_texts(texts: Sequence[str] | None, *, int8: bool) -> None:
    """Reject texts that nothing is measured on, or that are none.

    Raises:
        InputError: (a ValueError) the message says what was expected.
    """
    if texts is None:
        return
    if not int8:
        raise InputError("texts: only the loss of int8 is measured on them, and int8 is not set")
    if isinstance(texts, str) or not len(texts) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"texts: expected a list of texts, got {type(texts).__name__} of {len(texts)}")


def add_graphs(
    saved: Path, target: Path, *, embedding: bool, int8: bool, texts: Sequence[str] | None = None
) -> OnnxExport:
    """Write the graphs of a saved folder, and its card with a section on them.

    Args:
        saved: The folder; its own files are read only.
        target: Where the graphs and the card are written: the folder itself, or one whose files are added to it.
        embedding: As for `export_onnx`.
        int8: As for `export_onnx`.
        texts: As for `export_onnx`.
    """
    with quiet_transformers():
        encoder = SentenceTransformer(str(saved), device="cpu", model_kwargs={"dtype": torch.float32}).float().eval()
        graphs = target / FOLDER
        graphs.mkdir(exist_ok=True)
        write_graph(encoder, graphs / MODEL_FILE, embedding=embedding)
        loss = None
        if int8:
            quantise(graphs / MODEL_FILE, graphs / QUANTIZED_FILE, samples(encoder, texts))
            loss = measure_loss(encoder, graphs / QUANTIZED_FILE, texts)
    sizes = {f"{FOLDER}/{path.name}": path.stat().st_size for path in sorted(graphs.iterdir())}
    written = OnnxExport(saved, sizes, (STATES, VECTORS)[: 1 + embedding], loss)
    card = saved / _CARD
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    (target / _CARD).write_text(_with_section(text, _section(encoder, written, graphs)), encoding="utf-8")
    return written


def _remove_others(saved: Path, written: OnnxExport) -> None:
    """Remove graphs of ours that were there before and were not written anew."""
    for name in (MODEL_FILE, QUANTIZED_FILE):
        for path in (saved / FOLDER).glob(f"{name}*"):
            if f"{FOLDER}/{path.name}" not in written.sizes:
                path.unlink()


def _section(encoder: SentenceTransformer, written: OnnxExport, graphs: Path) -> str:
    """The section of the card on the graphs."""
    rows = [("file", "size", "SHA-256")]
    for name, size in written.sizes.items():
        rows.append((f"`{name}`", _megabytes(size), f"`{file_sha256(graphs / Path(name).name)}`"))
    after = ", ".join(type(module).__name__ for module in list(encoder.children())[1:])
    first: Any = encoder[0]
    outputs = f"`{STATES}` (texts, tokens, {first.get_embedding_dimension()})"
    if VECTORS in written.outputs:
        outputs += f" and `{VECTORS}` (texts, {encoder.get_embedding_dimension()}) with {after} inside"
    loss = f"\n\nInt8: {written.loss}." if written.loss is not None else ""
    return f"""{_HEADING}

{table(rows)}

Inputs: `{INPUTS[0]}` and `{INPUTS[1]}` (int64, texts x tokens). Outputs, float32: {outputs}.
ONNX Runtime, `SentenceTransformer(..., backend="onnx")` and transformers.js read them: see [the guide]({_GUIDE}).{loss}
"""


def _with_section(card: str, section: str) -> str:
    """A card with the section in the place of an older one, else at its end."""
    before, heading, rest = card.partition(f"{_HEADING}\n")
    if not heading:
        return f"{card.rstrip()}\n\n{section}" if card.strip() else section
    _, next_heading, after = rest.partition("\n## ")
    return f"{before}{section}" + (f"\n## {after}" if next_heading else "")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
