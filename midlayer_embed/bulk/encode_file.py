"""A file of texts in, a file of vectors out: what `midlayer-embed encode` does.

Whatever can be wrong with the arguments and the input is told before a model is loaded, hence the imports inside.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from midlayer_embed import __version__
from midlayer_embed.bulk.vector_files import UnfinishedVectors, check_target
from midlayer_embed.errors import InputError
from midlayer_embed.texts import files as text_files
from midlayer_embed.texts.files import Survey, find_texts, read_chunks, survey

if TYPE_CHECKING:
    from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder

# Seconds after which what is usually done at once gets a bar.
_BAR_AFTER = 2


def encode_file(
    model: str | Path,
    layer: int | float,
    source: str | Path,
    target: str | Path,
    *,
    column: str | None = None,
    final_norm: bool = True,
    pooling_mode: str = "mean",
    normalize: bool = False,
    max_seq_length: int | None = None,
    batch_tokens: int | None = None,
    device: str | None = None,
    dtype: str = "float32",
    revision: str | None = None,
    gguf_file: str | None = None,
    trust_remote_code: bool = False,
    bidirectional: bool = False,
    adapters: Sequence[str | Path] = (),
    overwrite: bool = False,
    show_progress: bool = False,
) -> tuple[int, int]:
    """Embeds a file of any size, in memory that does not grow with it.

    A run that is cut goes on where it stopped when it is called again with the same arguments; the file is then the
    same, byte for byte. With other arguments, or another input, it starts afresh.

    Args:
        model: A folder, a hub id, or "starter".
        layer: 17, or -1 from the end, or a depth as a float in [0, 1].
        source: A .txt, .jsonl, .csv or .parquet file, see `find_texts`.
        target: A .npy file (float32 (n, dim), in the order of the texts), or a .jsonl or .parquet file (each text
            beside its `embedding`).
        column: Where the texts are, see `find_texts`.
        final_norm: As in MidLayerEncoder.
        pooling_mode: As in MidLayerEncoder.
        normalize: Scale the vectors to length 1.
        max_seq_length: As in MidLayerEncoder.
        batch_tokens: Tokens a forward pass, padding included. None: what suits the device.
        device: As in MidLayerEncoder.
        dtype: Of the weights. The vectors are float32 whatever it is.
        revision: As in MidLayerEncoder.
        gguf_file: As in MidLayerEncoder.
        trust_remote_code: As in MidLayerEncoder.
        bidirectional: As in MidLayerEncoder.
        adapters: As in MidLayerEncoder.
        overwrite: Replace a target that is there, once the new one is whole.
        show_progress: A bar with an ETA on stderr.

    Returns:
        (n, dim) of the vectors.

    Raises:
        InputError: (a ValueError) an argument, the input or the disk is not what it should be.

    Example:
        >>> encode_file("starter", 12, "texts.txt", "vectors.npy")     # doctest: +SKIP
        (10000, 576)
    """
    texts = find_texts(source, column)
    target = check_target(target, texts.column, source=texts.path, overwrite=overwrite)

    from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder
    from midlayer_embed.forward.batching import token_budget
    from midlayer_embed.forward.pooling import check_pooling_mode
    from midlayer_embed.layers import layer_number
    from midlayer_embed.models.backbone import check_max_seq_length, find_checkpoint, resolve_device, resolve_dtype

    model_arguments: dict[str, Any] = {
        "revision": revision,
        "gguf_file": gguf_file,
        "trust_remote_code": trust_remote_code,
        "bidirectional": bidirectional,
        "adapters": adapters,
    }
    check_pooling_mode(pooling_mode)
    check_max_seq_length(max_seq_length)
    resolve_dtype(dtype)
    found_device = resolve_device(device)
    token_budget(batch_tokens, found_device)
    checkpoint = find_checkpoint(model, **model_arguments)
    number = layer_number(layer, checkpoint.n_blocks)

    stamp = _stamp(texts.path)
    with _bar("Reading", None, show_progress) as bar:
        found = survey(_counted(read_chunks(texts), bar))
    encoder = MidLayerEncoder(
        model,
        number,
        final_norm=final_norm,
        pooling_mode=pooling_mode,
        max_seq_length=max_seq_length,
        device=found_device,
        dtype=dtype,
        **model_arguments,
    )
    settings = {
        "input": found.sha256,
        "column": texts.column,
        "chunks": [text_files.CHUNK_TEXTS, text_files.CHUNK_CHARACTERS],
        "model": checkpoint.name,
        "revision": checkpoint.revision,
        "layer": number,
        "final_norm": final_norm,
        "pooling_mode": pooling_mode,
        "normalize": normalize,
        "max_seq_length": encoder.max_seq_length,
        "batch_tokens": batch_tokens,
        "device": found_device.type,
        "dtype": dtype,
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

    try:  # batches are filled by tokens alone
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
    """Embeds the chunks whose vectors are not there yet. Progress is in characters: texts differ too much in length."""
    read = read_characters = 0
    with tqdm(
        total=found.n_characters,
        desc="Encoding",
        unit="char",
        unit_scale=True,
        dynamic_ncols=True,
        disable=not show_progress,
    ) as bar:

        def show(characters: float) -> None:
            bar.update(characters - bar.n)

        for chunk in chunks:
            start, size = read_characters, sum(map(len, chunk))
            read += len(chunk)
            read_characters += size
            if read <= vectors.done:
                bar.initial = bar.n = read_characters  # counts as done, but not as this run's speed
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
    return tqdm(desc=what, total=total, unit=" texts", delay=_BAR_AFTER, dynamic_ncols=True, disable=not show_progress)


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
