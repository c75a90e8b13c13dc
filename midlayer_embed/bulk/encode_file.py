"""Embeds a file of texts into a file of vectors, for `midlayer-embed encode`.

Invalid arguments and input are reported before a model is loaded, so heavy imports are inside functions.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from midlayer_embed import __version__
from midlayer_embed.bulk.appending import append_all, positions_in
from midlayer_embed.bulk.row_files import row_file
from midlayer_embed.bulk.vector_files import UnfinishedVectors, check_target, what_is_kept
from midlayer_embed.errors import InputError
from midlayer_embed.ground.interrupts import tell_interrupt
from midlayer_embed.ground.progress import progress
from midlayer_embed.options import AnyModelOptions, fold, takes_options
from midlayer_embed.texts import files as text_files
from midlayer_embed.texts.files import describe, find_texts, read_chunks, read_texts, survey

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder
    from midlayer_embed.models.checkpoint import Checkpoint

logger = logging.getLogger(__name__)

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
        append_all(
            vectors,
            read_chunks(texts),
            _Texts(encoder),
            total=found.n_characters,
            normalize=normalize,
            show_progress=show_progress,
        )
        if _stamp(texts.path) != stamp or vectors.done != found.n_texts:
            raise InputError(f"input: {texts.path} was changed while it was read; run the command again")
        with _bar("Writing", found.n_texts, show_progress) as bar:
            vectors.finish(rows, bar.update)
    return shape


class _Texts:
    """Embeds texts. Progress counts characters, because texts differ in length."""

    noun, unit = "text", "char"

    def __init__(self, encoder: "MidLayerEncoder") -> None:
        self._encoder = encoder

    def sizes(self, texts: Sequence[str]) -> np.ndarray:
        return np.fromiter(map(len, texts), np.int64, len(texts))

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
        """Batches as `encode` makes them, longest texts first; texts without tokens are left out."""
        from midlayer_embed.forward.batching import row_batches, token_budget
        from midlayer_embed.texts.tokens import distinct, token_counts

        encoder = self._encoder
        unique, where = distinct(texts)
        prompt = encoder.prompts.get(encoder.default_prompt_name or "") or ""
        transformer: Any = encoder[0]  # its limit counts one copy of a text
        max_length = int(transformer.max_seq_length or encoder.tokenizer.model_max_length)
        counts = token_counts(encoder.tokenizer, unique, max_length, prompt=prompt)
        batches = row_batches(counts, token_budget(encoder.batch_tokens, encoder.device))
        for numbers, rows, which in positions_in(batches, where):
            yield [unique[number] for number in numbers], rows, which

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return _encode(self._encoder, texts)


def _encode(encoder: "MidLayerEncoder", texts: Sequence[str]) -> np.ndarray:
    # the number of tokens alone limits a batch
    found = encoder.encode(list(texts), batch_size=len(texts), show_progress_bar=False)
    return found.astype(np.float32, copy=False)


def _counted(texts: Iterable[str], bar: tqdm) -> Iterator[str]:
    for text in texts:
        yield text
        bar.update()


def _bar(what: str, total: int | None, show_progress: bool) -> tqdm:
    return progress(total, what, " texts", show_progress, delay=_BAR_AFTER)


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns
