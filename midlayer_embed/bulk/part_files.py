"""A folder of numbered files of vectors, one for each file of a corpus, and the manifest that lists them.

Beside each part is a record of what it is. It is written just before the part appears, by the process that made it, so
no file has two writers. The manifest is nothing but the records, joined: whoever finds all of them writes it.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from midlayer_embed.bulk.corpus import Corpus
from midlayer_embed.bulk.encode_file import Encoded, flat
from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.whole_files import file_sha256, write_json

MANIFEST = "manifest.json"
_DIGITS = 5


class PartFiles:
    """The parts of a corpus in a folder.

    Args:
        folder: The folder; it need not be there.
        corpus: The files, of which each becomes the part with its number.
        suffix: ".npy", ".jsonl" or ".parquet".

    Example:
        >>> parts = PartFiles(Path("vectors"), Corpus(Path("texts"), ("a.txt", "b.txt"), (3, 4)), ".npy")
        >>> [parts.path(number).name for number in range(2)]
        ['part-00000.npy', 'part-00001.npy']
    """

    def __init__(self, folder: Path, corpus: Corpus, suffix: str) -> None:
        self.folder = folder
        self.corpus = corpus
        self.suffix = suffix
        self._digits = max(_DIGITS, len(str(len(corpus.names) - 1)))

    def __len__(self) -> int:
        return len(self.corpus.names)

    def path(self, number: int) -> Path:
        """Path of a part."""
        return self._named(number, self.suffix)

    def written(self) -> list[str]:
        """Names of all files that are written into the folder."""
        numbers = range(len(self))
        return [MANIFEST, *(self._named(number, end).name for number in numbers for end in (self.suffix, ".json"))]

    def is_finished(self, number: int, settings: Mapping[str, Any], *, overwrite: bool) -> bool:
        """Whether a part is there, whole, and of the same input and settings.

        Args:
            number: Number of the part.
            settings: All that its vectors depend on besides its input.
            overwrite: Whether a part of another run may be replaced. It counts as not finished then.

        Raises:
            InputError: (a ValueError) a part of another run is there.
        """
        path = self.path(number)
        n_bytes = _size(path)  # first: the record is written before the part appears
        record = self.record(number)
        if record is None:
            if n_bytes is None or overwrite:
                return False
            raise InputError(f"output: {path} exists already, without its record; use --overwrite to replace it")
        changed = self._changed(number, record, settings)
        if changed and not overwrite and _size(self._noted(record)) is not None:
            raise InputError(
                f"output: {self.folder} holds {record['part']} of another run, which differs in "
                f"{', '.join(changed)}; use --overwrite to replace it, or another folder"
            )
        return not changed and n_bytes is not None and n_bytes == record["bytes"]

    def check_others(self, settings: Mapping[str, Any], *, overwrite: bool) -> None:
        """Reject a folder that holds other things: parts of more files, or, as far as one look tells, other settings.

        Raises:
            InputError: (a ValueError) the message says what it holds.
        """
        if overwrite:
            return
        path = self.folder / MANIFEST
        if path.exists() and self.manifest() is None:
            raise InputError(f"output: {path} exists already, and is of no run; use --overwrite to replace it")
        numbers = self._numbers()
        if not numbers:
            return
        if numbers[-1] >= len(self):
            raise InputError(
                f"output: {self.folder} holds parts of {numbers[-1] + 1} files and the input has {len(self)}; "
                "use --overwrite to replace them, or another folder"
            )
        self.is_finished(numbers[0], settings, overwrite=False)

    def note(self, number: int, encoded: Encoded, whole: Path, settings: Mapping[str, Any]) -> None:
        """Write the record of a part.

        Args:
            number: Number of the part.
            encoded: What was embedded.
            whole: Path of the complete part, which is not at its place yet.
            settings: All that its vectors depend on besides its input.
        """
        record = {
            "part": self.path(number).name,
            "rows": encoded.shape[0],
            "dim": encoded.shape[1],
            "bytes": whole.stat().st_size,
            "sha256": file_sha256(whole),
            "file": self.corpus.names[number],
            "file_bytes": encoded.texts.path.stat().st_size,
            "file_sha256": encoded.sha256,
            "column": encoded.texts.column,
            "settings": settings,
        }
        earlier = self.record(number) or record
        # or they would stand beside a record that is not theirs, and be in a manifest that is not true
        for path in {self.path(number), self._noted(earlier), self.folder / MANIFEST}:
            path.unlink(missing_ok=True)
        with atomic_file(self._named(number, ".json")) as partial:
            write_json(partial, record)

    def record(self, number: int) -> dict[str, Any] | None:
        """The record of a part; None if there is none, or none of ours."""
        return _read(self._named(number, ".json"), {"part", "bytes", "file", "settings"})

    def missing(self) -> list[int]:
        """Numbers of the parts that are not there."""
        try:
            there = set(os.listdir(self.folder))
        except FileNotFoundError:
            there = set()
        return [n for n in range(len(self)) if not {self.path(n).name, self._named(n, ".json").name} <= there]

    def join(self, settings: Mapping[str, Any], *, overwrite: bool) -> None:
        """Write the manifest, if all parts are there.

        Args:
            settings: All that the vectors depend on besides the input.
            overwrite: Whether parts of another run are going to be replaced, and those of more files removed.

        Raises:
            InputError: (a ValueError) there are parts of another run.
        """
        if self.missing():
            return
        parts, offset = [], 0
        for number in range(len(self)):
            record = self.record(number)
            if record is None or not self.is_finished(number, settings, overwrite=overwrite):
                return
            parts.append({**{name: value for name, value in record.items() if name != "settings"}, "offset": offset})
            offset += record["rows"]
        manifest = {**settings, "format": self.suffix[1:], "rows": offset, "dim": parts[0]["dim"], "parts": parts}
        if overwrite:
            self._remove_surplus()
        if self.manifest() != json.loads(json.dumps(manifest)):
            with atomic_file(self.folder / MANIFEST) as partial:
                write_json(partial, manifest)

    def manifest(self) -> dict[str, Any] | None:
        """The manifest, if it is there."""
        return _read(self.folder / MANIFEST, {"rows", "dim", "parts"})

    def _named(self, number: int, suffix: str) -> Path:
        return self.folder / f"part-{number:0{self._digits}}{suffix}"

    def _noted(self, record: Mapping[str, Any]) -> Path:
        """Path of the part that a record is of."""
        return self.folder / Path(str(record["part"])).name

    def _changed(self, number: int, record: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
        """In what a part that is there differs from the one that would be made."""
        changed = _differences(record["settings"], settings)
        if record["part"] != self.path(number).name:
            changed.append("format")
        if record["file"] != self.corpus.names[number]:
            return [*changed, f"input ({record['file']}, now {self.corpus.names[number]})"]
        source = self.corpus.path(number)
        stat = source.stat()
        noted = self._named(number, ".json").stat().st_mtime
        # whatever changes a file changes one of its times, but not every change of its times changes the file
        if stat.st_size != record["file_bytes"] or (
            max(stat.st_mtime, stat.st_ctime) >= noted and file_sha256(source) != record["file_sha256"]
        ):
            changed.append(f"input ({record['file']} has changed)")
        return changed

    def _numbers(self) -> list[int]:
        """Numbers of the records in the folder, rising."""
        stems = (path.stem.removeprefix("part-") for path in self.folder.glob("part-*.json"))
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def _remove_surplus(self) -> None:
        for number in self._numbers():
            if number >= len(self) and (record := self.record(number)) is not None:
                with suppress(OSError):
                    self._noted(record).unlink(missing_ok=True)
                    self._named(number, ".json").unlink()


def _differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    one, other = flat(one), json.loads(json.dumps(flat(other)))
    return [name for name in {**one, **other} if one.get(name) != other.get(name)]


def _read(path: Path, keys: set[str]) -> dict[str, Any] | None:
    """An object of a JSON file with these keys; None if there is no such file."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and keys <= set(found) else None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def ranges(numbers: Sequence[int]) -> str:
    """Rising numbers in few words.

    Example:
        >>> ranges([0, 1, 2, 5])
        '0-2, 5'
    """
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{first}" if first == last else f"{first}-{last}" for first, last in found)
