"""Joins results folders: `merge_results`.

A merge first compares every file that two folders have, and writes nothing if they contradict each other. Then it
puts file after file, each whole, so that a merge that was killed is finished by the same merge. mteb is not imported.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from leaderboard.results.files.agreement import UNITE, Conflict, Unreadable, settings_of, united_settings
from leaderboard.results.files.histories import RECORD, Try, added, history
from leaderboard.results.files.run_settings import Row, settings_file
from leaderboard.results.schemas import META, RUN_SETTINGS
from leaderboard.shards.shard import SHARDS, SWEEPS
from leaderboard.shards.workers import WORKERS
from leaderboard.storage.local import LocalStorage
from leaderboard.storage.opening import open_storage
from leaderboard.storage.protocol import Storage
from midlayer_embed.errors import InputError
from midlayer_embed.ground.progress import progress

logger = logging.getLogger(__name__)

# The parts of a results folder that are merged; tables and pages beside them are made again by `report`.
PARTS = ("results", "metrics", WORKERS, SWEEPS, SHARDS)
# The order in which kinds are written. A result comes after what its readers need, and a shard after its results.
_ORDER = ("end", "worker", "model_meta", "run_settings", "other", "metrics", "result", "shard", "try")
# So many files are read at a time.
_CHUNK = 256


@dataclass(frozen=True)
class MergeReport:
    """What a merge did, or what it would do.

    Attributes:
        folders: The folders that were joined.
        into: The target.
        dry_run: Whether nothing was to be written.
        copied: Paths of the files that come from one folder, by the name of the folder.
        united: Paths of the files that are made: metrics of several folders, and run settings.
        same: Paths of the files that the target has already.
        conflicts: One line for each contradiction.
        left_out: One line for each file or folder that is not merged, and why.
    """

    folders: tuple[str, ...]
    into: str
    dry_run: bool = False
    copied: dict[str, list[str]] = field(default_factory=dict)
    united: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """The report as lines of text."""
        will = "would be " if self.dry_run or self.conflicts else ""
        lines = [f"conflict: {conflict}" for conflict in self.conflicts]
        lines += [f"left out: {one}" for one in self.left_out]
        for name, paths in self.copied.items():
            lines.append(f"{_counted(paths)} {will}copied from {name}")
            lines += [f"  {group}" for group in _by_model(paths)]
        if self.united:
            lines.append(f"{_counted(self.united)} {will}joined or derived: metrics, run settings")
        if self.same:
            lines.append(f"{_counted(self.same)} in {self.into} already")
        if self.conflicts:
            n = len(self.conflicts)
            lines.append(f"nothing {'would be' if self.dry_run else 'was'} written: {n} conflict{'s' * (n > 1)}")
        return lines

    def to_dict(self) -> dict[str, Any]:
        """The report as a dictionary of plain values."""
        return {one.name: getattr(self, one.name) for one in fields(self)}


class MergeConflict(InputError):
    """Results folders contradict each other, so nothing was merged.

    Attributes:
        report: What was found; its `conflicts` name each contradiction.
    """

    def __init__(self, report: MergeReport) -> None:
        self.report = report
        more = f" (and {len(report.conflicts) - 1} more)" if len(report.conflicts) > 1 else ""
        super().__init__(f"folders: {report.conflicts[0]}{more}; nothing was written")


def merge_results(
    folders: str | Path | Sequence[str | Path], into: str | Path, *, dry_run: bool = False, show_progress: bool = True
) -> MergeReport:
    """Joins results folders, such as those of machines that share no disk.

    The same result in two folders is fine, and so are layers, tasks and metrics of one model from several folders. Of
    two results that differ by rounding only, the older one counts. Rows of metrics are united if they were measured on
    the same texts. The order of the folders does not matter. Tables and pages in the folders are not merged:
    `Leaderboard.to_parquet` and others make them again. A file that cannot be understood is left out and named.

    A merge that was killed is finished by the same merge; no file is ever half there. The folders that are joined are
    not changed, except the target if it is one of them.

    Args:
        folders: Results folders: local, or URLs such as s3://bucket/prefix.
        into: The target, created if needed. What it holds already counts as one more folder.
        dry_run: Whether to write nothing.
        show_progress: Whether to show progress on stderr.

    Returns:
        What was merged; of a dry run, with the conflicts.

    Raises:
        InputError: (a ValueError) no such folder, none of them holds results, or the target cannot be written.
        MergeConflict: (an InputError) two folders have the same result with other numbers, data or settings; its
            `report` names each. Nothing is written.

    Example:
        >>> report = merge_results(["from-a", "from-b"], "results/all")                # doctest: +SKIP
        >>> print(*report.lines(), sep="; ")                                           # doctest: +SKIP
    """
    target, sources = _opened([folders] if isinstance(folders, str | Path) else folders, into)
    if not dry_run:
        target.storage.check_writable()
    names = tuple(source.name for source in sources)
    merge = _Merge(target, sources, MergeReport(names, target.name, dry_run), show_progress)
    if not dry_run and merge.report.conflicts:
        raise MergeConflict(merge.report)
    if not dry_run:
        merge.write()
    return merge.report


def _opened(folders: Sequence[str | Path], into: str | Path) -> "tuple[_Source, list[_Source]]":
    """The target and the folders to join, each once.

    Raises:
        InputError: (a ValueError) no folder, no such folder, or one inside another so that they cannot be merged.
    """
    if not folders:
        raise InputError("folders: expected one results folder or more, got none")
    target = _Source(into)
    if (file := target.file) is not None:
        raise InputError(f"into: {file} is a file; expected a folder")
    found: dict[str, _Source] = {}
    for folder in folders:
        source = _Source(folder)
        found.setdefault(source.place, target if source.place == target.place else source)
        if (file := source.file) is not None:
            raise InputError(f"folders: {file} is a file; expected a folder of results")
        if not source.storage.exists():
            raise InputError(f"folders: there is no folder {source.name!r}")
        if _lies_in(target.place, source.place):
            raise InputError(f"into: {target.name!r} lies in {source.name!r}, which a merge does not change")
        for part in PARTS:
            if _lies_in(f"{source.place}/", f"{target.place}/{part}"):
                raise InputError(f"folders: {source.name!r} is a part of {target.name!r}; expected another folder")
    return target, list(found.values())


class _Source:
    """A results folder, listed once."""

    def __init__(self, folder: str | Path) -> None:
        self.storage: Storage = open_storage(folder)
        self.name = str(folder)
        is_local = isinstance(self.storage, LocalStorage)
        # Where it is, by one name.
        self.place = str(self.storage.root) if is_local else self.name.rstrip("/")  # type: ignore[attr-defined]
        self.file = self.name if is_local and Path(self.place).is_file() else None

    @cached_property
    def paths(self) -> list[str]:
        """The files that are merged."""
        return [path for path in self.storage.paths() if _is_merged(path)]


class _Merge:
    """The plan of a merge: what is written where, and from where it comes."""

    def __init__(self, target: _Source, sources: list[_Source], report: MergeReport, show_progress: bool) -> None:
        self.report = report
        self._target = target
        self._show_progress = show_progress
        # The target comes first: what it has stays, and is not copied.
        self._folders = [target, *(source for source in sources if source is not target)]
        empty = [source for source in sources if not source.paths]
        if len(empty) == len(sources):
            raise InputError(
                f"folders: {empty[0].name!r} holds no results; expected {', '.join(PARTS)} in it, as run writes them"
            )
        report.left_out.extend(f"{source.name} holds no results" for source in empty)
        # The run settings of results of sweeps, by folder and task.
        self._settings: dict[str, dict[str, list[Row]]] = defaultdict(dict)
        # Kind, path in the target, and the content or (place of the folder, path there).
        self._writes: list[tuple[str, str, bytes | tuple[int, str]]] = []
        self._plan_files()
        self._plan_tries()
        self._writes.sort(key=lambda one: _ORDER.index(one[0]))

    def write(self) -> None:
        """Puts the files."""
        target = self._target.storage
        writes = self._contents(iter(self._writes))
        shown = progress(len(self._writes), "merging", "file", self._show_progress, items=writes)
        for path, content in shown:
            if path.endswith(".claim"):
                target.create(path, content)
            else:
                target.write(path, content)

    def _contents(self, writes: Iterator[tuple[str, str, bytes | tuple[int, str]]]) -> Iterator[tuple[str, bytes]]:
        """The writes with their contents, read a few at a time."""
        while chunk := list(islice(writes, _CHUNK)):
            wanted: dict[int, list[str]] = defaultdict(list)
            for _, _, content in chunk:
                if not isinstance(content, bytes):
                    wanted[content[0]].append(content[1])
            read = {
                (place, path): content
                for place, paths in wanted.items()
                for path, content in self._folders[place].storage.read_many(list(dict.fromkeys(paths)))
            }
            for _, path, content in chunk:
                if isinstance(content, bytes):
                    yield path, content
                elif content in read:
                    yield path, read[content]

    def _plan_files(self) -> None:
        holders: dict[str, list[int]] = defaultdict(list)
        for place, folder in enumerate(self._folders):
            for path in folder.paths:
                if _kind(path) is not None:
                    holders[path].append(place)
        settings = {path: places for path, places in holders.items() if _kind(path) == "run_settings"}
        others = {path: places for path, places in holders.items() if path not in settings}
        shown = progress(len(others), "comparing", "file", self._show_progress, items=self._read(others))
        for path, found in shown:
            self._plan_file(path, found)
        # These follow from the results.
        for experiment in self._settings:
            settings.setdefault(f"{experiment}/{RUN_SETTINGS}", [])
        for path, found in self._read(settings):
            ours = self._settings.get(path.rpartition("/")[0], {})
            kept = settings_file(united_settings([("", content) for _, content in found]), ours)
            if not ours and len({content for _, content in found}) == 1:
                kept = found[0][1]
            self._plan_write("run_settings", path, kept, found)
        ended = {path for path in holders if path.endswith(".end.json")}
        for path in sorted(holders):
            end = f"{path.removesuffix('.json')}.end.json"
            if _kind(path) == "worker" and end not in ended and 0 not in holders[path]:
                # Here nobody beats for it, so it must not pass for alive.
                self._writes.append(("end", end, b"{}"))

    def _read(self, holders: dict[str, list[int]]) -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
        """Each path with the contents in all folders that have it, read a few at a time."""
        paths = iter(sorted(holders))
        while chunk := list(islice(paths, _CHUNK)):
            read: dict[str, list[tuple[int, bytes]]] = {path: [] for path in chunk}
            for place, folder in enumerate(self._folders):
                wanted = [path for path in chunk if place in holders[path]]
                for path, content in folder.storage.read_many(wanted) if wanted else ():
                    read[path].append((place, content))
            yield from read.items()

    def _plan_file(self, path: str, found: list[tuple[int, bytes]]) -> None:
        """Compares the files of one path."""
        kind = _kind(path)
        assert kind is not None
        unite = UNITE["worker" if kind == "end" else kind]
        readable = []
        for place, content in found:
            try:
                unite([("", content)])
                readable.append((place, content))
            except Unreadable as reason:
                self.report.left_out.append(f"{self._folders[place].name}: {path} cannot be read: {reason}")
        if not readable:
            return
        try:
            kept = unite([(self._folders[place].name, content) for place, content in readable])
        except Conflict as conflict:
            self.report.conflicts.append(f"{path}: {conflict}")
            return
        if kind == "result" and (settings := settings_of(kept)) is not None:
            task, rows = settings
            self._settings[path.rpartition("/")[0]][task] = rows
        self._plan_write(kind, path, kept, readable)

    def _plan_write(self, kind: str, path: str, kept: bytes, found: list[tuple[int, bytes]]) -> None:
        origin = next((place for place, content in found if content == kept), None)
        if origin == 0:
            self.report.same.append(path)
        elif origin is None:
            self.report.united.append(path)
            self._writes.append((kind, path, kept))
        else:
            self.report.copied.setdefault(self._folders[origin].name, []).append(path)
            self._writes.append((kind, path, (origin, path)))

    def _plan_tries(self) -> None:
        """Numbers the tries of each shard anew behind those of the target."""
        histories: dict[str, dict[int, list[Try]]] = defaultdict(dict)
        for place, folder in enumerate(self._folders):
            records = dict(folder.storage.read_many([path for path in folder.paths if RECORD.fullmatch(path)]))
            names: dict[str, list[str]] = defaultdict(list)
            for path in folder.paths:
                if path.startswith(f"{SHARDS}/"):
                    shard, _, name = path.rpartition("/")
                    names[shard].append(name)
            for shard, of_shard in names.items():
                histories[shard][place] = history(of_shard, records, shard)
        for shard, by_place in sorted(histories.items()):
            there = by_place.get(0, [])
            places = [place for place in by_place if place != 0]
            number = int(PurePosixPath(there[-1].path).name) if there else 0
            for place, one in added(there, [by_place[place] for place in places]):
                number += 1
                self._plan_try(places[place], one, f"{shard}/{number:04}")
            self.report.same.extend(f"{one.path}.json" for one in there if one.record is not None)

    def _plan_try(self, place: int, one: Try, path: str) -> None:
        """The claim comes last: without it, nobody looks at the other files."""
        for kind in ("json", *["log"] * one.has_log, "claim"):
            self._writes.append(("try", f"{path}.{kind}", (place, f"{one.path}.{kind}")))
            self.report.copied.setdefault(self._folders[place].name, []).append(f"{path}.{kind}")


def _is_merged(path: str) -> bool:
    part, mark, _ = path.partition("/")
    if part == WORKERS:  # what `submit` keeps of the output of workers beside their files is no result
        return path.endswith(".json")
    return bool(mark) and part in PARTS


def _kind(path: str) -> str | None:
    """What a file is; None for those of tries, which are numbered anew."""
    part, *_, name = path.split("/")
    if part == WORKERS:
        return "end" if name.endswith(".end.json") else "worker"
    if part == SHARDS:
        return "shard" if name == "shard.json" else None
    if part == SWEEPS:
        return "other"
    if part == "metrics":
        return "metrics" if name.endswith(".parquet") else "other"
    named = {META: "model_meta", RUN_SETTINGS: "run_settings"}
    return named.get(name, "result" if name.endswith(".json") else "other")


def _lies_in(place: str, other: str) -> bool:
    return place.startswith(f"{other.rstrip('/')}/")


def _counted(paths: Sequence[str]) -> str:
    kinds = [_kind(path) for path in paths]
    n_results = kinds.count("result")
    of_them = f", {n_results} of them results" if n_results else ""
    return f"{len(paths)} file{'s' * (len(paths) != 1)}{of_them}"


def _by_model(paths: Sequence[str]) -> list[str]:
    """The tasks with results, one line for each model and revision."""
    tasks: dict[tuple[str, str], set[str]] = defaultdict(set)
    for path in paths:
        parts = path.split("/")
        if _kind(path) == "result" and len(parts) > 3:
            tasks[parts[1].replace("__", "/", 1), parts[2]].add(parts[-1].removesuffix(".json"))
    return [
        f"{model} at revision {revision}: {', '.join(sorted(names))}"
        for (model, revision), names in sorted(tasks.items())
    ]
