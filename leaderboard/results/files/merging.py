"""Joins results folders: `merge_results`.

A merge first compares every file that two folders have, and writes nothing if they contradict each other. Then it
puts file after file, each whole, so that a merge that was killed is finished by the same merge.
"""

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from leaderboard.results.files.agreement import UNITE, Conflict, Unreadable, is_ours, united_settings
from leaderboard.results.files.histories import RECORD, Try, added, history
from leaderboard.storage.opening import is_url, open_storage
from leaderboard.storage.protocol import Storage
from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import followed, user_path
from midlayer_embed.ground.progress import progress

logger = logging.getLogger(__name__)

# The parts of a results folder that are merged; tables and pages beside them are made again by `report`.
PARTS = ("results", "metrics", "workers", "shards")
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
        united: Paths of the files that are made of those of several folders: metrics and run settings.
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
            lines.append(f"{_counted(self.united)} {will}joined from several folders")
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
        >>> print("\\n".join(report.lines()))                                           # doctest: +SKIP
    """
    given = check_merge(folders, into)
    target = _Source(open_storage(into), str(into))
    sources = [_Source(target.storage if _place(folder) == _place(into) else open_storage(folder), folder) for folder in given]
    for source in sources:
        if not source.storage.exists():
            raise InputError(f"folders: there is no folder {source.name!r}")
    if not dry_run:
        target.storage.check_writable()
    merge = _Merge(target, sources, MergeReport(tuple(given), str(into), dry_run), show_progress)
    if not dry_run and merge.report.conflicts:
        raise MergeConflict(merge.report)
    if not dry_run:
        merge.write()
    return merge.report


def check_merge(folders: str | Path | Sequence[str | Path], into: str | Path) -> list[str]:
    """The folders to join, each once, checked as far as their names tell.

    Raises:
        InputError: (a ValueError) none, no such local folder, or one inside another in a way that cannot be merged.
    """
    given = [folders] if isinstance(folders, str | Path) else list(folders)
    if not given:
        raise InputError("folders: expected one results folder or more, got none")
    target = _place(into, "into")
    found: dict[str, str] = {}
    for folder in given:
        place = _place(folder, "folders")
        found.setdefault(place, str(folder))
        if not is_url(folder):
            path = Path(place)
            if not path.is_dir():
                what = "is a file; expected a folder" if path.exists() else "does not exist; expected a folder"
                raise InputError(f"folders: {str(folder)!r} {what} of results")
        if _lies_in(target, place):
            raise InputError(f"into: {str(into)!r} lies in {str(folder)!r}, which a merge must not change")
        if any(_lies_in(place, f"{target}/{part}") or place == f"{target}/{part}" for part in PARTS):
            raise InputError(f"folders: {str(folder)!r} is a part of the target {str(into)!r}; expected a folder of its own")
    if not is_url(into) and Path(target).exists() and not Path(target).is_dir():
        raise InputError(f"into: {str(into)!r} is a file; expected a folder")
    return list(found.values())


class _Source:
    """A results folder, listed once."""

    def __init__(self, storage: Storage, name: str) -> None:
        self.storage, self.name = storage, name
        self.place = _place(name)
        self.paths: list[str] = []
        self.others = 0

    def list(self) -> None:
        for path in self.storage.paths():
            parts = path.split("/")
            if any(part.startswith(".") for part in parts):
                continue
            if parts[0] in PARTS and len(parts) > 1:
                self.paths.append(path)
            else:
                self.others += 1


class _Merge:
    """The plan of a merge: what is written where, and from where it comes."""

    def __init__(self, target: _Source, sources: list[_Source], report: MergeReport, show_progress: bool) -> None:
        self.report = report
        self._target = target
        self._show_progress = show_progress
        # The target comes first: what it has stays, and is not copied.
        self._folders = [target, *(source for source in sources if source.place != target.place)]
        for folder in self._folders:
            folder.list()
        empty = [source for source in sources if not self._of(source).paths]
        if len(empty) == len(sources):
            raise InputError(f"folders: {empty[0].name!r} holds no results; expected {', '.join(PARTS)} in it, as run writes them")
        report.left_out.extend(f"{source.name} holds no results" for source in empty)
        # The tasks with results of sweeps, by folder: their run settings are derived from the results at the end.
        self._ours: dict[str, set[str]] = defaultdict(set)
        # Kind, path in the target, and the content or (place of the folder, path there).
        self._writes: list[tuple[str, str, bytes | tuple[int, str]]] = []
        self._plan_files()
        self._plan_tries()
        self._writes.sort(key=lambda one: _ORDER.index(one[0]))

    def _of(self, source: _Source) -> _Source:
        return next(folder for folder in self._folders if folder.place == source.place)

    def write(self) -> None:
        """Puts the files."""
        target = self._target.storage
        writes = self._contents(iter(self._writes))
        shown = progress(len(self._writes), "merging", "file", self._show_progress, items=writes)
        for kind, path, content in shown:
            if path.endswith(".claim"):
                target.create(path, content)
            else:
                target.write(path, content)
        if self._ours:
            # These import mteb.
            from leaderboard.results.files.folder import ResultsFolder
            from leaderboard.results.files.run_settings import write_run_settings

            folder = ResultsFolder(target)
            write_run_settings(folder, folder.results())

    def _contents(self, writes: Iterator[tuple[str, str, bytes | tuple[int, str]]]) -> Iterator[tuple[str, str, bytes]]:
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
            for kind, path, content in chunk:
                if isinstance(content, bytes):
                    yield kind, path, content
                elif content in read:
                    yield kind, path, read[content]

    def _plan_files(self) -> None:
        holders: dict[str, list[int]] = defaultdict(list)
        for place, folder in enumerate(self._folders):
            for path in folder.paths:
                if _kind(path) is not None:
                    holders[path].append(place)
        # Run settings come last: which of them are needed, the results say.
        order = sorted(holders, key=lambda path: (_kind(path) == "run_settings", path))
        shown = progress(len(holders), "comparing", "file", self._show_progress, items=self._read(order, holders))
        for path, found in shown:
            if _kind(path) == "run_settings":
                self._plan_settings(path, found)
            else:
                self._plan_file(path, found)
        ended = {path for path in holders if path.endswith(".end.json")}
        for path in sorted(holders):
            end = f"{path.removesuffix('.json')}.end.json"
            if _kind(path) == "worker" and end not in ended and 0 not in holders[path]:
                # Here nobody beats for it, so it must not pass for alive.
                self._writes.append(("end", end, b"{}"))

    def _read(
        self, order: Sequence[str], holders: dict[str, list[int]]
    ) -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
        """Each path with the contents in all folders that have it, read a few at a time."""
        paths = iter(order)
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
        if kind == "result" and is_ours(kept):
            folder, _, name = path.rpartition("/")
            self._ours[folder].add(name.removesuffix(".json"))
        self._plan_write(kind, path, kept, readable)

    def _plan_settings(self, path: str, found: list[tuple[int, bytes]]) -> None:
        """Unites the run settings of results that no sweep wrote."""
        ours = self._ours.get(path.rpartition("/")[0], set())
        if not ours:
            self._plan_write("run_settings", path, UNITE["run_settings"]([("", content) for _, content in found]), found)
            return
        others = united_settings([("", content) for _, content in found], without=ours)
        there = [("", content) for place, content in found if place == 0]
        if others != united_settings(there, without=ours):
            self._plan_write("run_settings", path, b"".join([*(content for _, content in there), others]), [])

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
                if path.startswith("shards/"):
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


def _kind(path: str) -> str | None:
    """What a file is; None for those of tries, which are numbered anew."""
    part, *_, name = path.split("/")
    if part == "workers":
        return "end" if name.endswith(".end.json") else "worker" if name.endswith(".json") else "other"
    if part == "shards":
        return "shard" if name == "shard.json" else None
    if part == "metrics":
        return "metrics" if name.endswith(".parquet") else "other"
    named = {"model_meta.json": "model_meta", "run_settings.jsonl": "run_settings"}
    return named.get(name, "result" if name.endswith(".json") else "other")


def _place(folder: str | Path, argument: str = "folders") -> str:
    """Where a folder is, by one name."""
    return str(folder).rstrip("/") if is_url(folder) else str(followed(user_path(folder, argument)))


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
    return [f"{model} at revision {revision}: {', '.join(sorted(names))}" for (model, revision), names in sorted(tasks.items())]
