"""The data of a task during a sweep: found, loaded once, checked, kept between plan and run, and released.

Folders of datasets are read by `mirror`.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

from datasets.exceptions import DatasetGenerationError
from mteb.abstasks.abstask import AbsTask

from leaderboard.tasks.limit import limit_task
from leaderboard.tasks.mirror import dataset_folder, folder_sha256, reading_from
from leaderboard.tasks.spill import spill, unspill
from midlayer_embed.errors import InputError, first_line


class TaskData:
    """The data of one task.

    Args:
        task: The task. If it is loaded already, its data are neither changed nor released.
        limit: Items to keep of each evaluated split; None for all.
        seed: Seed of the choice of these items.

    Attributes:
        files_sha256: Hash of the files that the data were read from; None if they were not read from a folder.
    """

    def __init__(self, task: AbsTask, *, limit: int | None, seed: int) -> None:
        self.files_sha256: str | None = None
        self._task = task
        self._limit = limit
        self._seed = seed
        self._folder: Path | None = None
        self._was_loaded = bool(task.data_loaded)
        if self._was_loaded and limit is not None:
            raise InputError(
                f"limit: the data of {task.metadata.name} are loaded already and would be changed; expected a task "
                "without data"
            )
        self._before = dict(vars(task))
        self._kept: dict[str, Any] | None = None

    def find(self, data_dir: Path | None) -> None:
        """Locates the data without loading them.

        Args:
            data_dir: The folder of datasets; None for the Hub, which is not contacted yet.

        Raises:
            InputError: (a ValueError) the data are not in the folder.
        """
        if data_dir is not None and not self._was_loaded:
            self._folder = dataset_folder(data_dir, self._task)

    def sha256_of_files(self, data_dir: Path | None) -> str | None:
        """Hash of the files that the data would be read from now; None if there are none, or no folder is read."""
        if data_dir is None or self._was_loaded:
            return None
        try:
            folder = dataset_folder(data_dir, self._task)
        except InputError:  # reported by `find`, if the data are needed
            return None
        if folder is not None and self.files_sha256 is None:
            self.files_sha256 = folder_sha256(folder)
        return self.files_sha256

    @contextmanager
    def loaded(self, keep_in: Path | None = None) -> Iterator[None]:
        """Inside the block, the task is loaded. Afterwards it is as before.

        Args:
            keep_in: Existing folder to keep the data in until the next `loaded`, which then does not load them again.
                They take little memory there, see `leaderboard.tasks.spill`. None: the data are released.

        Raises:
            InputError: (a ValueError) the data cannot be loaded, or lack an evaluated split.
        """
        if self._was_loaded:
            yield
            return
        try:
            if self._kept is None:
                self._load()
            else:
                vars(self._task).update({**self._kept, "dataset": unspill(self._kept["dataset"])})
                self._kept = None
            yield
            if keep_in is not None:
                self._kept = {**vars(self._task), "dataset": spill(self._task.dataset, keep_in)}
        finally:
            if self._task.data_loaded:
                self._task.unload_data()
            # Loading, cutting, evaluating and unloading change other attributes, too.
            vars(self._task).clear()
            vars(self._task).update(self._before)

    def _load(self) -> None:
        where = "here" if self._folder is None else f"from {str(self._folder)!r}"
        try:
            with nullcontext() if self._folder is None else reading_from(self._folder, self._task):
                self._task.load_data()
        except Exception as error:  # many types are possible; the reason of a DatasetGenerationError is its cause
            known = isinstance(error, DatasetGenerationError) and isinstance(error.__cause__, Exception)
            reason = first_line(cast(Exception, error.__cause__) if known else error)
            raise InputError(f"its data cannot be loaded {where}: {reason}") from error
        self._check_splits(where)
        if self._folder is not None and self.files_sha256 is None:
            self.files_sha256 = folder_sha256(self._folder)
        if self._limit is not None:
            limit_task(self._task, self._limit, self._seed)

    def _check_splits(self, where: str) -> None:
        if type(self._task).evaluate is not AbsTask.evaluate:  # such tasks may keep their data in another layout
            return
        data: Any = self._task.dataset
        for subset in self._task.hf_subsets:
            splits = data if subset == "default" and subset not in data else data.get(subset, {})
            for split in self._task.eval_splits:
                if split not in splits:
                    raise InputError(
                        f"its data, loaded {where}, have no split {split!r} of subset {subset!r}; "
                        f"expected one, got {', '.join(splits) or 'none at all'}"
                    )
