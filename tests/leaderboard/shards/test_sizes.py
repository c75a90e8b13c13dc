"""The sizes of tasks and models are known without data and weights."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mteb
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig

from leaderboard.scoring.score import prepared
from leaderboard.scoring.texts import collect_texts
from leaderboard.shards.sizes import Inputs, ModelSize, TaskSizes, task_sizes
from leaderboard.tasks.benchmarks import get_benchmark, get_task, resolve_tasks
from leaderboard.tasks.data import TaskData


def sizes_of(name: str) -> TaskSizes:
    return task_sizes(get_task(name))


def stand_in(statistics: Any, splits: tuple[str, ...] = ("test",), kind: str = "STS") -> Any:
    metadata = SimpleNamespace(type=kind, descriptive_stats=statistics)
    return SimpleNamespace(metadata=metadata, hf_subsets=["default"], eval_splits=list(splits), modalities=["text"])


# --- Sizes of tasks


def test_no_data_are_loaded() -> None:
    task = get_task("STSBenchmark")
    task_sizes(task)
    assert not task.data_loaded


def test_all_of_the_paper_s_tasks_have_statistics() -> None:
    for task in get_benchmark("paper").tasks:
        sizes = task_sizes(task)
        assert 100 <= sizes.evaluated.number <= 700_000, task.metadata.name
        assert 8 <= sizes.evaluated.tokens() / sizes.evaluated.number <= 70, task.metadata.name


def test_texts_are_counted_once_however_often_they_are_scored() -> None:
    sizes = sizes_of("MindSmallReranking")  # 162 million characters in its queries, most of them repeats
    assert sizes.evaluated.number == 5277 + 37162
    assert sizes.evaluated.letters < 3e6
    assert sizes.items == pytest.approx(2_362_514, rel=1e-6)
    assert sizes.rows == 97_008_807


def test_queries_are_counted_by_their_own_statistics() -> None:
    assert sizes_of("SciDocsRR").items == pytest.approx(3978, abs=0.5)


def test_only_the_evaluated_subset_and_split_count() -> None:
    assert sizes_of("STS17").evaluated.number == 500
    assert task_sizes(mteb.get_task("STS17")).evaluated.number > 5000  # all eleven pairs of languages


def test_splits_and_subsets_add_up() -> None:
    statistics = {"text1_statistics": {"unique_texts": 10, "average_text_length": 5.0}, "num_samples": 10}
    task = stand_in(dict.fromkeys(("validation", "test"), statistics), splits=("validation", "test"))
    both = task_sizes(task)
    assert (both.evaluated.number, both.evaluated.letters, both.items, both.sets) == (20, 100, 20, 2)


def test_subsets_without_statistics_of_their_own_are_those_of_the_whole_task() -> None:
    statistics = {"text1_statistics": {"unique_texts": 10, "average_text_length": 5.0}, "num_samples": 10}
    task = stand_in({"test": statistics})
    task.hf_subsets = ["de", "en"]
    assert task_sizes(task).evaluated.number == 10


def test_splits_without_statistics_make_a_task_unknown() -> None:
    statistics = {"text1_statistics": {"unique_texts": 10, "average_text_length": 5.0}, "num_samples": 10}
    assert task_sizes(stand_in({"test": statistics}, splits=("dev",))) == task_sizes(stand_in(None, splits=("dev",)))


def test_classifiers_are_trained_on_some_rows_of_each_label() -> None:
    sizes = sizes_of("Banking77Classification")  # 77 labels, ten draws of eight rows each
    assert 77 * 8 < sizes.others.number < 77 * 8 * 10
    assert sizes.fitted == 10 * 77 * 8 * 77
    assert sizes.classifiers == 10


@pytest.mark.parametrize("limit", [None, 10])
def test_training_texts_are_not_limited(limit: int | None) -> None:
    sizes = sizes_of("Banking77Classification").limited(limit)
    assert sizes.evaluated.number == (3080 if limit is None else pytest.approx(10))
    assert sizes.others.number == pytest.approx(4619, abs=1)


def test_a_corpus_that_is_searched_is_not_limited() -> None:
    whole, limited = sizes_of("SciFact"), sizes_of("SciFact").limited(10)
    assert whole.others == limited.others
    assert limited.evaluated.number == pytest.approx(10)


def test_the_sets_of_a_clustering_are_limited_each() -> None:
    assert sizes_of("RedditClustering").limited(100).items == 2500
    assert sizes_of("RedditClustering.v2").limited(100).items == 100


@given(st.integers(2, 10_000))
def test_a_limit_that_is_larger_than_the_task_changes_nothing(limit: int) -> None:
    sizes = TaskSizes("STS", Inputs(200, 8000), items=100, products=100, rows=100)
    assert (sizes.limited(limit) == sizes) == (limit >= 100)


@pytest.mark.parametrize("name", ["starter", "starter-vision"])
def test_tasks_that_make_their_own_data_are_small(name: str) -> None:
    for task in resolve_tasks(name):
        sizes = task_sizes(task)
        assert 100 <= sizes.evaluated.number + sizes.others.number <= 500, task.metadata.name
        assert not task.data_loaded


def test_a_task_without_statistics_is_about_the_median_of_the_paper_s() -> None:
    unknown = task_sizes(stand_in(None))
    found = sorted(task_sizes(task).evaluated.number for task in get_benchmark("paper").tasks)
    assert found[8] < unknown.evaluated.number < found[24]


@pytest.mark.parametrize(
    "name",
    [
        *("AmazonCounterfactualClassification", "Banking77Classification", "EmotionClassification"),
        *("MassiveIntentClassification", "TwentyNewsgroupsClustering", "TwitterURLCorpus"),
        *("BIOSSES", "STS12", "STS14", "STS15", "STS16", "STS17", "STSBenchmark"),
    ],
)
def test_sizes_are_those_of_the_data(name: str, mteb_mirror: Path, recwarn: pytest.WarningsRecorder) -> None:
    task = next(task for task in get_benchmark("paper").tasks if task.metadata.name == name)
    data = TaskData(task, limit=None, seed=0)
    data.find(mteb_mirror)
    with data.loaded(), prepared(task):
        texts = collect_texts(task)
    sizes = task_sizes(task)
    assert (sizes.evaluated + sizes.others).number == pytest.approx(len(texts.all), rel=0.07)
    assert sizes.evaluated.number == pytest.approx(len(texts.evaluated), rel=0.07)
    letters = sum(len(str(text)) for text in texts.all)
    assert (sizes.evaluated + sizes.others).letters == pytest.approx(letters, rel=0.15)


# --- Sizes of models


@pytest.mark.parametrize(
    ("model_type", "entries", "millions"),
    [  # parameters of the blocks, as transformers builds them
        ("llama", {}, 6476.3),
        ("gpt_neox", {}, 19934.8),
        ("bert", {}, 85.1),
        ("gemma2", {}, 2024.5),
        ("mamba", {}, 120.7),
        ("mixtral", {}, 12617.8),  # two of eight experts
        ("vit", {}, 85.1),
        ("distilbert", {}, 42.5),
    ],
)
def test_parameters_are_estimated_from_the_config(model_type: str, entries: dict[str, Any], millions: float) -> None:
    config = AutoConfig.for_model(model_type, **entries)
    checkpoint: Any = SimpleNamespace(config=config, n_blocks=config.num_hidden_layers)
    size = ModelSize.of(checkpoint)
    assert size.n_active == pytest.approx(1e6 * millions, rel=0.07)
    assert (size.n_blocks, size.width) == (config.num_hidden_layers, config.hidden_size)


def test_a_config_that_says_little_has_a_size() -> None:
    config = SimpleNamespace(hidden_size=64)
    config.get_text_config = lambda: config
    checkpoint: Any = SimpleNamespace(config=config, n_blocks=2)
    assert ModelSize.of(checkpoint).n_active == 2 * 12 * 64 * 64


# --- Sizes of inputs


def test_templates_add_their_own_tokens() -> None:
    texts = Inputs(100, 5000)
    assert texts.tokens("echo") > 2 * texts.tokens() - 150
    assert texts.tokens() < texts.tokens("eol") < texts.tokens("echo")
    assert texts.tokens("query: {text}") == pytest.approx(texts.tokens() + 100 * 7 / 4.6)


def test_long_texts_are_cut() -> None:
    assert Inputs(10, 1e6).tokens() == 10 * 512
    assert Inputs(10, 1e6).tokens(most=256) == 10 * 256
