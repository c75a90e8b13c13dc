"""Downloads the datasets of tasks into a folder, each in the revision that the task pins, and verifies them.

`mirror` reads such a folder on a machine without access to the hub. Does not load the data.
"""

import hashlib
import json
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
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

from leaderboard.tasks.names import check_data_dir
from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.failures import report_failures
from midlayer_embed.ground.paths import followed, user_path
from midlayer_embed.ground.progress import progress
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.ground.whole_files import file_sha256

logger = logging.getLogger(__name__)

# Lists the datasets that were downloaded completely; in the root of the folder.
MANIFEST = "prefetched.json"
_OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")
# Parallel downloads: some datasets consist of hundreds of small files.
_WORKERS = 8


class DatasetsFailed(RuntimeError):
    """Some datasets could not be downloaded or failed verification. All others are complete.

    Attributes:
        failures: Error of each failed dataset, by name.
    """

    def __init__(self, failures: dict[str, Exception], n_datasets: int) -> None:
        self.failures = failures
        super().__init__(f"{len(failures)} of {n_datasets} datasets failed: {', '.join(failures)}")


class _FetchedFile(BaseModel):
    size: int
    sha256: str


class _Fetched(BaseModel):
    """A dataset that was downloaded completely."""

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
                f"data_dir: {path} is not a file that prefetch wrote ({first_line(error)}); remove it to compare the "
                "datasets with the hub again"
            ) from error

    def write(self, folder: Path) -> None:
        with atomic_file(folder / MANIFEST) as path:
            path.write_text(json.dumps(self.model_dump(), indent=1, sort_keys=True), encoding="utf-8")


@dataclass(frozen=True)
class _HubFile:
    """A file of a dataset as the hub lists it: large files have a SHA-256, the others a git hash."""

    path: str
    size: int
    sha256: str | None
    blob_id: str | None

    def matches(self, path: Path) -> bool:
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        if self.sha256 is not None:
            return file_sha256(path) == self.sha256
        blob = hashlib.sha1(f"blob {self.size}\0".encode() + path.read_bytes(), usedforsecurity=False)
        return blob.hexdigest() == self.blob_id


@dataclass
class _Plan:
    """All files of a dataset, and those still to download."""

    files: list[_HubFile]
    missing: list[_HubFile]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.missing)


def prefetch(
    tasks: Iterable[AbsTask], data_dir: str | Path, *, endpoint: str | None = None, show_progress: bool = True
) -> None:
    """Download the datasets of tasks into FOLDER/<org>/<name>, and record size and SHA-256 of every file.

    Files are moved into place when complete. If a run is killed, the next one downloads only the missing files. For a
    finished dataset the hub is not contacted, but its files are verified: a damaged file is reported and downloaded
    again. Failing datasets are logged with the reason and do not stop the others.

    Args:
        tasks: Tasks whose datasets are downloaded. Tasks that build their own data are skipped.
        data_dir: Target folder; created if missing.
        endpoint: URL of the hub. None: the default of huggingface_hub (`HF_ENDPOINT`).
        show_progress: Show a progress bar with an ETA on stderr.

    Raises:
        InputError: (a ValueError) if the folder cannot be used, or if the hub is needed but HF_HUB_OFFLINE is set.
        DatasetsFailed: (a RuntimeError) if datasets failed; raised after all others are complete.
    """
    folder = followed(user_path(data_dir, "data_dir"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"data_dir: cannot create the folder {str(data_dir)!r}: {first_line(error)}") from error
    manifest = _Manifest.read(folder)
    failures: dict[str, Exception] = {}
    revisions = _revisions(tasks)
    unfinished = {}
    for name, asked in revisions.items():
        with report_failures(name, failures, logger, reason=_reason):
            revision = _single_revision(asked)
            if not _is_finished(folder / name, manifest.datasets.get(name), revision):
                unfinished[name] = revision
    offline = [name for name in _OFFLINE if os.environ.get(name, "").upper() in ENV_VARS_TRUE_VALUES]
    if unfinished and offline:
        raise InputError(f"the hub is needed to fetch {', '.join(unfinished)}, but {' and '.join(offline)} is set")
    api = HfApi(endpoint=endpoint)
    if unfinished:
        logger.info("listing the files of %d datasets at %s", len(unfinished), api.endpoint)
    with quiet_transformers():
        plans = {}
        for name, revision in unfinished.items():
            with report_failures(name, failures, logger, reason=_reason):
                plans[name] = _plan_downloads(api, name, revision, folder / name)
        size = sum(plan.size for plan in plans.values())
        if plans:
            free = decimal(shutil.disk_usage(folder).free)
            logger.info("downloading %s of %d datasets into %s (%s free)", decimal(size), len(plans), folder, free)
        with progress(size, "prefetch", "B", show_progress and bool(plans)) as bar:
            for name, plan in plans.items():
                bar.set_description(name)
                with report_failures(name, failures, logger, reason=_reason):
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
    logger.info("%d datasets are complete in %s", len(revisions), folder)


def check(tasks: Iterable[AbsTask], data_dir: str | Path) -> None:
    """Verify the datasets of tasks against the sizes and hashes recorded at download, without contacting the hub.

    Raises:
        InputError: (a ValueError) if the folder does not exist.
        DatasetsFailed: (a RuntimeError) if a dataset was not downloaded, or if files are missing, damaged or unknown;
            each failure is logged with its reason.
    """
    folder = check_data_dir(data_dir)
    manifest = _Manifest.read(folder)
    failures: dict[str, Exception] = {}
    revisions = _revisions(tasks)
    for name, asked in revisions.items():
        with report_failures(name, failures, logger, reason=_reason):
            revision = _single_revision(asked)
            fetched = manifest.datasets.get(name)
            if fetched is None:
                raise InputError(f"not downloaded completely: {folder / MANIFEST} does not list it")
            if fetched.revision != revision:
                raise InputError(f"{str(folder / name)!r} holds revision {fetched.revision}, expected {revision}")
            _check_unknown_files(folder / name, fetched.files, revision)
            if damaged := _find_damaged(folder / name, fetched):
                raise InputError(", ".join(f"{path} is {what}" for path, what in damaged.items()))
    if failures:
        raise DatasetsFailed(failures, len(revisions))
    logger.info("%d datasets in %s are verified", len(revisions), folder)


def _revisions(tasks: Iterable[AbsTask]) -> dict[str, dict[str, list[str]]]:
    """Revisions that the tasks need of each dataset, with the names of the tasks."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for task in tasks:
        if not getattr(task, "makes_its_own_data", False):
            found[task.metadata.dataset["path"]][task.metadata.revision].append(task.metadata.name)
    return found


def _single_revision(asked: dict[str, list[str]]) -> str:
    if len(asked) > 1:
        listed = ", ".join(f"{revision} for {' and '.join(tasks)}" for revision, tasks in asked.items())
        raise InputError(f"tasks: expected one revision of each dataset in a folder, got {listed}")
    return next(iter(asked))


def _is_finished(folder: Path, fetched: _Fetched | None, revision: str) -> bool:
    if fetched is None or not folder.is_dir():
        return False
    if fetched.revision != revision:
        raise InputError(
            f"{str(folder)!r} holds revision {fetched.revision}, expected {revision}; remove it, "
            "or choose another data_dir"
        )
    _check_unknown_files(folder, fetched.files, revision)
    return not _find_damaged(folder, fetched)


def _find_damaged(folder: Path, fetched: _Fetched) -> dict[str, str]:
    """Files that are not intact: "missing" or "damaged", by name."""
    damaged = {}
    for name, file in fetched.files.items():
        path = folder / name
        if not path.is_file():
            damaged[name] = "missing"
        elif path.stat().st_size != file.size or file_sha256(path) != file.sha256:
            damaged[name] = "damaged"
    return damaged


def _check_unknown_files(folder: Path, known: Iterable[str], revision: str) -> None:
    """Reject files that are not part of the dataset: the datasets library would load them with it."""
    existing = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if unknown := sorted(name for name in existing - set(known) if not _is_hidden(name)):
        raise InputError(f"{str(folder)!r} holds files that are not in revision {revision}: {', '.join(unknown)}")


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _plan_downloads(api: HfApi, name: str, revision: str, folder: Path) -> _Plan:
    info = api.dataset_info(name, revision=revision, files_metadata=True)
    files = [
        _HubFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None, file.blob_id)
        for file in info.siblings or []
        if not _is_hidden(file.rfilename)
    ]
    _check_unknown_files(folder, {file.path for file in files}, revision)
    missing = [file for file in files if not file.matches(folder / file.path)]
    for file in missing:
        if (folder / file.path).exists():
            logger.warning("%s: %s differs from the hub's file, downloading it again", name, file.path)
    return _Plan(files, missing)


def _fetch(api: HfApi, name: str, revision: str, plan: _Plan, folder: Path, bar: "tqdm[Any]") -> None:
    existing = next(place for place in (folder, *folder.parents) if place.is_dir())
    free = shutil.disk_usage(existing).free
    if plan.size > free:
        raise InputError(f"no space in {str(existing)!r}: {decimal(plan.size)} needed, {decimal(free)} free")

    class _Counted(hub_tqdm):  # type: ignore[misc]
        """Forwards the counts of the hub client's bars, one per file, to the bar over all files."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            bar.update(n)

        def update_transfer(self, n: float | None = 1) -> None:
            """Ignore bytes on the wire, which the client counts in addition to those of the file."""

        def set_transfer_postfix_str(self, postfix: str, refresh: bool = False) -> None:
            """Ignore the transfer speed."""

    def fetch(file: _HubFile) -> None:
        (folder / file.path).unlink(missing_ok=True)
        api.hf_hub_download(
            name,
            file.path,
            repo_type="dataset",
            revision=revision,
            local_dir=folder,
            cache_dir=folder / ".cache",  # not the user's cache
            tqdm_class=_Counted,
        )
        if not file.matches(folder / file.path):
            (folder / file.path).unlink()
            raise InputError(f"{file.path} does not have the size or hash that the hub lists")

    pool = ThreadPoolExecutor(_WORKERS)
    try:
        for done in as_completed([pool.submit(fetch, file) for file in plan.missing]):
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)
    # The client's metadata, and partial files of killed runs.
    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _reason(error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return "gated dataset: request access on the hub and log in"
    if isinstance(error, RepositoryNotFoundError):
        return "no such dataset on the hub, or it is private"
    if isinstance(error, RevisionNotFoundError):
        return "no such revision on the hub"
    if isinstance(error, InputError | OSError) and not isinstance(error, HfHubHTTPError):
        return first_line(error)
    return f"the hub could not be reached or returned an error: {type(error).__name__}: {first_line(error)}"
