"""A task's data for the time of a sweep: found, loaded, checked, and given up again. Where they are is `mirror`'s."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, cast

from datasets.exceptions import DatasetGenerationError
from mteb.abstasks.abstask import AbsTask

from leaderboard.tasks.limit import limit_task
from leaderboard.tasks.mirror import dataset_folder, folder_sha256, reading_from
from midlayer_embed.errors import InputError, first_line


class TaskData:
    """The data of one task.

    Args:
        task: The task. Data that it holds already stay as they are, and stay there.
        limit: Items of each evaluated split that are kept; None for all.
        seed: Chooses them.

    Attributes:
        files_sha256: Of the files that the data were read from, where they are known.
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

    def find(self, data_dir: Path | None) -> None:
        """Looks where the data are, without loading them.

        Args:
            data_dir: The folder of datasets; None for the hub, which is not asked yet.

        Raises:
            InputError: (a ValueError) they are not in the folder.
        """
        if data_dir is not None and not self._was_loaded:
            self._folder = dataset_folder(data_dir, self._task)

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """Within, the task holds its data.

        Raises:
            InputError: (a ValueError) they cannot be loaded, or are not what is evaluated.
        """
        try:
            if not self._was_loaded:
                self._load()
            yield
        finally:
            if not self._was_loaded:
                if self._task.data_loaded:
                    self._task.unload_data()
                # What loading, cutting, evaluating and unloading leave changed.
                vars(self._task).clear()
                vars(self._task).update(self._before)

    def _load(self) -> None:
        where = "here" if self._folder is None else f"from {str(self._folder)!r}"
        try:
            with nullcontext() if self._folder is None else reading_from(self._folder, self._task):
                self._task.load_data()
        except Exception as error:  # of many kinds; this one just says that it failed
            known = isinstance(error, DatasetGenerationError) and isinstance(error.__cause__, Exception)
            reason = first_line(cast(Exception, error.__cause__) if known else error)
            raise InputError(f"its data cannot be loaded {where}: {reason}") from error
        self._check_splits(where)
        if self._folder is not None and self.files_sha256 is None:
            self.files_sha256 = folder_sha256(self._folder)
        if self._limit is not None:
            limit_task(self._task, self._limit, self._seed)

    def _check_splits(self, where: str) -> None:
        if type(self._task).evaluate is not AbsTask.evaluate:  # other kinds of tasks keep their data in other ways
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
