"""Tasks cut to a few items: which are kept, and that mteb evaluates what is left."""

import itertools
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from support.tiny_tasks import TinySTS, tiny_tasks

from leaderboard.tasks.benchmarks import get_task, resolve_tasks
from leaderboard.tasks.limit import limit_task
from leaderboard.tasks.mirror import dataset_folder, reading_from
from midlayer_embed.errors import InputError

_LIMIT = 7


class _RandomEncoder(AbsEncoder):
    """A random vector for each distinct text; knows which texts it was given, and of which split."""

    def __init__(self) -> None:
        self.mteb_model_meta = ModelMeta.create_empty({"name": "tests/random"})
        self.seen: dict[str, list[str]] = {}

    def encode(self, inputs: Any, *, hf_split: str, **_: Any) -> Any:
        texts = list(itertools.chain.from_iterable(batch["text"] for batch in inputs))
        self.seen.setdefault(hf_split, []).extend(texts)
        seeds = [sum(map(ord, text)) for text in texts]
        return np.array([np.random.default_rng(seed).normal(size=4) for seed in seeds])


def _evaluated(task: Any) -> dict[str, list[str]]:
    """The texts of each split that mteb has encoded; the task has a score then."""
    encoder = _RandomEncoder()
    model: Any = encoder
    (result,) = mteb.evaluate(
        model, task, cache=None, encode_kwargs={"batch_size": 16}, show_progress_bar=False, co2_tracker=False
    ).task_results
    assert {split: len(entries) for split, entries in result.scores.items()} == dict.fromkeys(
        task.eval_splits, len(task.hf_subsets)
    )
    return encoder.seen


def _expected_texts(task: Any, split: Any) -> int:
    if task.metadata.type == "Clustering":
        first = split["sentences"][0]
        return _LIMIT if isinstance(first, str) else _LIMIT * len(split)
    if task.metadata.type == "Reranking":
        assert len(split["queries"]) == len(split["relevant_docs"]) == len(split["top_ranked"]) == _LIMIT
        ranked = set().union(*split["top_ranked"].values())
        assert set(split["corpus"]["id"]) == ranked
        return _LIMIT + len(ranked)
    return {"Classification": _LIMIT}.get(task.metadata.type, 2 * _LIMIT)


@pytest.mark.parametrize("number", range(6))
def test_tiny_tasks_of_every_type_evaluate_the_items_that_are_kept(number: int) -> None:
    task = tiny_tasks()[number]
    task.load_data()
    _check_limited(task)


@pytest.mark.parametrize("task", resolve_tasks("starter"), ids=lambda task: task.metadata.name)
def test_starter_tasks_evaluate_the_items_that_are_kept(task: Any) -> None:
    task.load_data()
    _check_limited(task)


@pytest.mark.parametrize(
    "name", ["STSBenchmark", "TwitterURLCorpus", "TwentyNewsgroupsClustering", "Banking77Classification"]
)
@pytest.mark.real
def test_real_tasks_evaluate_the_items_that_are_kept(name: str, mteb_mirror: Path) -> None:
    task: Any = get_task(name)
    with reading_from(dataset_folder(mteb_mirror, task) or Path(), task):
        task.load_data()
    task.n_experiments = 1  # of classification: ten take half a minute
    _check_limited(task)


def _check_limited(task: Any) -> None:
    whole = task.dataset
    training = whole["train"] if task.metadata.type == "Classification" else None
    limit_task(task, _LIMIT, seed=0)
    split = task.dataset["test"] if "test" in task.dataset else task.dataset["default"]["test"]
    expected = _expected_texts(task, split)
    if training is not None:
        assert task.dataset["train"] is training
    assert len(_evaluated(task)["test"]) == expected


def test_the_seed_chooses_and_the_order_stays() -> None:
    def kept(seed: int, limit: int = _LIMIT) -> list[str]:
        task = TinySTS()
        task.load_data()
        limit_task(task, limit, seed)
        return list(task.dataset["test"]["sentence1"])

    whole = kept(0, 1000)
    assert len(whole) == 30
    assert kept(0) == kept(0) != kept(1)
    for seed in range(5):
        places = [whole.index(text) for text in kept(seed)]
        assert len(places) == _LIMIT and places == sorted(places)


def test_the_data_that_were_there_are_not_changed() -> None:
    for task in tiny_tasks():
        task.load_data()
        before = task.dataset
        sizes = _sizes(before)
        limit_task(task, 2, seed=0)
        assert task.dataset is not before
        assert _sizes(before) == sizes != _sizes(task.dataset)


def _sizes(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _sizes(value) for key, value in data.items()}
    if isinstance(data, Dataset):
        return [len(list(value)) if isinstance(value, list) else 1 for row in data for value in row.values()]
    return data


def test_the_fewest_items_evaluate() -> None:
    for task in tiny_tasks():
        task.load_data()
        limit_task(task, 2, seed=0)
        _evaluated(task)


def _classification(labels: list[int]) -> Any:
    task = tiny_tasks()[0]
    task.load_data()
    texts = [f"text {number}" for number in range(len(labels))]
    rows = Dataset.from_dict({"text": texts, "label": labels})
    train = Dataset.from_dict({"text": ["one text", "another", "a third"], "label": [0, 1, 2]})
    task.dataset = DatasetDict({"train": train, "test": rows})
    return task


@pytest.mark.parametrize("limit", [2, 3, 4, 10])
@pytest.mark.parametrize("labels", [[0] * 50 + [1], [0] * 40 + [1] + [2] * 9, [0, 2] * 20 + [1], [2, 0, 1]])
def test_a_classification_task_evaluates_whatever_labels_are_left(labels: list[int], limit: int) -> None:
    for seed in range(3):
        task = _classification(labels)
        limit_task(task, limit, seed)
        kept = task.dataset["test"]["label"][:]
        two_of_more = len(set(kept)) == 2 < len(set(labels))  # mteb would ask which of them is 1
        assert not two_of_more
        assert len(kept) == min(limit, len(labels)) or (limit == 2 and len(kept) == 1)
        _evaluated(task)


def test_both_layouts_of_pairs_keep_the_same_pairs() -> None:
    kept = []
    for in_one_row in (False, True):
        task = tiny_tasks()[3]
        task.load_data()
        if in_one_row:
            task.dataset = DatasetDict({"test": Dataset.from_list([task.dataset["test"].to_dict()])})
        limit_task(task, _LIMIT, seed=3)
        assert len(task.dataset["test"]) == (1 if in_one_row else _LIMIT)
        assert len(_evaluated(task)["test"]) == 2 * _LIMIT
        columns = task.dataset["test"]
        kept.append(columns[0] if in_one_row else columns.to_dict())
    assert kept[0] == kept[1]


def test_every_subset_that_is_evaluated_is_cut_and_no_other() -> None:
    task: Any = mteb.get_task("STS17", hf_subsets=["en-en", "es-es"])
    rows = Dataset.from_dict({name: list(map(str, range(9))) for name in ("sentence1", "sentence2")})
    rows = rows.add_column("score", [float(number) for number in range(9)])
    task.dataset = {name: DatasetDict({"test": rows, "train": rows}) for name in ("en-en", "es-es", "en-de")}
    task.data_loaded = True
    limit_task(task, 4, seed=0)
    sizes = {name: {split: len(rows) for split, rows in splits.items()} for name, splits in task.dataset.items()}
    assert sizes == {
        "en-en": {"test": 4, "train": 9},
        "es-es": {"test": 4, "train": 9},
        "en-de": {"test": 9, "train": 9},
    }
    assert len(_evaluated(task)["test"]) == 2 * 8


def test_queries_without_answers_are_not_drawn_and_a_corpus_without_rankings_is_kept() -> None:
    task = tiny_tasks()[4]
    task.load_data()
    tables = task.dataset["default"]["test"]
    tables["relevant_docs"] = {name: docs for name, docs in tables["relevant_docs"].items() if name in ("q2", "q5")}
    tables["relevant_docs"]["q6"] = {}
    tables["top_ranked"] = None
    limit_task(task, 3, seed=0)
    cut = task.dataset["default"]["test"]
    assert cut["queries"]["id"][:] == ["q2", "q5"] == list(cut["relevant_docs"])
    assert len(cut["corpus"]) == 40
    assert len(_evaluated(task)["test"]) == 2 + 40


def test_retrieval_data_of_the_old_layout_are_cut_too() -> None:
    task = tiny_tasks()[4]
    new = task.make()["default"]["test"]
    task.queries = {"test": dict(zip(new["queries"]["id"], new["queries"]["text"], strict=True))}
    task.corpus = {"test": {row["id"]: {"text": row["text"], "title": ""} for row in new["corpus"]}}
    task.relevant_docs, task.top_ranked = {"test": new["relevant_docs"]}, {"test": new["top_ranked"]}
    task.data_loaded = True
    limit_task(task, 2, seed=0)
    cut = task.dataset["default"]["test"]
    assert len(cut["queries"]) == 2
    assert len(_evaluated(task)["test"]) == 2 + len(set().union(*cut["top_ranked"].values()))


def test_a_clustering_task_that_embeds_a_share_embeds_what_is_kept() -> None:
    for limit, expected in ((5, 5), (100, 20)):
        task = tiny_tasks()[2]
        task.max_document_to_embed, task.max_fraction_of_documents_to_embed = None, 0.5
        task.load_data()
        limit_task(task, limit, seed=0)
        assert len(_evaluated(task)["test"]) == expected


def test_what_cannot_be_limited_is_told() -> None:
    with pytest.raises(InputError, match="expected a task with loaded data"):
        limit_task(TinySTS(), 5, seed=0)
    for limit in (1, -1, True, 2.5):
        with pytest.raises(InputError, match="limit: expected an int of at least 2, got "):
            limit_task(TinySTS(), limit, seed=0)  # type: ignore[arg-type]
    unknown = {
        "SummEval": "Summarization",
        "Tatoeba": "BitextMining",
        "BrazilianToxicTweetsClassification": "MultilabelClassification",
    }
    for name, kind in unknown.items():
        with pytest.raises(InputError, match=rf"expected a task of type AbsTask.*, got {name} \({kind}\)"):
            limit_task(mteb.get_task(name), 5, seed=0)
    trained_on_itself = mteb.get_task("Banking77Classification", eval_splits=["train"])
    with pytest.raises(InputError, match="evaluated on its training split 'train'"):
        limit_task(trained_on_itself, 5, seed=0)
