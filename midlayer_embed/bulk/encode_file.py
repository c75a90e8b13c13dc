"""Embeds a file of texts into a file of vectors, for `midlayer-embed encode`.

Invalid arguments and input are reported before a model is loaded, so heavy imports are inside functions.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from midlayer_embed import __version__
from midlayer_embed.bulk.row_files import row_file
from midlayer_embed.bulk.vector_files import UnfinishedVectors, check_target, what_is_kept
from midlayer_embed.errors import InputError
from midlayer_embed.ground.interrupts import tell_interrupt
from midlayer_embed.ground.progress import progress
from midlayer_embed.options import AnyModelOptions, fold, takes_options
from midlayer_embed.texts import files as text_files
from midlayer_embed.texts.files import Survey, describe, find_texts, read_chunks, read_texts, survey

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder
    from midlayer_embed.models.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

# Seconds of work that a killed run loses at most, besides a batch.
SAVE_SECONDS = 5
# Seconds after which a step that is usually quick shows a bar.
_BAR_AFTER = 2


@takes_options()
def encode_file(
    model: "str | Path | Checkpoint",
    layer: int | float,
    source: str | Path,
    target: str | Path,
    *,
    column: str | None = None,
    normalize: bool = False,
    batch_tokens: int | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
    transform: str | None = None,
    transform_texts: Sequence[str] | None = None,
    dim: int | None = None,
    **options: "Unpack[AnyModelOptions]",
) -> tuple[int, int]:
    """Embed a file of any size, in memory that does not grow with it.

    A run that was interrupted resumes when it is called again with the same arguments, and the file is then the same,
    byte for byte. With other arguments, or another input, it starts over.

    Args:
        model: A folder, a Hub id, "starter", or a checkpoint that has been found already.
        layer: A layer (17, or -1 from the end), or a depth as a float in [0, 1].
        source: A .txt, .jsonl, .csv, .tsv or .parquet file, see `find_texts`.
        target: A .npy file (float32 (n, dim), in the order of the texts), or a .jsonl or .parquet file (each row of the
            source, with all of its columns and its `embedding`).
        column: Name of the column with the texts, see `find_texts`.
        normalize: Normalise the vectors to length 1.
        batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
        overwrite: Replace an existing target, once the new file is complete.
        show_progress: Show a bar with an ETA on stderr.
        transform: Name of a transform, as for MidLayerEncoder.
        transform_texts: Texts to fit it on.
        dim: Number of dimensions that whitening keeps.
        **options: The fields of `Recipe` and `Source`, as for MidLayerEncoder. The vectors are float32 in any case.

    Returns:
        (n, dim) of the vectors.

    Raises:
        InputError: (a ValueError) an argument or the input is invalid, or the output cannot be written.

    Example:
        >>> encode_file("starter", 12, "texts.txt", "vectors.npy")     # doctest: +SKIP
        (10000, 576)
    """
    texts = find_texts(source, column)
    target = check_target(target, texts, overwrite=overwrite)
    weights, recipe = fold(options)

    from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder
    from midlayer_embed.forward.batching import token_budget
    from midlayer_embed.layers import layer_number
    from midlayer_embed.models.backbone import limit_in_force, load_tokenizer
    from midlayer_embed.models.checkpoint import find_checkpoint
    from midlayer_embed.models.weights import dtype_name, resolve_device

    dtype = dtype_name(weights.dtype)
    device = resolve_device(weights.device)
    token_budget(batch_tokens, device)
    checkpoint = find_checkpoint(model, weights)
    number = layer_number(layer, checkpoint.n_blocks, checkpoint.resolved(recipe).site)
    tokenizer = load_tokenizer(checkpoint, recipe.template)
    limit_in_force(checkpoint, tokenizer, recipe.max_seq_length, recipe.template)  # before the input is read

    stamp = _stamp(texts.path)
    rows = row_file(target, texts)
    with _bar("Reading", None, show_progress) as bar:
        found = survey(_counted(read_texts(texts) if rows is None else rows.read(), bar))
    encoder = MidLayerEncoder(
        checkpoint, number, transform=transform, transform_texts=transform_texts, dim=dim, **options
    )
    logger.info("%s", describe(texts, found.n_texts, found.n_blank))
    settings = {
        "input": found.sha256,
        "column": texts.column,
        "chunks": [text_files.CHUNK_TEXTS, text_files.CHUNK_CHARACTERS],
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        **asdict(encoder.recipe),
        "fitted": None if encoder.transform is None else encoder.transform.fingerprint,
        "normalize": normalize,
        "batch_tokens": batch_tokens,
        "device": device.type,
        "dtype": dtype,
        "own_code": weights.trust_remote_code,
        "versions": {"midlayer-embed": __version__, **{name: version(name) for name in ("torch", "transformers")}},
    }
    encoder.batch_tokens = batch_tokens
    shape = (found.n_texts, int(encoder.get_embedding_dimension() or 0))
    with (
        UnfinishedVectors(target, shape, settings) as vectors,
        tell_interrupt(lambda: what_is_kept(target)),
    ):
        _append_all(vectors, read_chunks(texts), found, encoder, normalize, show_progress)
        if _stamp(texts.path) != stamp or vectors.done != found.n_texts:
            raise InputError(f"input: {texts.path} was changed while it was read; run the command again")
        with _bar("Writing", found.n_texts, show_progress) as bar:
            vectors.finish(rows, bar.update)
    return shape


def _append_all(
    vectors: UnfinishedVectors,
    chunks: Iterable[list[str]],
    found: Survey,
    encoder: "MidLayerEncoder",
    normalize: bool,
    show_progress: bool,
) -> None:
    """Embed the chunks that are missing. Progress counts characters, because texts differ in length."""
    read = 0
    with progress(found.n_characters, "Encoding", "char", show_progress) as bar:
        for chunk in chunks:
            read += len(chunk)
            if read <= vectors.done:
                _skip(bar, sum(map(len, chunk)))
                continue
            _append(vectors, chunk, encoder, normalize, bar)
            bar.set_postfix_str(f"{vectors.done} of {found.n_texts} texts")


def _append(
    vectors: UnfinishedVectors, texts: list[str], encoder: "MidLayerEncoder", normalize: bool, bar: tqdm
) -> None:
    """Embed a chunk, batch by batch, longest texts first.

    The batches depend on the chunk and the settings alone, so those that an earlier run saved are left out.
    """
    chunk = vectors.chunk(len(texts))
    characters = np.fromiter(map(len, texts), np.int64, len(texts))
    n_characters, saved = 0, time.monotonic()
    try:
        for number, (batch, rows, which) in enumerate(_batches(encoder, texts), start=1):
            size = int(characters[rows].sum())
            n_characters += size
            if number <= chunk.n_batches:
                _skip(bar, size)
                continue
            encoded = _encode(encoder, batch)
            if normalize:  # in float32, whatever the weights are; zero vectors stay zero
                encoded /= np.maximum(np.linalg.norm(encoded, axis=1, keepdims=True), 1e-12)
            _check_finite(encoded[which], vectors.done + rows)
            chunk.vectors[rows] = encoded[which]
            chunk.n_batches, chunk.n_rows = number, chunk.n_rows + len(rows)
            bar.update(size)
            if time.monotonic() - saved > SAVE_SECONDS:
                vectors.save(chunk)
                saved = time.monotonic()
    except KeyboardInterrupt:
        vectors.save(chunk)
        raise
    bar.update(int(characters.sum()) - n_characters)  # texts without tokens
    vectors.append(chunk.vectors)


def _batches(encoder: "MidLayerEncoder", texts: list[str]) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """The batches of a chunk, as `encode` makes them. Texts without tokens are left out.

    Yields:
        Distinct texts; the rows of the chunk that hold them, rising; and for each such row, which of the texts it is.
    """
    from midlayer_embed.forward.batching import row_batches, token_budget
    from midlayer_embed.texts.tokens import distinct, token_counts

    unique, where = distinct(texts)
    prompt = encoder.prompts.get(encoder.default_prompt_name or "") or ""
    transformer: Any = encoder[0]  # its limit counts one copy of a text
    max_length = int(transformer.max_seq_length or encoder.tokenizer.model_max_length)
    counts = token_counts(encoder.tokenizer, unique, max_length, prompt=prompt)
    position = np.full(len(unique), -1)
    for numbers in row_batches(counts, token_budget(encoder.batch_tokens, encoder.device)):
        position[numbers] = np.arange(len(numbers))
        which = position[where]
        position[numbers] = -1
        rows = np.flatnonzero(which >= 0)
        yield [unique[number] for number in numbers], rows, which[rows]


def _encode(encoder: "MidLayerEncoder", texts: list[str]) -> np.ndarray:
    import torch

    try:  # the number of tokens alone limits a batch
        return encoder.encode(texts, batch_size=len(texts), show_progress_bar=False).astype(np.float32, copy=False)
    except torch.OutOfMemoryError:
        raise InputError(
            f"batch_tokens: a batch does not fit into the memory of {encoder.device}; "
            "try a smaller --batch-tokens, or --max-seq-length"
        ) from None


def _check_finite(encoded: np.ndarray, rows: np.ndarray) -> None:
    finite = np.isfinite(encoded).all(axis=1)
    if not finite.all():
        raise InputError(
            f"input: the vector of text {int(rows[np.argmin(finite)]) + 1} is not finite; "
            "half precision overflows with some models: try --dtype float32"
        )


def _skip(bar: tqdm, characters: int) -> None:
    """Count characters as done by an earlier run, so not towards the speed of this one."""
    bar.n += characters
    bar.initial = bar.n


def _counted(texts: Iterable[str], bar: tqdm) -> Iterator[str]:
    for text in texts:
        yield text
        bar.update()


def _bar(what: str, total: int | None, show_progress: bool) -> tqdm:
    return progress(total, what, " texts", show_progress, delay=_BAR_AFTER)


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
