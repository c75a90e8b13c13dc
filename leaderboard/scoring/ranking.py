"""Ranking scores over arrays, equal to mteb's but without a Python object per ranked pair.

mteb builds dictionaries, heaps and sorted lists for every query and layer. Here the candidates of all queries are
arrays, built once per task, and each layer is scored in passes over blocks of them. Does not compute similarities or
access mteb's tasks.
"""

import functools
import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mteb._evaluators.retrieval_metrics import make_score_dict
from sklearn.metrics import auc

# Ranked pairs per block: a few hundred MB of temporary arrays.
_BLOCK_PAIRS = 2_000_000
_ABSTENTION_RATES = np.linspace(0, 1, 11)[:-1]


@dataclass(frozen=True)
class Candidates:
    """The candidates of all queries, concatenated query by query, with their relevance.

    Attributes:
        documents: Document index of each candidate, (n_pairs,).
        names: Rank of each document's id in sorted order, used to break ties, (n_documents,).
        relevance: Relevance grade of each candidate, (n_pairs,); grades of 1 or more are relevant.
        starts: Offset of each query's first candidate, and the total number of candidates, (n_queries + 1,).
        k_values: Cut-off ranks.
        n_relevant: Number of relevant documents per query, whether candidates or not, (n_queries,).
        ideal: Ideal DCG at each rank of `k_values`, (n_queries, n_k).
    """

    documents: np.ndarray
    names: np.ndarray
    relevance: np.ndarray
    starts: np.ndarray
    k_values: tuple[int, ...]
    n_relevant: np.ndarray
    ideal: np.ndarray

    def __len__(self) -> int:
        return len(self.n_relevant)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Blocks of queries with the same number of candidates: query indices (m,), pair indices (m, size)."""
        sizes = np.diff(self.starts)
        for size in np.unique(sizes).tolist():
            queries = np.flatnonzero(sizes == size)
            step = max(1, _BLOCK_PAIRS // size)
            for start in range(0, len(queries), step):
                block = queries[start : start + step]
                yield block, self.starts[block, None] + np.arange(size)

    @classmethod
    def of(
        cls,
        rankings: Sequence[Sequence[str]],
        judgements: Sequence[Mapping[str, int]],
        documents: Mapping[str, int],
        k_values: Sequence[int],
    ) -> "Candidates":
        """Build the arrays.

        Args:
            rankings: Candidate ids of each query: at least one, without duplicates.
            judgements: Relevance grades by document id, for each query.
            documents: Index of each document id, starting at 0.
            k_values: Cut-off ranks.
        """
        starts = np.cumsum([0, *map(len, rankings)], dtype=np.int64)
        n_pairs = int(starts[-1])
        indices = np.fromiter((documents[name] for names in rankings for name in names), np.int32, n_pairs)
        grades = np.fromiter(
            (judged.get(name, 0) for names, judged in zip(rankings, judgements, strict=True) for name in names),
            np.int32,
            n_pairs,
        )
        names = np.empty(max(documents.values()) + 1, dtype=np.int32)
        names[[documents[name] for name in sorted(documents)]] = np.arange(len(documents))
        cut = tuple(k_values)
        relevant = [
            tuple(sorted((grade for grade in judged.values() if grade > 0), reverse=True)) for judged in judgements
        ]
        ideal = np.array([_ideal_gains(grades, cut) for grades in relevant]).reshape(len(relevant), len(cut))
        return cls(indices, names, grades, starts, cut, np.array([len(grades) for grades in relevant]), ideal)


@functools.lru_cache(maxsize=65536)
def _ideal_gains(grades: tuple[int, ...], k_values: tuple[int, ...]) -> list[float]:
    gains = [grade / np.log2(rank + 1) for rank, grade in enumerate(grades[: max(k_values)], start=1)]
    return [float(sum(gains[:k])) for k in k_values]


def ranking_scores(candidates: Candidates, scores: np.ndarray, order: np.ndarray | None = None) -> dict[str, Any]:
    """All scores of a ranking, like mteb's `calculate_retrieval_scores` and `make_score_dict`.

    Args:
        candidates: The candidates of every query.
        scores: Similarity of each candidate, float32 (n_pairs,).
        order: Sort keys that put each query's candidates in mteb's order, (n_pairs,). Default: `heap_places`. The order
            affects the last bit of a standard deviation.

    Returns:
        NDCG, MAP, recall, precision and hit rate, rounded to 5 decimals like mteb; MRR; the normalised area under the
        abstention curve of each measure, for three kinds of confidence.

    Example:
        >>> two = Candidates.of([["a", "b"]], [{"a": 1}], {"a": 0, "b": 1}, k_values=[1, 2])
        >>> found = ranking_scores(two, np.array([0.1, 0.9], dtype=np.float32))
        >>> found["map_at_1"], found["map_at_2"]
        (0.0, 0.5)
    """
    measured, confidences = _measure(candidates, scores, heap_places(candidates, scores) if order is None else order)
    abstention = _Abstention(confidences)
    mean = {name: sum(values.tolist()) / len(candidates) for name, values in measured.items()}

    def rounded(kind: str) -> dict[str, float]:
        return {f"{kind}@{k}": round(mean[f"{kind}@{k}"], 5) for k in candidates.k_values}

    def areas(*kinds: str) -> dict[str, float]:
        names = [f"{kind}@{k}" for kind in kinds for k in candidates.k_values]
        return {area: value for name in names for area, value in abstention.naucs(name, measured[name]).items()}

    return make_score_dict(
        ndcg=rounded("NDCG"),
        _map=rounded("MAP"),
        recall=rounded("Recall"),
        precision=rounded("P"),
        mrr={f"MRR@{k}": mean[f"MRR@{k}"] for k in candidates.k_values},
        naucs=areas("NDCG", "MAP", "Recall", "P"),
        naucs_mrr=areas("MRR"),
        hit_rate=rounded("HitRate"),
        task_scores={},
    )


def heap_places(candidates: Candidates, scores: np.ndarray) -> np.ndarray:
    """Position of each candidate in the heap that mteb keeps for its query, int32 (n_pairs,)."""
    places = np.empty(len(scores), dtype=np.int32)
    for _, pairs in candidates.blocks():
        ranked = np.argsort(-scores[pairs], axis=1, kind="stable")
        by_place = np.take_along_axis(pairs, ranked[:, _heap_order(pairs.shape[1])], axis=1)
        places[by_place] = np.arange(pairs.shape[1])
    return places


@functools.lru_cache(maxsize=2048)
def _heap_order(size: int) -> list[int]:
    """Ranks in heap order, after pushing candidates from the most to the least similar."""
    heap: list[int] = []
    for rank in range(size):
        heapq.heappush(heap, -rank)
    return [-rank for rank in heap]


def _measure(
    candidates: Candidates, scores: np.ndarray, order: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Every measure at every cut-off, and every kind of confidence, for each query: (n_queries,)."""
    kinds = ("NDCG", "MAP", "Recall", "P", "MRR", "HitRate")
    measured = {f"{kind}@{k}": np.zeros(len(candidates)) for kind in kinds for k in candidates.k_values}
    confidences = {kind: np.zeros(len(candidates)) for kind in ("max", "std", "diff1")}
    for queries, pairs in candidates.blocks():
        block = scores[pairs]
        size = block.shape[1]
        # Like trec_eval: descending scores, ties by descending document id.
        ranking = np.lexsort((-candidates.names[candidates.documents[pairs]], -block), axis=1)
        gains = np.maximum(np.take_along_axis(candidates.relevance[pairs], ranking, axis=1), 0).astype(np.float64)
        found = np.cumsum(gains > 0, axis=1)
        ranks = np.arange(1, size + 1)
        precision_sums = np.cumsum(np.where(gains > 0, found / ranks, 0.0), axis=1)
        dcg = np.cumsum(gains / np.log2(ranks + 1), axis=1)
        first = np.where(found[:, -1] > 0, np.argmax(gains > 0, axis=1) + 1, np.inf)
        n_relevant = np.maximum(candidates.n_relevant[queries], 1)
        for number, k in enumerate(candidates.k_values):
            last = min(k, size) - 1
            ideal = candidates.ideal[queries, number]
            measured[f"NDCG@{k}"][queries] = dcg[:, last] / np.where(ideal > 0, ideal, 1)
            measured[f"MAP@{k}"][queries] = precision_sums[:, last] / n_relevant
            measured[f"Recall@{k}"][queries] = found[:, last] / n_relevant
            measured[f"P@{k}"][queries] = found[:, last] / k
            measured[f"MRR@{k}"][queries] = np.where(first <= k, 1 / first, 0)
            measured[f"HitRate@{k}"][queries] = found[:, last] > 0
        ranked = np.take_along_axis(block, ranking[:, :2], axis=1).astype(np.float64)
        confidences["max"][queries] = ranked[:, 0]
        if size > 1:
            confidences["diff1"][queries] = ranked[:, 0] - ranked[:, 1]
        kept = np.take_along_axis(block, np.argsort(order[pairs], axis=1), axis=1)
        confidences["std"][queries] = np.std(kept.astype(np.float64), axis=1)
    return measured, confidences


class _Abstention:
    """mteb's `nauc` for many measures over the same confidences, each sorted only once.

    Args:
        confidences: Confidence of every query, (n_queries,), by kind.
    """

    def __init__(self, confidences: Mapping[str, np.ndarray]) -> None:
        self._sorted = {kind: self._group_equal(values) for kind, values in confidences.items()}

    def naucs(self, name: str, values: np.ndarray) -> dict[str, float]:
        """Normalised AUC of one measure per confidence: 0 for abstaining at random, 1 for the best possible order."""
        oracle = self._curve(self._group_equal(values), values)
        best = auc(_ABSTENTION_RATES, oracle)
        flat = oracle[0] * (_ABSTENTION_RATES[-1] - _ABSTENTION_RATES[0])
        return {
            f"nAUC_{name}_{kind}": np.nan
            if best == flat
            else (auc(_ABSTENTION_RATES, self._curve(groups, values)) - flat) / (best - flat)
            for kind, groups in self._sorted.items()
        }

    @staticmethod
    def _group_equal(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Ascending order of the values, with start and size of each group of equal values."""
        order = np.argsort(values, kind="stable")
        ranked = values[order]
        starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        return order, starts, np.diff(np.r_[starts, len(ranked)])

    @staticmethod
    def _curve(groups: tuple[np.ndarray, np.ndarray, np.ndarray], values: np.ndarray) -> np.ndarray:
        """Mean over the answered queries at each abstention rate."""
        order, starts, sizes = groups
        expected = np.repeat(np.add.reduceat(values[order], starts) / sizes, sizes)
        dropped = [min(round(rate * len(values)), len(values) - 1) for rate in _ABSTENTION_RATES]
        return np.array([expected[n:].mean() for n in dropped])
