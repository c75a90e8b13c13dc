"""Fills a folder with the datasets of tasks, each as the hub has it in the revision that the task pins, and checks it.

The layout is `mirror`'s, which reads such a folder on a machine that reaches no hub. Not for: what a task makes of its
data.
"""

import hashlib
import json
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.constants import ENV_VARS_TRUE_VALUES
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils.tqdm import tqdm as hub_tqdm
from mteb.abstasks.abstask import AbsTask
from pydantic import BaseModel, ValidationError
from rich.filesize import decimal
from tqdm.auto import tqdm

from leaderboard.tasks.mirror import check_data_dir
from leaderboard.tasks.starter import STARTER_TASKS
from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.checksums import file_sha256
from midlayer_embed.ground.progress import progress
from midlayer_embed.ground.quiet import quiet_transformers

logger = logging.getLogger(__name__)

# Beside the folders of the datasets: what has been fetched whole.
MANIFEST = "prefetched.json"
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
# Files at a time: some datasets are hundreds of small ones.
_WORKERS = 8


class DatasetsFailed(RuntimeError):
    """Datasets could not be fetched, or are not as they were; all others are.

    Attributes:
        failures: The error of each dataset that failed, by its name.
    """

    def __init__(self, failures: dict[str, Exception], n_datasets: int) -> None:
        self.failures = failures
        super().__init__(f"{len(failures)} of {n_datasets} datasets failed: {', '.join(failures)}")


class _FetchedFile(BaseModel):
    size: int
    sha256: str


class _Fetched(BaseModel):
    """A dataset that was fetched whole."""

    revision: str
    files: dict[str, _FetchedFile]


class _Manifest(BaseModel):
    datasets: dict[str, _Fetched] = {}

    @classmethod
    def read(cls, folder: Path) -> "_Manifest":
        path = folder / MANIFEST
        if not path.exists():
            return cls()
        try:
            return cls.model_validate_json(path.read_bytes())
        except ValidationError as error:
            raise InputError(
                f"data_dir: {path} is not what prefetch writes ({first_line(error)}); remove it, and what is there is "
                "compared with the hub again"
            ) from error

    def write(self, folder: Path) -> None:
        with atomic_file(folder / MANIFEST) as path:
            path.write_text(json.dumps(self.model_dump(), indent=1, sort_keys=True), encoding="utf-8")


@dataclass(frozen=True)
class _HubFile:
    """A file of a dataset, as the hub lists it: large ones by SHA-256, the others by git's hash."""

    path: str
    size: int
    sha256: str | None
    blob_id: str | None

    def is_at(self, path: Path) -> bool:
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        if self.sha256 is not None:
            return file_sha256(path) == self.sha256
        blob = hashlib.sha1(f"blob {self.size}\0".encode() + path.read_bytes(), usedforsecurity=False)
        return blob.hexdigest() == self.blob_id


@dataclass
class _Plan:
    """What there is to do for a dataset."""

    files: list[_HubFile]
    missing: list[_HubFile]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.missing)


def prefetch(
    tasks: Iterable[AbsTask], data_dir: str | Path, *, endpoint: str | None = None, show_progress: bool = True
) -> None:
    """Fetches the datasets of tasks into FOLDER/<org>/<name>, and notes size and SHA-256 of every file.

    Files appear whole. Killed at any moment, the next run goes on with the files that are missing; for a dataset that
    is finished the hub is not asked again, but its files are read: one that is no longer what it was is named, and
    fetched again. A dataset that fails is logged with its reason and does not stop the others.

    Args:
        tasks: Those that make their own data need nothing.
        data_dir: The folder; made if need be.
        endpoint: Address of the hub; None: the one that the hub's client knows (`HF_ENDPOINT`).
        show_progress: A bar with an ETA on stderr.

    Raises:
        InputError: (a ValueError) the folder cannot be used, or HF_HUB_OFFLINE forbids to ask a hub that is needed.
        DatasetsFailed: (a RuntimeError) once all other datasets are there.
    """
    folder = Path(data_dir).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"data_dir: the folder {str(data_dir)!r} cannot be made: {first_line(error)}") from error
    manifest = _Manifest.read(folder)
    failures: dict[str, Exception] = {}
    revisions = _revisions(tasks)
    unfinished = {}
    for name, asked in revisions.items():
        with _told(name, failures):
            revision = _only(asked)
            if not _is_finished(folder / name, manifest.datasets.get(name), revision):
                unfinished[name] = revision
    offline = [name for name in _OFFLINE if os.environ.get(name, "").upper() in ENV_VARS_TRUE_VALUES]
    if unfinished and offline:
        raise InputError(f"the hub is needed to fetch {', '.join(unfinished)}, but {' and '.join(offline)} is set")
    api = HfApi(endpoint=endpoint)
    if unfinished:
        logger.info("asking %s for the files of %d datasets", api.endpoint, len(unfinished))
    with quiet_transformers():
        plans = {}
        for name, revision in unfinished.items():
            with _told(name, failures):
                plans[name] = _plan(api, name, revision, folder / name)
        size = sum(plan.size for plan in plans.values())
        if plans:
            free = decimal(shutil.disk_usage(folder).free)
            logger.info("%s of %d datasets to fetch into %s (%s are free)", decimal(size), len(plans), folder, free)
        with progress(size, "prefetch", "B", show_progress and bool(plans)) as bar:
            for name, plan in plans.items():
                bar.set_description(name)
                with _told(name, failures):
                    _fetch(api, name, unfinished[name], plan, folder / name, bar)
                    files = {
                        file.path: _FetchedFile(
                            size=file.size, sha256=file.sha256 or file_sha256(folder / name / file.path)
                        )
                        for file in plan.files
                    }
                    manifest.datasets[name] = _Fetched(revision=unfinished[name], files=files)
                    manifest.write(folder)
    if failures:
        raise DatasetsFailed(failures, len(revisions))
    logger.info("%d datasets are in %s", len(revisions), folder)


def check(tasks: Iterable[AbsTask], data_dir: str | Path) -> None:
    """Compares the datasets of tasks with what was noted when they were fetched. No hub is asked.

    Raises:
        InputError: (a ValueError) there is no such folder.
        DatasetsFailed: (a RuntimeError) a dataset was never fetched, or files of it are missing or damaged, or others
            are among them; each was logged with its reason.
    """
    folder = check_data_dir(data_dir)
    manifest = _Manifest.read(folder)
    failures: dict[str, Exception] = {}
    revisions = _revisions(tasks)
    for name, asked in revisions.items():
        with _told(name, failures):
            revision = _only(asked)
            fetched = manifest.datasets.get(name)
            if fetched is None:
                raise InputError(f"it was not fetched whole: {folder / MANIFEST} does not name it")
            if fetched.revision != revision:
                raise InputError(f"{str(folder / name)!r} holds revision {fetched.revision}, expected {revision}")
            _check_strangers(folder / name, fetched.files, revision)
            if spoilt := _spoilt(folder / name, fetched):
                raise InputError(", ".join(f"{path} is {what}" for path, what in spoilt.items()))
    if failures:
        raise DatasetsFailed(failures, len(revisions))
    logger.info("%d datasets in %s are as they were fetched", len(revisions), folder)


def _revisions(tasks: Iterable[AbsTask]) -> dict[str, dict[str, list[str]]]:
    """The revisions that are asked for of each dataset, and by which tasks."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for task in tasks:
        if not isinstance(task, STARTER_TASKS):
            found[task.metadata.dataset["path"]][task.metadata.revision].append(task.metadata.name)
    return found


def _only(asked: dict[str, list[str]]) -> str:
    if len(asked) > 1:
        said = ", ".join(f"{revision} for {' and '.join(tasks)}" for revision, tasks in asked.items())
        raise InputError(f"a folder holds one revision of a dataset, and several are asked for: {said}")
    return next(iter(asked))


def _is_finished(folder: Path, fetched: _Fetched | None, revision: str) -> bool:
    if fetched is None or not folder.is_dir():
        return False
    if fetched.revision != revision:
        raise InputError(
            f"{str(folder)!r} holds revision {fetched.revision}, expected {revision}; remove it, "
            "or take another data_dir"
        )
    _check_strangers(folder, fetched.files, revision)
    return not _spoilt(folder, fetched)


def _spoilt(folder: Path, fetched: _Fetched) -> dict[str, str]:
    spoilt = {}
    for name, file in fetched.files.items():
        path = folder / name
        if not path.is_file():
            spoilt[name] = "missing"
        elif path.stat().st_size != file.size or file_sha256(path) != file.sha256:
            spoilt[name] = "damaged"
    return spoilt


def _check_strangers(folder: Path, known: Iterable[str], revision: str) -> None:
    """A file that is not the dataset's would be read as a part of it."""
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if strange := sorted(name for name in there - set(known) if not _is_hidden(name)):
        raise InputError(f"{str(folder)!r} holds {', '.join(strange)}, not of revision {revision}; remove what is not")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _plan(api: HfApi, name: str, revision: str, folder: Path) -> _Plan:
    info = api.dataset_info(name, revision=revision, files_metadata=True)
    files = [
        _HubFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None, file.blob_id)
        for file in info.siblings or []
        if not _is_hidden(file.rfilename)
    ]
    _check_strangers(folder, {file.path for file in files}, revision)
    missing = [file for file in files if not file.is_at(folder / file.path)]
    for file in missing:
        if (folder / file.path).exists():
            logger.warning("%s: %s is not what the hub has, it is fetched again", name, file.path)
    return _Plan(files, missing)


def _fetch(api: HfApi, name: str, revision: str, plan: _Plan, folder: Path, bar: "tqdm[Any]") -> None:
    existing = next(place for place in (folder, *folder.parents) if place.is_dir())
    free = shutil.disk_usage(existing).free
    if plan.size > free:
        raise InputError(f"{decimal(plan.size)} are to be fetched, and {decimal(free)} are free in {str(existing)!r}")

    class _Counted(hub_tqdm):  # type: ignore[misc]
        """The hub's client makes one a file; what it counts is shown by the bar of all files."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            bar.update(n)

        def update_transfer(self, n: float | None = 1) -> None:
            """Bytes on the wire, which it counts beside those of the file."""

        def set_transfer_postfix_str(self, postfix: str, refresh: bool = False) -> None:
            """Their speed."""

    def fetch(file: _HubFile) -> None:
        (folder / file.path).unlink(missing_ok=True)
        api.hf_hub_download(
            name,
            file.path,
            repo_type="dataset",
            revision=revision,
            local_dir=folder,
            cache_dir=folder / ".cache",  # nothing of what was cached elsewhere
            tqdm_class=_Counted,
        )
        if not file.is_at(folder / file.path):
            (folder / file.path).unlink()
            raise InputError(f"{file.path} came otherwise than the hub lists it (size or SHA-256)")

    pool = ThreadPoolExecutor(_WORKERS)
    try:
        for done in as_completed([pool.submit(fetch, file) for file in plan.missing]):
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)
    # The client's notes, and what it left of files when it was killed.
    shutil.rmtree(folder / ".cache", ignore_errors=True)


@contextmanager
def _told(name: str, failures: dict[str, Exception]) -> Iterator[None]:
    """Notes and logs, in one line, why a dataset fails."""
    try:
        yield
    except Exception as error:
        failures[name] = error
        logger.error("%s failed: %s", name, _reason(error))
        logger.debug("%s failed", name, exc_info=error)


def _reason(error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return "the hub gives it only to those who asked for access and are logged in"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such dataset, or keeps it private"
    if isinstance(error, RevisionNotFoundError):
        return "the hub does not have the revision that is asked for"
    if isinstance(error, InputError | OSError) and not isinstance(error, HfHubHTTPError):
        return first_line(error)
    return f"the hub was not reached, or failed: {type(error).__name__}: {first_line(error)}"
