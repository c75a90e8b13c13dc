"""Reranking over arrays: every number as mteb's own evaluator has it; what is not plain reranking is left to it."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores, make_score_dict
from mteb.abstasks.retrieval import AbsTaskRetrieval
from mteb.models.model_meta import ScoringFunction
from support.scoring import VectorsOfWords, assert_same, assert_scored_as_by_mteb
from support.tiers import sampled

from leaderboard.scoring.ranking import Candidates, ranking_scores
from leaderboard.scoring.score import prepared, score
from leaderboard.tasks.benchmarks import get_task

pytestmark = pytest.mark.usefixtures("quiet_libraries")

_WORDS = ["news", "market", "team", "storm", "film", "court", "river", "engine"]
_NAMES = ["AskUbuntuDupQuestions", "MindSmallReranking", "SciDocsRR", "StackOverflowDupQuestions"]


def made_up(name: str, seed: int = 0, n_queries: int = 50) -> Any:
    """A real task, its data made up in its own format: subqueries, equal texts, grades, no positives, no judgements."""
    rng = random.Random(seed)

    def text() -> str:
        return " ".join(rng.choice(_WORDS) for _ in range(rng.randint(1, 3)))  # so few that many are the same

    documents = [f"d{number}" for number in range(150)]
    rng.shuffle(documents)
    ranked: dict[str, list[str]] = {}
    judged: dict[str, dict[str, int]] = {}
    for query in range(n_queries):
        candidates = rng.sample(documents, rng.choice([1, 2, 5, 30]))
        grades = {document: rng.choice([0, 0, 0, 1, 2]) for document in candidates if rng.random() < 0.9}
        grades |= dict.fromkeys(rng.sample(documents, rng.randint(0, 2)), 1)
        if query % 10 == 0:
            grades = dict.fromkeys(candidates, 0)
        for subquery in range(rng.randint(1, 5)):
            few = query % 3 == 0 and len(candidates) > 2
            ranked[f"q{query}_{subquery}"] = candidates[subquery % 2 :] if few else candidates
            judged[f"q{query}_{subquery}"] = grades
    judged["q1_0"] = {}
    ids = [*ranked, "unjudged_0"]
    task: Any = get_task(name)
    split = {
        "queries": Dataset.from_dict({"id": ids, "text": [text() for _ in ids]}),
        "corpus": Dataset.from_dict(
            {
                "id": documents,
                "text": [text() for _ in documents],
                "title": [rng.choice(["", "news"]) for _ in documents],
            }
        ),
        "relevant_docs": judged,
        "top_ranked": ranked,
    }
    task.dataset, task.data_loaded = {"default": {"test": split}}, True
    return task


@pytest.fixture
def by_mteb(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks that mteb's own evaluator scored."""
    names: list[str] = []
    evaluate = AbsTaskRetrieval._evaluate_subset

    def watched(self: Any, *args: Any, **kwargs: Any) -> Any:
        names.append(self.metadata.name)
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(AbsTaskRetrieval, "_evaluate_subset", watched)
    return names


@pytest.mark.parametrize("name", _NAMES)
def test_the_papers_reranking_tasks_score_as_by_mteb(name: str, by_mteb: list[str]) -> None:
    task = made_up(name)
    with prepared(task):
        found = score(task, VectorsOfWords())
    assert not by_mteb
    assert (name == "MindSmallReranking") == ("max_over_subqueries_map_at_1000" in found.scores["test"][0])
    assert_scored_as_by_mteb(task)


@pytest.mark.parametrize("seed", sampled(range(1, 6), 1, 2))
def test_subqueries_score_as_by_mteb(seed: int) -> None:
    assert_scored_as_by_mteb(made_up("MindSmallReranking", seed, n_queries=15))


def test_each_distinct_query_is_encoded_once() -> None:
    task = made_up("MindSmallReranking")
    split = task.dataset["default"]["test"]
    texts = {
        text
        for name, text in zip(split["queries"]["id"][:], split["queries"]["text"][:], strict=True)
        if split["relevant_docs"].get(name)
    }
    model = VectorsOfWords()
    with prepared(task):
        score(task, model)
    assert len(split["queries"]) > len(texts)
    assert sum(model.n_encoded) == len(texts) + len(split["corpus"])


def _twice(split: Any) -> None:
    ranked = split["top_ranked"]["q2_0"]
    ranked.append(ranked[0])


def _whole_corpus(split: Any) -> None:
    split["top_ranked"] = None


@pytest.mark.parametrize("change", [_twice, _whole_corpus])
def test_what_is_not_plain_reranking_is_left_to_mteb(change: Callable[[Any], None], by_mteb: list[str]) -> None:
    task = made_up("SciDocsRR", n_queries=8)
    change(task.dataset["default"]["test"])
    assert_scored_as_by_mteb(task)
    assert by_mteb == ["SciDocsRR"] * 4


def test_more_candidates_than_ranks_are_left_to_mteb(by_mteb: list[str]) -> None:
    task = made_up("SciDocsRR", n_queries=8)
    task._top_k = 3
    assert_scored_as_by_mteb(task)
    assert by_mteb == ["SciDocsRR"] * 4


def test_another_similarity_is_left_to_mteb(by_mteb: list[str]) -> None:
    task = made_up("SciDocsRR", n_queries=8)
    model = VectorsOfWords()
    model.mteb_model_meta = model.mteb_model_meta.model_copy(update={"similarity_fn_name": ScoringFunction.DOT_PRODUCT})
    with prepared(task):
        score(task, model)
    assert by_mteb == ["SciDocsRR"]


@pytest.mark.parametrize("setting", ["ignore_identical_ids", "skip_first_result"])
def test_a_task_that_drops_results_is_left_to_mteb(setting: str, by_mteb: list[str]) -> None:
    task = made_up("SciDocsRR", n_queries=8)
    setattr(task, setting, True)
    with prepared(task):
        score(task, VectorsOfWords())
    assert by_mteb == ["SciDocsRR"]


def test_scores_that_are_no_numbers_are_told_of() -> None:
    task = made_up("SciDocsRR", n_queries=8)
    model = VectorsOfWords()
    model.encode = lambda inputs, **_: np.full((len(inputs.dataset), 3), np.nan)  # type: ignore[method-assign]
    with prepared(task), pytest.raises(ValueError, match="NaN values detected in the similarity scores"):
        score(task, model)


_GRADED = st.lists(st.tuples(st.sampled_from([-0.5, 0.0, 0.25, 0.5, 1.0]), st.integers(-1, 3)), min_size=1, max_size=12)


@settings(deadline=None, max_examples=30)
@given(queries=st.lists(_GRADED, min_size=1, max_size=12))
def test_any_ranking_scores_as_by_mteb(queries: list[list[tuple[float, int]]]) -> None:
    k_values = [1, 3, 10]
    names = [[f"d{number}" for number in range(len(rows))] for rows in queries]
    judged = {
        f"q{n}": {name: grade for name, (_, grade) in zip(names[n], rows, strict=True)}
        for n, rows in enumerate(queries)
    }
    documents = {f"d{number}": number for number in range(12)}
    candidates = Candidates.of(names, list(judged.values()), documents, k_values)
    scores = np.array([value for rows in queries for value, _ in rows], dtype=np.float32)
    found = ranking_scores(candidates, scores, order=np.arange(len(scores)))
    results = {
        f"q{n}": {name: value for name, (value, _) in zip(names[n], rows, strict=True)}
        for n, rows in enumerate(queries)
    }
    by_mteb = calculate_retrieval_scores(results, judged, k_values)._asdict()
    del by_mteb["all_scores"]
    assert_same(found, make_score_dict(_map=by_mteb.pop("map"), task_scores={}, **by_mteb))
