"""Which tasks there are: the paper's, pinned, resolved without a hub."""

from pathlib import Path

import mteb
import pytest
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from support.tiny_tasks import TinySTS, renamed

from leaderboard import PAPER_TASKS, get_benchmark
from leaderboard.config_files import read_config
from leaderboard.tasks.benchmarks import _pinned_task, get_task, n_samples, resolve_tasks
from leaderboard.tasks.names import BENCHMARKS

_VISION = ("vision", "vision-large")
_COUNTS = {"Classification": 10, "Clustering": 6, "PairClassification": 3, "Reranking": 4, "STS": 9}


def test_the_papers_tasks_are_those_of_mteb_of_the_pinned_version() -> None:
    tasks = {task.metadata.name: task for task in get_benchmark("paper").tasks}
    assert tuple(tasks) == PAPER_TASKS
    found = [task.metadata.type for task in tasks.values()]
    assert {kind: found.count(kind) for kind in set(found)} == _COUNTS
    known = {task.metadata.name: task for task in mteb.get_benchmark("MTEB(eng, v1)").tasks}
    for name, task in tasks.items():
        assert type(task) is type(known[name])
        assert list(task.hf_subsets) == list(known[name].hf_subsets)
        assert list(task.eval_splits) == list(known[name].eval_splits) == ["test"]
        assert task is not known[name]
    assert {name: task.hf_subsets for name, task in tasks.items() if task.metadata.is_multilingual} == {
        "AmazonCounterfactualClassification": ["en"],
        "AmazonReviewsClassification": ["en"],
        "MTOPDomainClassification": ["en"],
        "MTOPIntentClassification": ["en"],
        "MassiveIntentClassification": ["en"],
        "MassiveScenarioClassification": ["en"],
        "STS17": ["en-en"],
    }


def test_the_fast_benchmark_is_the_papers_with_the_clustering_tasks_that_supersede_its_own() -> None:
    tasks = {task.metadata.name: task for task in get_benchmark("paper-fast").tasks}
    expected = [mteb.get_task(name).metadata for name in PAPER_TASKS]
    assert list(tasks) == [m.superseded_by if m.type == "Clustering" else m.name for m in expected]
    assert {name for name in tasks if name not in PAPER_TASKS} == {
        "ArXivHierarchicalClusteringS2S",
        "BiorxivClusteringS2S.v2",
        "MedrxivClusteringS2S.v2",
        "RedditClustering.v2",
        "StackExchangeClustering.v2",
        "TwentyNewsgroupsClustering.v2",
    }
    for name, task in tasks.items():
        theirs = mteb.get_task(name)
        assert (type(task), task.metadata) == (type(theirs), theirs.metadata)  # so the pins are mteb's own today
        assert list(task.eval_splits) == ["test"]
        if theirs.metadata.type == "Clustering":
            assert list(task.hf_subsets) == list(theirs.hf_subsets)
        assert get_task(name).metadata == task.metadata


def test_the_fast_benchmark_pins_what_it_shares_with_the_paper_alike() -> None:
    paper, fast = (
        {pin["name"]: pin for pin in read_config("benchmarks", name)["tasks"]} for name in ("paper", "paper-fast")
    )
    shared = paper.keys() & fast.keys()
    assert len(shared) == 26
    assert {name: paper[name] for name in shared} == {name: fast[name] for name in shared}


def test_the_image_tasks_are_all_those_on_images_alone_with_mtebs_own_data_of_today() -> None:
    small, large = ({task.metadata.name: task for task in get_benchmark(name).tasks} for name in _VISION)
    every = mteb.get_tasks(modalities=["image"], exclusive_modality_filter=True)
    known = {task.metadata.name: task for task in every if not isinstance(task, AbsTaskAggregate)}
    assert set(large) == set(known) and len(known) == 49
    assert list(large)[:5] == list(small)
    assert {task.metadata.type for task in small.values()} == {
        *("ImageClassification", "ImageClustering", "VisualSTS(eng)", "Any2AnyRetrieval")
    }
    for name, task in large.items():
        theirs = mteb.get_task(name)
        assert (type(task), task.metadata) == (type(theirs), theirs.metadata)
        assert list(task.eval_splits) == ["test"] or theirs.eval_splits == list(task.eval_splits)
        assert len(task.hf_subsets) == 1
    of_many = {name: task.hf_subsets for name, task in large.items() if task.metadata.is_multilingual}
    assert of_many == {"STS17MultilingualVisualSTS": ["en-en"], "STSBenchmarkMultilingualVisualSTS": ["en"]}
    assert get_benchmark("vision-large").description != get_benchmark("vision").description


def test_what_is_pinned_holds_whatever_the_installed_mteb_says() -> None:
    (pin,) = [pin for pin in read_config("benchmarks", "paper")["tasks"] if pin["name"] == "STS17"]
    task = _pinned_task(**pin | {"revision": "0" * 40, "dataset": "else/where"})
    assert task.metadata.dataset == {"path": "else/where", "revision": "0" * 40}
    plain = mteb.get_task("STS17").metadata
    assert plain.dataset["revision"] == pin["revision"]
    assert task.metadata.main_score == plain.main_score
    assert task.hf_subsets == ["en-en"]
    task.dataset, task.data_loaded = {}, True
    task.unload_data()
    assert task.metadata.dataset["path"] == "else/where"
    assert "STS17" in repr(task)


def test_a_task_by_name_is_a_fresh_one() -> None:
    assert get_task("STSBenchmark") is not get_task("STSBenchmark")
    (massive,) = resolve_tasks(["MassiveIntentClassification"])
    assert (list(massive.hf_subsets), list(massive.eval_splits)) == (["en"], ["test"])
    first, second = get_task("NFCorpus"), get_task("NFCorpus")
    assert first is not second
    assert list(first.eval_splits) == ["test"]


def test_every_use_of_a_benchmark_has_tasks_of_its_own() -> None:
    for name in BENCHMARKS:
        one, other = get_benchmark(name), get_benchmark(name)
        assert not {id(task) for task in one.tasks} & {id(task) for task in other.tasks}
        assert all(isinstance(task, AbsTask) for task in resolve_tasks(name))


def test_samples_are_those_of_the_subsets_and_splits_that_are_evaluated() -> None:
    assert n_samples(get_task("STSBenchmark")) == 1379
    assert n_samples(get_task("AmazonCounterfactualClassification")) == 670
    two = mteb.get_task("AmazonCounterfactualClassification", hf_subsets=["en", "de"], eval_splits=["test"])
    counted = two.metadata.descriptive_stats["test"]["hf_subset_descriptive_stats"]  # type: ignore
    assert n_samples(two) == 670 + counted["de"]["num_samples"]
    assert n_samples(get_task("StarterSTS")) is None
    assert all(n_samples(task) for task in get_benchmark("paper").tasks)


def test_a_mistaken_name_is_told() -> None:
    with pytest.raises(
        ValueError, match="^benchmark: expected one of starter, paper, paper-fast, starter-vision, .*, got 'papers'$"
    ):
        get_benchmark("papers")


def test_the_published_scores_are_of_these_tasks(paper_folder: Path) -> None:
    import polars as pl

    published = pl.read_csv(paper_folder / "scores.csv.gz").select("task", "task_type").unique()
    ours = [(task.metadata.name, task.metadata.type) for task in get_benchmark("paper").tasks]
    assert sorted(published.iter_rows()) == sorted(ours)


@pytest.mark.parametrize("name", ["a/b", "../../up", "..", "nul\0", "x" * 201, "\u00fc" * 101])
def test_a_name_that_no_file_can_have_is_refused_before_any_work(name: str) -> None:
    with pytest.raises(ValueError, match="^tasks: .* no file can be named ") as refused:
        resolve_tasks([TinySTS(), renamed(TinySTS, name)])
    assert str(refused.value).endswith(repr(name))


@pytest.mark.parametrize("name", ["mean", "depth", "curvature"])
def test_a_name_that_is_another_column_of_the_tables_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^tasks: tables have a column '{name}' that is no task"):
        resolve_tasks([renamed(TinySTS, name)])


def test_a_benchmark_is_checked_as_a_list_of_tasks_is() -> None:
    benchmark = get_benchmark("starter")
    assert resolve_tasks(benchmark) == list(benchmark.tasks)
    benchmark.tasks = [*benchmark.tasks, benchmark.tasks[0]]
    with pytest.raises(ValueError, match="^tasks: a task is named twice in Starter"):
        resolve_tasks(benchmark)
