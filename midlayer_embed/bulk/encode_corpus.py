"""Embeds a corpus of many files into a folder of parts, on as many processes and machines as there are.

Each process finds the same files and the same split of them, and does its own. The parts alone tell what is done.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from midlayer_embed.bulk.corpus import Inputs, check_apart, find_corpus
from midlayer_embed.bulk.encode_file import FileEncoder
from midlayer_embed.bulk.part_files import PartFiles, ranges
from midlayer_embed.bulk.vector_files import SUFFIXES, Claimed, check_target, check_unclaimed
from midlayer_embed.errors import InputError
from midlayer_embed.ground.interrupts import tell_interrupt
from midlayer_embed.ground.paths import target_folder
from midlayer_embed.options import takes_options
from midlayer_embed.sharing.parts import Part, own, parse_part
from midlayer_embed.texts.files import TextFile, find_texts, format_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from midlayer_embed.models.checkpoint import Checkpoint
    from midlayer_embed.options import AnyModelOptions

logger = logging.getLogger(__name__)

_GO_ON = "run the same command again to go on"
# Seconds between two looks at a part that another process has.
_LOOK_SECONDS = 2


@dataclass(frozen=True)
class Outcome:
    """What is in a folder of parts.

    Attributes:
        n_parts: Number of parts of this process.
        n_vectors: Number of their vectors.
        dim: Their dimensions; None if there is no part.
        missing: Numbers of the parts that are not there, of this process and of others.
        manifest: The manifest, if all parts are there.
    """

    n_parts: int
    n_vectors: int
    dim: int | None
    missing: tuple[int, ...]
    manifest: Mapping[str, Any] | None


class CorpusJob:
    """One process's part of embedding a corpus, checked without a model.

    Args:
        inputs: As for `find_corpus`.
        folder: Folder of the parts.
        column: Column of the texts, see `find_texts`. None: the one that the first file has, in every file.
        suffix: Ending of the parts, ".npy", ".jsonl" or ".parquet".
        shard: Which part of the files this process does; None: all.
        share: Which part of these, if several processes of a machine do them.
        overwrite: Whether parts of another run are replaced.
        needed: A file that must not be replaced, if there is one.

    Raises:
        InputError: (a ValueError) the input is not as expected, or the output cannot be written.
    """

    def __init__(
        self,
        inputs: Inputs,
        folder: str | Path,
        *,
        column: str | None = None,
        suffix: str = ".npy",
        shard: Part | str | None = None,
        share: Part | None = None,
        overwrite: bool = False,
        needed: Path | None = None,
    ) -> None:
        if suffix not in SUFFIXES:
            raise InputError(f"suffix: expected {', '.join(SUFFIXES)}, got {suffix!r}")
        part = parse_part(shard) if isinstance(shard, str) else shard or Part()
        corpus = find_corpus(inputs)
        self._parts = PartFiles(target_folder(folder, "output"), corpus, suffix)
        self._overwrite = overwrite
        check_apart(inputs, corpus, self._parts.folder, self._parts.written())
        mine = own(corpus.sizes, part)
        self.numbers = [mine[place] for place in own([corpus.sizes[number] for number in mine], share or Part())]
        self._texts: dict[int, TextFile] = {}
        for number, texts in _with_columns([corpus.path(n) for n in range(len(corpus.names))], self.numbers, column):
            self._texts[number] = texts
            check_target(self._parts.path(number), texts, overwrite=True, needed=needed)

    def run(self, model: "str | Path | Checkpoint", layer: int | float, **options: Any) -> Outcome:
        """Embed the files. Parts that are finished are passed over.

        A file that cannot be embedded does not keep the others from it.

        Args:
            model: As for `encode_file`.
            layer: As for `encode_file`.
            **options: The other arguments of `FileEncoder`.

        Raises:
            InputError: (a ValueError) an argument or a file is invalid, or the output cannot be written.
        """
        parts, errors = self._parts, []
        encoder = FileEncoder(model, layer, **options)
        settings = encoder.settings
        parts.check_others(settings, overwrite=self._overwrite)
        waiting = [number for number in self.numbers if not self._is_finished(number, settings)]
        if n_finished := len(self.numbers) - len(waiting):
            logger.info("%d of %d parts are finished already", n_finished, len(self.numbers))
        with tell_interrupt(self.describe_missing):
            told = False
            while waiting:
                claimed = []
                for number in waiting:
                    try:
                        self._encode(number, encoder)
                    except Claimed as error:
                        claimed.append(number)
                        if not told:
                            logger.info("%s; its part is waited for, after all others", error)
                    except InputError as error:
                        if not str(error).startswith(("input:", "column:")):
                            raise
                        errors.append(error)
                        logger.debug("%s", error)
                waiting, told = claimed, bool(claimed)
                if waiting:
                    time.sleep(_LOOK_SECONDS)
        if errors:
            n_files = len(self.numbers)
            rest = f"; {n_files - len(errors)} of {n_files} files are embedded" if n_files > 1 else ""
            raise InputError(f"{errors[0]}{rest}")
        parts.join(settings, overwrite=self._overwrite)
        return self.outcome()

    def _is_finished(self, number: int, settings: Mapping[str, Any]) -> bool:
        return self._parts.is_finished(number, settings, overwrite=self._overwrite)

    def _encode(self, number: int, encoder: FileEncoder) -> None:
        """Make a part, unless another process has made it in the meantime."""
        parts, settings = self._parts, encoder.settings
        if self._is_finished(number, settings):
            return
        check_unclaimed(parts.path(number))
        what = f"Encoding {self.numbers.index(number) + 1}/{len(self.numbers)}"
        encoder.encode(
            self._texts[number],
            parts.path(number),
            what=what,
            before=lambda encoded, whole: parts.note(number, encoded, whole, settings),
        )

    def outcome(self) -> Outcome:
        """What is there."""
        records = [record for number in self.numbers if (record := self._parts.record(number)) is not None]
        return Outcome(
            len(records),
            sum(record["rows"] for record in records),
            records[0]["dim"] if records else None,
            tuple(self._parts.missing()),
            self._parts.manifest(),
        )

    @property
    def missing_of_own(self) -> list[int]:
        """Numbers of the parts of this process that are not there."""
        missing = set(self._parts.missing())
        return [number for number in self.numbers if number in missing]

    @property
    def n_bytes(self) -> int:
        """Size of the input of this process."""
        return sum(self._parts.corpus.sizes[number] for number in self.numbers)

    def bytes_done(self) -> int:
        """Size of the input whose parts are there."""
        return self.n_bytes - sum(self._parts.corpus.sizes[number] for number in self.missing_of_own)

    def describe_missing(self) -> str:
        """Which parts of this process are missing, in words."""
        missing = self.missing_of_own
        return f"{len(missing)} of {len(self.numbers)} parts are missing: {ranges(missing)}; {_GO_ON}"


@takes_options()
def encode_corpus(
    model: "str | Path | Checkpoint",
    layer: int | float,
    source: Inputs,
    folder: str | Path,
    *,
    column: str | None = None,
    suffix: str = ".npy",
    shard: Part | str | None = None,
    normalize: bool = False,
    batch_tokens: int | None = None,
    overwrite: bool = False,
    show_progress: bool = False,
    transform: str | None = None,
    transform_texts: Sequence[str] | None = None,
    dim: int | None = None,
    **options: "Unpack[AnyModelOptions]",
) -> Outcome:
    """Embed the files of a corpus into a folder of numbered parts, one for each file, in the order of their names.

    Processes that are given the same arguments and another `shard` each share the work. The parts are the same, byte
    for byte, however many there are. A run that was interrupted goes on when it is called again.

    Args:
        model: As for `encode_file`.
        layer: As for `encode_file`.
        source: A folder, a pattern, or several files, see `find_corpus`.
        folder: Folder of the parts. When all are there, it has a manifest.json, which lists them.
        column: Name of the column with the texts. None: the one that the first file has, in every file.
        suffix: Ending of the parts: ".npy", ".jsonl" or ".parquet", see `encode_file`.
        shard: "2/8": the second of eight parts of the files, of about the same size. "auto": as SLURM says. None: all.
        normalize: As for `encode_file`.
        batch_tokens: As for `encode_file`.
        overwrite: Replace parts of another run, with other arguments or of another input.
        show_progress: Show bars with an ETA on stderr.
        transform: As for `encode_file`.
        transform_texts: As for `encode_file`.
        dim: As for `encode_file`.
        **options: As for `encode_file`.

    Raises:
        InputError: (a ValueError) an argument or a file is invalid, the folder holds parts of another run, or it cannot
            be written.

    Example:
        >>> encode_corpus("starter", 12, "texts", "vectors", shard="2/8").n_parts     # doctest: +SKIP
        3
    """
    job = CorpusJob(source, folder, column=column, suffix=suffix, shard=shard, overwrite=overwrite)
    return job.run(
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


def _with_columns(paths: Sequence[Path], numbers: Sequence[int], column: str | None) -> "list[tuple[int, TextFile]]":
    """The files with these numbers, all with the same column, which does not depend on the numbers."""
    if not numbers:
        return []
    if column is None:
        tables = (path for path in paths if format_of(path) != ".txt" and path.stat().st_size)
        first = next(tables, None)
        column = None if first is None else find_texts(first).column
    return [(n, find_texts(paths[n], None if format_of(paths[n]) == ".txt" else column)) for n in numbers]
