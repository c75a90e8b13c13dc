import mteb.tasks
import pytest
from mteb.abstasks.abstask import AbsTask

from leaderboard.tasks.images.starter import STARTER_TASKS as STARTER_IMAGE_TASKS
from leaderboard.tasks.names import check_task_names, starter_tasks
from leaderboard.tasks.starter import STARTER_TASKS


def test_every_task_is_known_before_mteb_is_imported() -> None:
    """A name that is refused wrongly could not be run at all."""
    classes = [item for item in vars(mteb.tasks).values() if isinstance(item, type) and issubclass(item, AbsTask)]
    names = [task.metadata.name for task in (*STARTER_TASKS, *STARTER_IMAGE_TASKS, *classes)]
    assert len(names) > 1000
    check_task_names(names)


def test_starter_tasks_are_known_by_benchmark() -> None:
    assert starter_tasks("starter-vision") == tuple(task.metadata.name for task in STARTER_IMAGE_TASKS)
    assert sorted(starter_tasks()) == sorted(task.metadata.name for task in STARTER_TASKS)


@pytest.mark.parametrize(
    ("name", "hint"), [("StarterSTZ", "; did you mean StarterSTS"), ("BIOSSESS", "; did you mean BIOSSES"), ("~", "")]
)
def test_a_name_that_no_task_has_is_refused(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match=f"task: there is no task '{name}'{hint}"):
        check_task_names(["STS17", name])
