"""Downloads the datasets of tasks and corpora into a folder, each in its pinned revision, and verifies them.

`mirror`, and `midlayer_embed.texts.dataset_folder`, read such a folder on a machine without access to the hub. Does not
load the data.
"""

import hashlib
import json
import logging
import os
import shutil
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import HfApi
from huggingface_hub.constants import ENV_VARS_TRUE_VALUES
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from huggingface_hub.utils.tqdm import tqdm as hub_tqdm
from pydantic import BaseModel, ValidationError
from rich.filesize import decimal
from tqdm.auto import tqdm

from leaderboard.tasks.names import check_corpora, check_data_dir
from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.failures import report_failures
from midlayer_embed.ground.paths import followed, user_path
from midlayer_embed.ground.progress import progress
from midlayer_embed.ground.quiet import quiet_transformers
from midlayer_embed.ground.whole_files import file_sha256
from midlayer_embed.texts.names import ON_HUB

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

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
    """A dataset that was downloaded completely: all of its files, or those that match patterns."""

    revision: str
    patterns: tuple[str, ...] | None = None
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
class _Wanted:
    """What is wanted of a dataset.

    Attributes:
        asked: The revisions, each with the names of the tasks and corpora that ask for it.
        patterns: Of the files; None for all of them.
    """

    asked: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    patterns: tuple[str, ...] | None = ()

    @property
    def revision(self) -> str:
        """The only revision.

        Raises:
            InputError: (a ValueError) several are asked for.
        """
        if len(self.asked) > 1:
            listed = ", ".join(f"{revision} for {' and '.join(names)}" for revision, names in self.asked.items())
            raise InputError(f"tasks: expected one revision of each dataset in a folder, got {listed}")
        return next(iter(self.asked))

    def is_part_of(self, fetched: _Fetched) -> bool:
        """Whether all that is wanted was downloaded, as far as the names of files tell."""
        if fetched.patterns is None:
            return True
        return self.patterns is not None and set(self.patterns) <= set(fetched.patterns)

    def has(self, path: str) -> bool:
        """Whether a file is wanted; hidden ones are not."""
        if any(part.startswith(".") for part in path.split("/")):
            return False
        return self.patterns is None or any(fnmatchcase(path, pattern) for pattern in self.patterns)


@dataclass
class _Plan:
    """All files of a dataset, and those still to download."""

    files: list[_HubFile]
    missing: list[_HubFile]

    @property
    def size(self) -> int:
        return sum(file.size for file in self.missing)


def prefetch(
    tasks: "Iterable[AbsTask]",
    data_dir: str | Path,
    *,
    corpora: Iterable[str] = (),
    endpoint: str | None = None,
    show_progress: bool = True,
) -> None:
    """Download the datasets of tasks and corpora into FOLDER/<org>/<name>, and record size and SHA-256 of every file.

    Files are moved into place when complete. If a run is killed, the next one downloads only the missing files. For a
    finished dataset the hub is not contacted, but its files are verified: a damaged file is reported and downloaded
    again. Failing datasets are logged with the reason and do not stop the others.

    Args:
        tasks: Tasks whose datasets are downloaded. Tasks that build their own data are skipped.
        data_dir: Target folder; created if missing.
        corpora: Names of corpora: "wikitext". Only those files that are read by default are downloaded.
        endpoint: URL of the hub. None: the default of huggingface_hub (`HF_ENDPOINT`).
        show_progress: Show a progress bar with an ETA on stderr.

    Raises:
        InputError: (a ValueError) an unknown corpus, the folder cannot be used, or the hub is needed but HF_HUB_OFFLINE
            is set.
        DatasetsFailed: (a RuntimeError) if datasets failed; raised after all others are complete.
    """
    folder = followed(user_path(data_dir, "data_dir"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"data_dir: cannot create the folder {str(data_dir)!r}: {first_line(error)}") from error
    manifest = _Manifest.read(folder)
    failures: dict[str, Exception] = {}
    all_wanted = _wanted(tasks, corpora)
    unfinished = {}
    for name, wanted in all_wanted.items():
        with report_failures(name, failures, logger, reason=_reason):
            if not _is_finished(folder / name, manifest.datasets.get(name), wanted):
                unfinished[name] = wanted
    offline = [name for name in _OFFLINE if os.environ.get(name, "").upper() in ENV_VARS_TRUE_VALUES]
    if unfinished and offline:
        raise InputError(f"the hub is needed to fetch {', '.join(unfinished)}, but {' and '.join(offline)} is set")
    api = HfApi(endpoint=endpoint)
    if unfinished:
        logger.info("listing the files of %d datasets at %s", len(unfinished), api.endpoint)
    with quiet_transformers():
        plans = {}
        for name, wanted in unfinished.items():
            with report_failures(name, failures, logger, reason=_reason):
                plans[name] = _plan_downloads(api, name, wanted, folder / name)
        size = sum(plan.size for plan in plans.values())
        if plans:
            free = decimal(shutil.disk_usage(folder).free)
            logger.info("downloading %s of %d datasets into %s (%s free)", decimal(size), len(plans), folder, free)
        with progress(size, "prefetch", "B", show_progress and bool(plans)) as bar:
            for name, plan in plans.items():
                bar.set_description(name)
                with report_failures(name, failures, logger, reason=_reason):
                    wanted = unfinished[name]
                    _fetch(api, name, wanted.revision, plan, folder / name, bar)
                    files = {
                        file.path: _FetchedFile(
                            size=file.size, sha256=file.sha256 or file_sha256(folder / name / file.path)
                        )
                        for file in plan.files
                    }
                    fetched = _Fetched(revision=wanted.revision, patterns=wanted.patterns, files=files)
                    manifest.datasets[name] = fetched
                    manifest.write(folder)
    if failures:
        raise DatasetsFailed(failures, len(all_wanted))
    logger.info("%d datasets are complete in %s", len(all_wanted), folder)


def check(tasks: "Iterable[AbsTask]", data_dir: str | Path, *, corpora: Iterable[str] = ()) -> None:
    """Verify datasets against the sizes and hashes recorded at download, without contacting the hub.

    Args:
        tasks: Tasks whose datasets are verified.
        data_dir: The folder.
        corpora: Names of corpora.

    Raises:
        InputError: (a ValueError) if the folder does not exist.
        DatasetsFailed: (a RuntimeError) if a dataset was not downloaded, or if files are missing, damaged or unknown;
            each failure is logged with its reason.
    """
    folder = check_data_dir(data_dir)
    manifest = _Manifest.read(folder)
    failures: dict[str, Exception] = {}
    all_wanted = _wanted(tasks, corpora)
    for name, wanted in all_wanted.items():
        with report_failures(name, failures, logger, reason=_reason):
            revision = wanted.revision
            fetched = manifest.datasets.get(name)
            if fetched is None or not wanted.is_part_of(fetched):
                raise InputError(f"not downloaded completely: {folder / MANIFEST} does not list it")
            if fetched.revision != revision:
                raise InputError(f"{str(folder / name)!r} holds revision {fetched.revision}, expected {revision}")
            _check_unknown_files(folder / name, fetched.files, wanted)
            if damaged := _find_damaged(folder / name, fetched):
                raise InputError(", ".join(f"{path} is {what}" for path, what in damaged.items()))
    if failures:
        raise DatasetsFailed(failures, len(all_wanted))
    logger.info("%d datasets in %s are verified", len(all_wanted), folder)


def _wanted(tasks: "Iterable[AbsTask]", corpora: Iterable[str]) -> dict[str, _Wanted]:
    """What tasks and corpora need of each dataset, by its name."""
    found: dict[str, _Wanted] = defaultdict(_Wanted)
    for task in tasks:
        if not getattr(task, "makes_its_own_data", False):
            wanted = found[task.metadata.dataset["path"]]
            wanted.asked[task.metadata.revision].append(task.metadata.name)
            wanted.patterns = None
    names = list(dict.fromkeys(corpora))
    check_corpora(names)
    for name in names:
        wanted = found[ON_HUB[name].dataset]
        wanted.asked[ON_HUB[name].revision].append(name)
        if wanted.patterns is not None:
            wanted.patterns += ON_HUB[name].files
    return found


def _is_finished(folder: Path, fetched: _Fetched | None, wanted: _Wanted) -> bool:
    revision = wanted.revision
    if fetched is None or not folder.is_dir():
        return False
    if fetched.revision != revision:
        raise InputError(
            f"{str(folder)!r} holds revision {fetched.revision}, expected {revision}; remove it, "
            "or choose another data_dir"
        )
    if not wanted.is_part_of(fetched):
        return False
    _check_unknown_files(folder, fetched.files, wanted)
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


def _check_unknown_files(folder: Path, known: Iterable[str], wanted: _Wanted) -> None:
    """Reject files that are not part of the dataset: the datasets library would load them with it."""
    existing = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    if unknown := sorted(name for name in existing - set(known) if wanted.has(name)):
        raise InputError(
            f"{str(folder)!r} holds files that are not in revision {wanted.revision}: {', '.join(unknown)}"
        )


def _plan_downloads(api: HfApi, name: str, wanted: _Wanted, folder: Path) -> _Plan:
    info = api.dataset_info(name, revision=wanted.revision, files_metadata=True)
    files = [
        _HubFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None, file.blob_id)
        for file in info.siblings or []
        if wanted.has(file.rfilename)
    ]
    _check_unknown_files(folder, {file.path for file in files}, wanted)
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
