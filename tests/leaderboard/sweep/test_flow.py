"""Each dataset of a sweep is loaded once and searched for texts once, and only one is in memory at a time."""

import gc
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict
from mteb.abstasks.abstask import AbsTask
from support.tiny_tasks import TinySTS, tiny_tasks

from leaderboard import run_sweep
from leaderboard.scoring.texts import TaskTexts, collect_texts
from leaderboard.sweep.plan import Plan, measure_speed
from midlayer_embed import LayerwiseEncoder
from midlayer_embed.texts.tokens import token_counts

Tasks = Callable[[], list[AbsTask]]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], dict[str, int]]:
    """Counts how often each tiny task's data were made since the test began."""
    kinds = [type(task) for task in tiny_tasks()]
    for kind in kinds:
        monkeypatch.setattr(kind, "loads", 0)
    return lambda: {kind.__name__: kind.loads for kind in kinds}


@pytest.fixture
def listened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts how often the texts of each task were collected."""
    found: Counter[str] = Counter()

    def counted(task: AbsTask, *rest: Any) -> TaskTexts:
        found[task.metadata.name] += 1
        return collect_texts(task, *rest)

    monkeypatch.setattr("leaderboard.sweep.task.collect_texts", counted)
    return found


@pytest.mark.parametrize("options", [{}, {"limit": 20}, {"store_budget": "12KB"}], ids=["whole", "limit", "groups"])
def test_each_dataset_is_loaded_and_listened_to_once(
    llama_folder: Path,
    tmp_path: Path,
    loads: Callable[[], dict[str, int]],
    listened: Counter[str],
    options: dict[str, Any],
) -> None:
    plans: list[Plan] = []
    tasks = tiny_tasks()
    board = run_sweep(
        llama_folder,
        tasks,
        tmp_path,
        metrics=["dataset_entropy", "infonce"],
        metric_texts=10,
        layers=[0, -1],
        show_progress=False,
        on_plan=lambda plan: plans.append(plan) is None,
        **options,
    )
    names = [task.metadata.name for task in tasks]
    assert [plan.task for plan in plans[0].tasks] == names  # the whole plan, before any task is run
    assert (max(len(plan.groups) for plan in plans[0].tasks) > 1) == ("store_budget" in options)
    assert loads() == dict.fromkeys(names, 1)
    assert listened == dict.fromkeys(names, 1)
    assert board.scores.height == 6 * 2
    assert not any(task.data_loaded for task in tasks)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_task_that_is_loaded_already_keeps_its_data(
    llama_folder: Path, tmp_path: Path, listened: Counter[str]
) -> None:
    task = TinySTS()
    task.load_data()
    data = task.dataset
    run_sweep(llama_folder, task, tmp_path, metrics="none", show_progress=False)
    assert task.data_loaded and task.dataset is data
    assert listened == {"TinySTS": 1}


def test_a_plan_that_is_refused_leaves_neither_data_nor_files(
    llama_folder: Path, tmp_path: Path, loads: Callable[[], dict[str, int]]
) -> None:
    tasks = tiny_tasks()
    run_sweep(llama_folder, tasks, tmp_path / "a" / "b", show_progress=False, on_plan=lambda _: False)
    assert set(loads().values()) == {1}
    assert not any(task.data_loaded for task in tasks)
    assert list(tmp_path.iterdir()) == []


def test_data_of_one_task_at_a_time_are_in_memory(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(self: Any) -> DatasetDict:
        columns = {"sentence1": ["a b"] * 40, "sentence2": ["c d"] * 40, "score": [float(n) for n in range(40)]}
        return DatasetDict({"test": Dataset.from_dict({**columns, "unused": ["x" * 100_000] * 40})})

    in_memory: list[int] = []

    def note(*_: Any) -> bool:
        gc.collect()
        in_memory.append(pa.total_allocated_bytes() - before)
        return True

    monkeypatch.setattr(TinySTS, "make", make)
    metadata = TinySTS.metadata
    tasks = [
        type(f"Large{n}", (TinySTS,), {"metadata": metadata.model_copy(update={"name": f"Large{n}"})})()
        for n in range(4)
    ]
    for task in tasks:
        listen = type(task).evaluate

        def noted(self: Any, *args: Any, listen: Any = listen, **kwargs: Any) -> Any:
            note()
            return listen(self, *args, **kwargs)

        monkeypatch.setattr(type(task), "evaluate", noted)
    gc.collect()
    before = pa.total_allocated_bytes()
    planned: list[int] = []
    run_sweep(
        llama_folder,
        tasks,
        tmp_path,
        layers=[1],
        metrics="none",
        show_progress=False,
        on_plan=lambda _: note() and planned.append(in_memory[-1]) is None,
    )
    one = 40 * 100_000
    assert len(in_memory) == 4 + 1 + 4  # listening, the plan, scoring
    assert in_memory[0] > 0.9 * one  # what is counted is the data
    assert max(in_memory) < 2 * one
    assert planned[0] < 0.1 * one


def test_data_that_are_kept_go_when_their_task_is_finished(
    llama_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    remove = shutil.rmtree

    def watched(path: Any, *args: Any, **kwargs: Any) -> None:
        remove(path, *args, **kwargs)
        if Path(path).name.startswith("task-"):
            kept.append(sum(path.name.startswith("task-") for path in tmp_path.rglob("task-*")))

    monkeypatch.setattr(shutil, "rmtree", watched)
    run_sweep(llama_folder, tiny_tasks()[:3], tmp_path, layers=[1], metrics="none", show_progress=False)
    assert kept == [2, 1, 0]


@pytest.mark.parametrize("seconds", [10, 0.01])
def test_the_speed_is_measured_on_few_texts_unless_they_take_no_time(
    llama: LayerwiseEncoder, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"the {number}th of some texts" for number in range(100)]
    encoded, now = [], [0.0]

    def encode(some: list[str], *_: Any, **__: Any) -> list[Any]:
        encoded.append(len(some))
        now[0] += seconds * len(some)
        return []

    of_llama = {"backbone": llama.backbone, "inputs": llama.inputs, "layers": llama.layers, "final_norm": True}
    encoder: Any = SimpleNamespace(**of_llama, pooled_batches=encode)
    monkeypatch.setattr("leaderboard.sweep.plan.time", SimpleNamespace(perf_counter=lambda: now[0]))
    speed = measure_speed(encoder, texts)
    timed = encoded[-1]
    assert encoded == ([4, 8] if seconds == 10 else [4, 8, 32, 100])
    counts = token_counts(llama.backbone.tokenizer, texts[:timed], llama.backbone.truncate_to)
    assert speed == pytest.approx(counts.sum() / (seconds * timed))
