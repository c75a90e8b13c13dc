"""Embeds a file of texts into a file of vectors, for `midlayer-embed encode`.

Invalid arguments and input are reported before a model is loaded, so heavy imports are inside functions.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from midlayer_embed import __version__
from midlayer_embed.bulk.vector_files import UnfinishedVectors, check_target
from midlayer_embed.errors import InputError
from midlayer_embed.ground.progress import progress
from midlayer_embed.options import AnyModelOptions, fold, takes_options
from midlayer_embed.texts import files as text_files
from midlayer_embed.texts.files import Survey, find_texts, read_chunks, survey

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder

# Seconds after which a step that is usually quick shows a bar.
_BAR_AFTER = 2


@takes_options()
def encode_file(
    model: str | Path,
    layer: int | float,
    source: str | Path,
    target: str | Path,
    *,
    column: str | None = None,
    normalize: bool = False,
    batch_tokens: int | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
    **options: "Unpack[AnyModelOptions]",
) -> tuple[int, int]:
    """Embed a file of any size, in memory that does not grow with it.

    A run that was interrupted resumes when it is called again with the same arguments, and the file is then the same,
    byte for byte. With other arguments, or another input, it starts over.

    Args:
        model: A folder, a Hub id, or "starter".
        layer: A layer (17, or -1 from the end), or a depth as a float in [0, 1].
        source: A .txt, .jsonl, .csv or .parquet file, see `find_texts`.
        target: A .npy file (float32 (n, dim), in the order of the texts), or a .jsonl or .parquet file (each text with
            its `embedding`).
        column: Name of the column with the texts, see `find_texts`.
        normalize: Normalise the vectors to length 1.
        batch_tokens: Number of tokens in a forward pass, padding included. None: a default for the device.
        overwrite: Replace an existing target, once the new file is complete.
        show_progress: Show a bar with an ETA on stderr.
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
    target = check_target(target, texts.column, source=texts.path, overwrite=overwrite)
    weights, _ = fold(options)

    from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder
    from midlayer_embed.forward.batching import token_budget
    from midlayer_embed.layers import layer_number
    from midlayer_embed.models.checkpoint import find_checkpoint
    from midlayer_embed.models.weights import resolve_device, resolve_dtype

    resolve_dtype(weights.dtype)
    device = resolve_device(weights.device)
    token_budget(batch_tokens, device)
    checkpoint = find_checkpoint(model, weights)
    number = layer_number(layer, checkpoint.n_blocks)

    stamp = _stamp(texts.path)
    with _bar("Reading", None, show_progress) as bar:
        found = survey(_counted(read_chunks(texts), bar))
    encoder = MidLayerEncoder(checkpoint, number, **options)
    settings = {
        "input": found.sha256,
        "column": texts.column,
        "chunks": [text_files.CHUNK_TEXTS, text_files.CHUNK_CHARACTERS],
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        "layer": number,
        **asdict(encoder.recipe),
        "normalize": normalize,
        "batch_tokens": batch_tokens,
        "device": device.type,
        "dtype": weights.dtype,
        "versions": {"midlayer-embed": __version__, **{name: version(name) for name in ("torch", "transformers")}},
    }
    encoder.batch_tokens = batch_tokens
    shape = (found.n_texts, int(encoder.get_embedding_dimension() or 0))

    def embed(chunk: list[str], on_progress: Callable[[float], None]) -> np.ndarray:
        encoder.on_progress = on_progress
        vectors = _encode(encoder, chunk)
        if normalize:  # in float32, whatever the weights are; zero vectors stay zero
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors

    with UnfinishedVectors(target, shape, settings) as vectors:
        _append_all(vectors, read_chunks(texts), found, embed, show_progress)
        if _stamp(texts.path) != stamp or vectors.done != found.n_texts:
            raise InputError(f"input: {texts.path} was changed while it was read; run the command again")
        with _bar("Writing", found.n_texts, show_progress) as bar:
            vectors.finish(_counted(read_chunks(texts), bar), texts.column)
    return shape


def _encode(encoder: "MidLayerEncoder", texts: list[str]) -> np.ndarray:
    import torch

    try:  # the number of tokens alone limits a batch
        return encoder.encode(texts, batch_size=len(texts), show_progress_bar=False).astype(np.float32, copy=False)
    except torch.OutOfMemoryError:
        raise InputError(
            f"batch_tokens: a batch does not fit into the memory of {encoder.device}; "
            "try a smaller --batch-tokens, or --max-seq-length"
        ) from None


def _append_all(
    vectors: UnfinishedVectors,
    chunks: Iterable[list[str]],
    found: Survey,
    embed: Callable[[list[str], Callable[[float], None]], np.ndarray],
    show_progress: bool,
) -> None:
    """Embed the chunks that are missing. Progress counts characters, because texts differ in length."""
    read = read_characters = 0
    with progress(found.n_characters, "Encoding", "char", show_progress) as bar:

        def show(characters: float) -> None:
            bar.update(characters - bar.n)

        for chunk in chunks:
            start, size = read_characters, sum(map(len, chunk))
            read += len(chunk)
            read_characters += size
            if read <= vectors.done:
                bar.initial = bar.n = read_characters  # counts as done, but not towards this run's speed
                continue
            encoded = embed(chunk, lambda share, start=start, size=size: show(start + share * size))  # type: ignore[misc]
            _check_finite(encoded, vectors.done)
            vectors.append(encoded)
            show(read_characters)
            bar.set_postfix_str(f"{vectors.done} of {found.n_texts} texts")


def _check_finite(encoded: np.ndarray, n_before: int) -> None:
    finite = np.isfinite(encoded).all(axis=1)
    if not finite.all():
        raise InputError(
            f"input: the vector of text {n_before + int(np.argmin(finite)) + 1} is not finite; "
            "half precision overflows with some models: try --dtype float32"
        )


def _counted(chunks: Iterable[list[str]], bar: tqdm) -> Iterator[list[str]]:
    for chunk in chunks:
        yield chunk
        bar.update(len(chunk))


def _bar(what: str, total: int | None, show_progress: bool) -> tqdm:
    return progress(total, what, " texts", show_progress, delay=_BAR_AFTER)


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
