"""Scores as mteb's own: every kind of task, made here, starter, and real data, on the same vectors."""

from functools import partial
from pathlib import Path
from typing import Any

import mteb
import mteb._create_dataloaders
import mteb.abstasks.clustering_legacy
import mteb.abstasks.pair_classification
import numpy as np
import pytest
import sklearn
from datasets import Dataset, DatasetDict
from hypothesis import given, settings
from hypothesis import strategies as st
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from support.scoring import VectorsOfWords, assert_same, assert_scored_as_by_mteb
from support.tiny_tasks import TinySTS, tiny_tasks
from threadpoolctl import threadpool_info, threadpool_limits

from leaderboard.scoring.classification import best_accuracy, best_f1, classification_metrics
from leaderboard.scoring.columns import Columns
from leaderboard.scoring.score import prepared, score
from leaderboard.tasks.benchmarks import get_task
from leaderboard.tasks.mirror import dataset_folder, reading_from
from leaderboard.tasks.starter import STARTER_TASKS
from midlayer_embed.errors import InputError

pytestmark = pytest.mark.usefixtures("quiet_libraries")

_MAKERS = (mteb._create_dataloaders, mteb.abstasks.clustering_legacy, mteb.abstasks.pair_classification)


def load_real(mteb_mirror: Path, name: str) -> AbsTask:
    task = get_task(name)
    folder = dataset_folder(mteb_mirror, task)
    assert folder is not None
    with reading_from(folder, task):
        task.load_data()
    return task


def test_tiny_tasks_of_every_kind_score_as_by_mteb() -> None:
    for task in tiny_tasks():
        task.load_data()
        assert_scored_as_by_mteb(task)


@pytest.mark.parametrize("kind", STARTER_TASKS, ids=lambda kind: kind.metadata.name)
def test_starter_tasks_score_as_by_mteb(kind: type[AbsTask]) -> None:
    task = kind()
    task.load_data()
    assert_scored_as_by_mteb(task)


@pytest.mark.parametrize("name", ["STSBenchmark", "STS17", "BIOSSES"])
@pytest.mark.real
def test_real_sts_scores_as_by_mteb(mteb_mirror: Path, name: str) -> None:
    assert_scored_as_by_mteb(load_real(mteb_mirror, name))


@pytest.mark.real
def test_real_classification_with_string_labels_scores_as_by_mteb(mteb_mirror: Path) -> None:
    task = load_real(mteb_mirror, "MassiveIntentClassification")
    assert task.dataset is not None
    task.dataset["en"] = DatasetDict(
        {split: data.select(range(0, len(data), 80)) for split, data in task.dataset["en"].items()}
    )
    assert_scored_as_by_mteb(task)


@pytest.mark.real
def test_real_binary_classification_scores_as_by_mteb(mteb_mirror: Path) -> None:
    task = load_real(mteb_mirror, "AmazonCounterfactualClassification")
    assert task.dataset is not None
    for split, n_rows in {"train": 400, "test": 40}.items():
        task.dataset["en"][split] = task.dataset["en"][split].select(range(n_rows))
    assert_scored_as_by_mteb(task)


@pytest.mark.real
def test_real_clustering_scores_as_by_mteb(mteb_mirror: Path) -> None:
    task = load_real(mteb_mirror, "TwentyNewsgroupsClustering")
    data: Any = task.dataset
    rows = [{name: values[:600] for name, values in row.items()} for row in data["test"].select(range(2))]
    data["test"] = Dataset.from_list(rows)
    assert_scored_as_by_mteb(task)


@pytest.mark.real
def test_real_pair_classification_scores_as_by_mteb(mteb_mirror: Path) -> None:
    task = load_real(mteb_mirror, "TwitterURLCorpus")
    data: Any = task.dataset
    data["test"] = data["test"].select(range(1000))
    assert_scored_as_by_mteb(task)


def test_pairs_in_blocks_of_distinct_texts_score_as_by_mteb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("leaderboard.scoring.pairs._BLOCK_PAIRS", 7)
    task = next(task for task in tiny_tasks() if isinstance(task, AbsTaskPairClassification))
    task.load_data()
    data: Any = task.dataset
    columns = {name: values * 2 for name, values in data["test"].to_dict().items()}
    data["test"] = Dataset.from_dict({**columns, "labels": [*columns["labels"][1:], 1]})
    model = VectorsOfWords()
    with prepared(task):
        score(task, model)
    assert model.n_encoded == [len(columns["sentence1"]) // 2] * 2
    assert_scored_as_by_mteb(task)


def test_pairs_in_a_single_row_score_as_by_mteb() -> None:
    task = next(task for task in tiny_tasks() if isinstance(task, AbsTaskPairClassification))
    task.load_data()
    data: Any = task.dataset
    data["test"] = Dataset.from_list([{name: data["test"][name][:] for name in data["test"].column_names}])
    assert_scored_as_by_mteb(task)


def test_cross_validated_classification_scores_as_by_mteb() -> None:
    task = next(task for task in tiny_tasks() if isinstance(task, AbsTaskClassification))
    task.load_data()
    task.is_cross_validation, task.train_split = True, "test"
    assert_scored_as_by_mteb(task)


def test_everything_is_restored() -> None:
    makers = [vars(module)["Dataset"] for module in _MAKERS]
    for task in tiny_tasks():
        task.load_data()
        before, dataset = dict(vars(task)), task.dataset
        with prepared(task):
            assert task.dataset is not dataset
            assert [vars(module)["Dataset"] for module in _MAKERS] == [Columns] * len(_MAKERS)
        with pytest.raises(RuntimeError, match="stop"), prepared(task):
            raise RuntimeError("stop")
        assert list(vars(task)) == list(before)
        assert all(vars(task)[name] is value for name, value in before.items())
        assert [vars(module)["Dataset"] for module in _MAKERS] == makers
        assert not sklearn.get_config()["skip_parameter_validation"]


def test_columns_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read = Dataset.__getitem__

    def watched(self: Dataset, key: Any) -> Any:
        reads.append(str(key))
        return read(self, key)

    monkeypatch.setattr(Dataset, "__getitem__", watched)
    for task in tiny_tasks():
        task.load_data()
        with prepared(task):
            score(task, VectorsOfWords(0))
            reads.clear()
            score(task, VectorsOfWords(1))
        assert len(reads) <= 4, (task.metadata.name, reads)  # the rows of a classification's drawn texts


def test_a_task_that_evaluates_in_its_own_way_is_left_alone() -> None:
    class Own(TinySTS):  # type: ignore[misc, valid-type]
        def _evaluate_subset(self, model: Any, data_split: Any, **kwargs: Any) -> Any:
            assert isinstance(data_split, Dataset)
            return {"cosine_spearman": 0.5}

    task = Own()
    task.load_data()
    dataset = task.dataset
    with prepared(task):
        assert task.dataset is dataset
        assert score(task, VectorsOfWords()).get_score() == 0.5


def test_a_task_with_any_method_of_its_own_is_left_alone() -> None:
    class Halved(TinySTS):  # type: ignore[misc, valid-type]
        def _normalize(self, x: float) -> float:
            return x / 2

    patched = TinySTS()
    patched.evaluate = patched.evaluate  # type: ignore[method-assign]
    for task in (Halved(), patched):
        task.load_data()
        dataset = task.dataset
        with prepared(task):
            assert task.dataset is dataset


def test_preparing_twice_does_no_harm() -> None:
    for task in tiny_tasks():
        task.load_data()
        dataset = task.dataset
        with prepared(task):
            held, makers = task.dataset, [vars(module)["Dataset"] for module in _MAKERS]
            expected = score(task, VectorsOfWords()).scores
            with prepared(task):
                assert_same(score(task, VectorsOfWords()).scores, expected)
            assert task.dataset is held
            assert [vars(module)["Dataset"] for module in _MAKERS] == makers == [Columns] * len(_MAKERS)
        assert task.dataset is dataset


def test_a_column_that_is_missing_is_told_of() -> None:
    task = TinySTS()
    task.load_data()
    data: Any = task.dataset
    data["test"] = data["test"].rename_column("score", "points")
    with (
        prepared(task),
        pytest.raises(InputError, match="dataset: expected a column 'score', got sentence1"),
    ):
        score(task, VectorsOfWords())


def test_only_encoding_has_all_threads() -> None:
    task = TinySTS()
    task.load_data()
    model = VectorsOfWords()
    similarity_threads: list[int] = []
    similarity = model.similarity_pairwise

    def watched(*args: Any) -> Any:
        similarity_threads.extend(pool["num_threads"] for pool in threadpool_info())
        return similarity(*args)

    model.similarity_pairwise = watched  # type: ignore[method-assign, assignment]
    with threadpool_limits(2):
        score(task, model)
        assert {pool["num_threads"] for pool in threadpool_info()} == {2}
    assert set(model.threads) == {2}
    assert set(similarity_threads) == {1}
    assert "encode" not in vars(model)


_SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]) | st.floats(-1, 1)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(_SCORES, st.integers(0, 1)), min_size=1, max_size=40), st.booleans())
def test_best_thresholds_as_by_mteb(rows: list[tuple[float, int]], high: bool) -> None:
    scores, labels = [row[0] for row in rows], np.array([row[1] for row in rows])
    kind: Any = AbsTaskPairClassification
    assert best_accuracy(scores, labels, high) == kind._find_best_acc_and_threshold(None, scores, labels, high)
    assert best_f1(scores, labels, high) == kind._find_best_f1_and_threshold(None, scores, labels, high)


@settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40), n_classes=st.integers(1, 5)
)
def test_classification_metrics_as_by_mteb(rows: list[tuple[int, int]], n_classes: int) -> None:
    truth, predicted = (np.array([row[side] % n_classes for row in rows]) for side in (0, 1))
    kind: Any = AbsTaskClassification
    two_without_1 = len(set(truth.tolist())) == 2 and 1 not in truth
    if two_without_1:  # sklearn refuses them
        for calculate in (partial(kind._calculate_scores, None), classification_metrics):
            with pytest.raises(ValueError, match="pos_label=1 is not a valid label"):
                calculate(truth, predicted)
    else:
        expected = kind._calculate_scores(None, truth, predicted)
        assert_same(dict(classification_metrics(truth, predicted)), dict(expected))
