"""Cuts a GGUF file to its first k blocks, for llama.cpp: all that stays keeps its bytes, nothing is quantised again.

The final norm stays, so that llama.cpp pools the normed states of layer k. Nothing here imports torch.
"""

from dataclasses import dataclass
from pathlib import Path

from midlayer_embed.encoder.serve.gguf_architectures import check_can_be_cut
from midlayer_embed.encoder.serve.gguf_parts import POOLING_TYPES, Cut, compare_cut, write_cut
from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.checks import check_installed
from midlayer_embed.ground.paths import followed, target_file
from midlayer_embed.ground.progress import progress
from midlayer_embed.ground.whole_files import file_sha256
from midlayer_embed.layers import layer_number
from midlayer_embed.models.gguf.head import Head, read_head
from midlayer_embed.models.starter import check_location, gguf_of, is_gguf_name
from midlayer_embed.options import check_model_name
from midlayer_embed.selection.criteria import LayerSelection


@dataclass(frozen=True)
class GgufCut:
    """A GGUF file that was written.

    Attributes:
        path: The file.
        source: The file that it was cut from.
        layer: The layer, which is the number of its blocks.
        n_blocks: The number of blocks of the source.
        pooling_mode: How llama.cpp pools the states: "mean", "cls" or "lasttoken".
        left_out: Tensors that are of no block and were left out.
        n_bytes: Its size.
    """

    path: Path
    source: Path
    layer: int
    n_blocks: int
    pooling_mode: str
    left_out: tuple[str, ...]
    n_bytes: int


def export_gguf(
    model: str | Path,
    out: str | Path,
    layer: int | float | LayerSelection,
    *,
    gguf_file: str | None = None,
    pooling_mode: str | None = None,
    model_name: str | None = None,
    how_chosen: str | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
) -> GgufCut:
    """Write a GGUF file of the first k blocks of another: layer k for llama.cpp and what is built on it.

    All fields and tensors keep their bytes, but for the blocks above, the number of blocks and arrays with an item for
    each block. `output.weight`, the head for next tokens, is left out where llama.cpp loads a model without it. Fields
    are added: the pooling, a name that has the layer, and a record of the source under "midlayer_embed.". The file is
    read again and compared with the source before it appears.

    Args:
        model: A GGUF file, a folder with one, or "starter".
        out: The file to write; its name ends in .gguf.
        layer: A layer as an int (17, or -1 from the end; at least 1), a depth as a float, or the result of
            `select_layer`.
        gguf_file: Name of the GGUF file in the folder.
        pooling_mode: "mean", "cls" or "lasttoken". None: what the file says if it is one of these, else "mean".
        model_name: What the model is called in `general.name`. None: as in the source.
        how_chosen: How the layer was chosen, in words, for the record.
        overwrite: Replace the file if it exists.
        show_progress: Show a bar if it takes seconds.

    Raises:
        InputError: (a ValueError) an argument is invalid, the model is no GGUF file, or llama.cpp would compute its
            architecture otherwise with fewer blocks. Nothing is written.
        ExportFailed: (a RuntimeError) what was written is not what was to be written; nothing is left.

    Example:
        >>> export_gguf("starter", "smollm2-layer-7.gguf", 7).n_bytes                    # doctest: +SKIP
        47214208
    """
    source = find_gguf(str(model), gguf_file)
    target = check_out(out, source, overwrite=overwrite)
    check_pooling(pooling_mode)
    if model_name is not None:
        check_model_name("model_name", model_name)
    check_installed("gguf", "export", "gguf")
    head = read_gguf(source)
    if isinstance(layer, LayerSelection):
        if layer.n_layers != (head.n_blocks or 0) + 1:
            raise InputError(
                f"layer: chosen for a model of {layer.n_layers} layers; this one has {(head.n_blocks or 0) + 1}"
            )
        how_chosen = how_chosen or _how_chosen(layer)
        layer = layer.layer
    number = layer_of_gguf(head, layer)
    cut = Cut(head, number, pooling_mode)
    n_bytes = cut.check_is_whole()
    with progress(source.stat().st_size + 2 * n_bytes, "Cutting", "B", show_progress, delay=2) as bar:
        record = {**cut.names(model_name), "source_sha256": file_sha256(source, bar.update)}
        entries = cut.entries({**record, **({} if how_chosen is None else {"how_chosen": how_chosen})})
        with atomic_file(target) as partial:
            write_cut(partial, cut, entries, bar.update)
            compare_cut(partial, cut, entries, bar.update)
            size = partial.stat().st_size
    return GgufCut(target, source, number, cut.n_blocks, cut.pooling_mode, cut.left_out, size)


def check_pooling(pooling_mode: str | None) -> None:
    """Reject a pooling that llama.cpp does not have.

    Raises:
        InputError: (a ValueError) the message lists those that it has.
    """
    if pooling_mode is not None and pooling_mode not in POOLING_TYPES:
        raise InputError(f"pooling_mode: llama.cpp has {', '.join(POOLING_TYPES)}, got {pooling_mode!r}")


def find_gguf(model: str, gguf_file: str | None = None) -> Path:
    """The GGUF file of a model.

    Raises:
        InputError: (a ValueError) there is none: only a GGUF file is cut to one.
    """
    check_location(model, gguf_file)
    found = gguf_of(model, gguf_file)
    if found is None:
        raise InputError(
            f'model: a GGUF file is cut from one; expected a .gguf file, "starter", or a folder with --gguf-file NAME, '
            f"got {model}"
        )
    return found


def check_out(out: str | Path, source: Path, *, overwrite: bool) -> Path:
    """The path of the file to write, checked before any work is done.

    Raises:
        InputError: (a ValueError) another suffix, a file that exists if `overwrite` is not set, the source itself, or a
            path that cannot be written.
    """
    if not is_gguf_name(out):
        raise InputError(f"out: expected a file that ends in .gguf, got {out}")
    target = target_file(out, "out")
    if target.exists():
        if followed(target) == followed(source):
            raise InputError(f"out: {out} is the file that is cut; expected another one")
        if not overwrite:
            raise InputError(f"out: {out} exists; overwrite (--overwrite) replaces it")
    return target


def read_gguf(source: Path) -> Head:
    """The head of a GGUF file that can be cut.

    Raises:
        InputError: (a ValueError) the file is damaged, no model, a part of one, or of an architecture that cannot be
            cut.
    """
    try:
        head = read_head(source)
    except OSError as error:
        raise InputError(f"model: {source} cannot be read: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"model: {error}") from error
    if head.value("general.type") not in (None, "model"):
        raise InputError(f"model: {source} is of the type {head.value('general.type')!r}; expected a model")
    n_parts = head.value("split.count") or 1
    if n_parts > 1:
        raise InputError(
            f"model: {source} is one of {n_parts} parts of a model; expected a whole one (llama-gguf-split --merge)"
        )
    if not head.n_blocks:
        raise InputError(f"model: {source} does not say how many blocks there are ({head.architecture}.block_count)")
    return head


def layer_of_gguf(head: Head, layer: int | float) -> int:
    """The number of blocks to keep for a layer or a depth.

    Raises:
        InputError: (a ValueError) out of range, layer 0, or the architecture cannot be cut.
    """
    n_blocks = head.n_blocks or 0
    number = layer_number(layer, n_blocks)
    if number == 0:
        raise InputError(
            f"layer: 0 is what enters block 1, and llama.cpp loads no model without a block; expected 1 to {n_blocks}"
        )
    if number < n_blocks:
        check_can_be_cut(head.architecture, n_blocks)
    return number


def _how_chosen(selection: LayerSelection) -> str:
    from midlayer_embed.selection.criteria import selection_summary

    return "; ".join(selection_summary(selection))
