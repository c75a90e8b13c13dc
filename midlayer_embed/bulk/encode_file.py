"""Embeds a file of texts into a file of vectors, for `midlayer-embed encode`.

Invalid arguments and input are reported before a model is loaded, so heavy imports are inside functions.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
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
from midlayer_embed.ground.whole_files import file_sha256
from midlayer_embed.options import AnyModelOptions, fold, takes_options
from midlayer_embed.texts import files as text_files
from midlayer_embed.texts.files import TextFile, describe, find_texts, read_chunks, read_texts, survey

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
    encoder = FileEncoder(
        model,
        layer,
        normalize=normalize,
        batch_tokens=batch_tokens,
        show_progress=show_progress,
        transform=transform,
        transform_texts=transform_texts,
        dim=dim,
        **options,
    )
    return encoder.encode(texts, target).shape


@dataclass(frozen=True)
class Encoded:
    """A file that was embedded.

    Attributes:
        texts: The file.
        sha256: SHA-256 of its bytes.
        texts_sha256: Hash of its texts, see `survey`.
        shape: (n, dim) of the vectors.
    """

    texts: TextFile
    sha256: str
    texts_sha256: str
    shape: tuple[int, int]


class FileEncoder:
    """Embeds files with one layer of a model, which is loaded once, when the first file has been read.

    Args: as for `encode_file`.

    Attributes:
        settings: All that the vectors depend on besides the input, as JSON.

    Raises:
        InputError: (a ValueError) an argument is invalid.
    """

    @takes_options()
    def __init__(
        self,
        model: "str | Path | Checkpoint",
        layer: int | float,
        *,
        normalize: bool = False,
        batch_tokens: int | None = None,
        show_progress: bool = False,
        transform: str | None = None,
        transform_texts: Sequence[str] | None = None,
        dim: int | None = None,
        **options: "Unpack[AnyModelOptions]",
    ) -> None:
        weights, recipe = fold({**options, "transform": transform, "dim": dim})

        from midlayer_embed.encoder.arguments import check_transform_options
        from midlayer_embed.forward.batching import token_budget
        from midlayer_embed.layers import layer_number
        from midlayer_embed.models.backbone import limit_in_force, load_tokenizer
        from midlayer_embed.models.checkpoint import find_checkpoint
        from midlayer_embed.models.weights import dtype_name, resolve_device

        transform_texts, _ = check_transform_options(transform, transform_texts, dim)
        device = resolve_device(weights.device)
        token_budget(batch_tokens, device)
        checkpoint = find_checkpoint(model, weights)
        number = layer_number(layer, checkpoint.n_blocks, checkpoint.resolved(recipe).site)
        tokenizer = load_tokenizer(checkpoint, recipe.template)
        limit = limit_in_force(checkpoint, tokenizer, recipe.max_seq_length, recipe.template)
        self._arguments = (checkpoint, number)
        self._options: dict[str, Any] = {
            **options,
            "transform": transform,
            "transform_texts": transform_texts,
            "dim": dim,
        }
        self._show_progress = show_progress
        self.settings: dict[str, Any] = {
            "chunks": [text_files.CHUNK_TEXTS, text_files.CHUNK_CHARACTERS],
            "model": checkpoint.name,
            "revision": checkpoint.revision,
            "recipe": asdict(replace(checkpoint.resolved(recipe), layer=number, max_seq_length=limit)),
            "transform_texts": None if transform_texts is None else survey(sorted(transform_texts)).sha256,
            "normalize": normalize,
            "batch_tokens": batch_tokens,
            "device": device.type,
            "dtype": dtype_name(weights.dtype),
            "own_code": weights.trust_remote_code,
            "versions": {"midlayer-embed": __version__, **{name: version(name) for name in ("torch", "transformers")}},
        }

    @cached_property
    def _encoder(self) -> "MidLayerEncoder":
        from midlayer_embed.encoder.sentence_transformer import MidLayerEncoder

        encoder = MidLayerEncoder(*self._arguments, **self._options)
        encoder.batch_tokens = self.settings["batch_tokens"]
        return encoder

    def encode(
        self,
        texts: TextFile,
        target: Path,
        *,
        what: str = "Encoding",
        before: Callable[[Encoded, Path], object] | None = None,
    ) -> Encoded:
        """Embed a file. See `encode_file`.

        Args:
            texts: The file.
            target: File of the vectors, from `check_target`.
            what: Label of the bar.
            before: Function that is called when the vectors are complete, with the path where they are, just before
                they are moved to the target.

        Raises:
            Claimed: (a ValueError) another process is writing the target.
            InputError: (a ValueError) the input is invalid, or the output cannot be written.
        """
        stamp = _stamp(texts.path)
        rows = row_file(target, texts)
        show_progress, settings = self._show_progress, self.settings
        with _bar("Reading", None, show_progress) as bar:
            found = survey(_counted(read_texts(texts) if rows is None else rows.read(), bar))
        encoder = self._encoder
        logger.info("%s", describe(texts, found.n_texts, found.n_blank))
        shape = (found.n_texts, int(encoder.get_embedding_dimension() or 0))
        fitted = None if encoder.transform is None else encoder.transform.fingerprint
        settings = {"input": found.sha256, "column": texts.column, **flat(settings), "fitted": fitted}
        with (
            UnfinishedVectors(target, shape, settings) as vectors,
            tell_interrupt(lambda: what_is_kept(target)),
        ):
            append_all(
                vectors,
                read_chunks(texts),
                _Texts(encoder),
                total=found.n_characters,
                normalize=settings["normalize"],
                show_progress=show_progress,
                what=what,
            )
            encoded = Encoded(texts, file_sha256(texts.path) if before else "", found.sha256, shape)
            if _stamp(texts.path) != stamp or vectors.done != found.n_texts:
                raise InputError(f"input: {texts.path} was changed while it was read; run the command again")
            with _bar("Writing", found.n_texts, show_progress) as bar:
                vectors.finish(rows, bar.update, lambda whole: before and before(encoded, whole))
        return encoded


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a `FileEncoder` with those of its recipe among them, to name one in which two runs differ."""
    return {**{name: value for name, value in settings.items() if name != "recipe"}, **settings.get("recipe", {})}


class _Texts:
    """Embeds texts. Progress counts characters, because texts differ in length."""

    noun, unit = "text", "char"

    def __init__(self, encoder: "MidLayerEncoder") -> None:
        self._encoder = encoder

    def sizes(self, texts: Sequence[str]) -> np.ndarray:
        return np.fromiter(map(len, texts), np.int64, len(texts))

    def batches(self, texts: Sequence[str]) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
        """Batches as `encode` makes them, longest texts first; texts without tokens are left out."""
        from midlayer_embed.forward.batching import token_budget
        from midlayer_embed.forward.row_batches import row_batches
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
