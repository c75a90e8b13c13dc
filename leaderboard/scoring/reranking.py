"""Evaluates reranking tasks over arrays, replacing mteb's `AbsTaskRetrieval._evaluate_subset`.

Similarities come from the same operations as mteb's, one query at a time; scores come from `ranking`. Everything but
plain reranking by cosine (searching the whole corpus, more candidates than ranks, duplicate documents, ...) is left to
mteb.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mteb._create_dataloaders import create_dataloader
from mteb.abstasks.retrieval import AbsTaskRetrieval, _filter_queries_without_positives
from mteb.models import SearchProtocol
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ScoringFunction
from mteb.similarity_functions import _normalize_embeddings
from mteb.tasks.reranking.eng.mind_small_reranking import MindSmallReranking
from mteb.types import PromptType

from leaderboard.scoring.ranking import Candidates, heap_places, ranking_scores


@dataclass(frozen=True)
class _Merged:
    """MindSmallReranking only: the candidates of all subqueries of a query, merged into one list."""

    candidates: Candidates
    slots: np.ndarray  # position of each subquery's candidate in the merged list, (n_pairs,)
    first_pairs: np.ndarray  # first pair in each slot
    first_queries: np.ndarray  # subquery of that pair


@dataclass(frozen=True)
class _Split:
    """The data of a split that do not depend on the layer."""

    queries: Any  # one row per distinct text
    texts: np.ndarray  # row of each query's text in `queries`, (n_queries,)
    candidates: Candidates
    merged: _Merged | None


class Reranking:
    """Replacement for the `_evaluate_subset` of a reranking task; converts the data of a split to arrays once.

    Args:
        task: The reranking task.
    """

    def __init__(self, task: AbsTaskRetrieval) -> None:
        self._task = task
        self._mteb_evaluate: Callable[..., Any] = task._evaluate_subset
        self._splits: dict[tuple[str, str], _Split | None] = {}

    @staticmethod
    def supports(task: AbsTaskRetrieval) -> bool:
        """Whether `ranking` computes all scores of the task."""
        own = type(task).task_specific_scores
        return (
            own in (AbsTaskRetrieval.task_specific_scores, MindSmallReranking.task_specific_scores)
            and not task.ignore_identical_ids
            and not task.skip_first_result
            and task._previous_results_model_meta is None
        )

    def __call__(self, model: Any, data_split: Any, **kwargs: Any) -> Any:
        """Same as `AbsTaskRetrieval._evaluate_subset`."""
        key = kwargs["hf_subset"], kwargs["hf_split"]
        if key not in self._splits:
            self._splits[key] = self._prepare(data_split, kwargs["encode_kwargs"])
        split = self._splits[key]
        if split is None or kwargs.get("prediction_folder") or not _is_cosine(model):
            return self._mteb_evaluate(model, data_split, **kwargs)
        scores = self._similarities(model, data_split["corpus"], split, kwargs)
        found = ranking_scores(split.candidates, scores)
        if split.merged is not None:
            found |= {f"max_over_subqueries_{name}": value for name, value in _merged_scores(split, scores).items()}
        return found

    def _prepare(self, data_split: Any, encode_kwargs: Any) -> _Split | None:
        top_ranked = data_split["top_ranked"]
        if top_ranked is None:
            return None
        judged, queries = _filter_queries_without_positives(data_split["relevant_docs"], data_split["queries"])
        ids = queries["id"]
        documents = {name: number for number, name in enumerate(data_split["corpus"]["id"])}
        rankings = [top_ranked.get(query, ()) for query in ids]
        if not _is_plain(ids, rankings, documents, self._task._top_k):
            return None
        candidates = Candidates.of(rankings, [judged[query] for query in ids], documents, self._task.k_values)
        merged = None
        if type(self._task).task_specific_scores is MindSmallReranking.task_specific_scores:
            if set(judged) != set(ids):
                return None
            merged = _merge_candidates(judged, ids, candidates, documents)
        texts: dict[str, int] = {}
        indices = [texts.setdefault(text, len(texts)) for text in self._query_texts(queries, encode_kwargs)]
        first = np.unique(indices, return_index=True)[1]
        return _Split(queries.select(first), np.array(indices), candidates, merged)

    def _query_texts(self, queries: Any, encode_kwargs: Any) -> Sequence[str]:
        loader: Any = create_dataloader(
            queries, task_metadata=self._task.metadata, prompt_type=PromptType.query, **encode_kwargs
        )
        found: Sequence[str] = loader.dataset["text"]
        return found

    def _similarities(self, model: Any, corpus: Any, split: _Split, kwargs: Mapping[str, Any]) -> np.ndarray:
        """Similarity of each query to its candidates, float32 (n_pairs,)."""
        queries = self._encode(model, split.queries, PromptType.query, kwargs)
        documents = self._encode(model, corpus, PromptType.document, kwargs)
        all_documents = torch.from_numpy(split.candidates.documents)
        scores = torch.empty(len(all_documents))
        starts = split.candidates.starts.tolist()
        last, columns = None, documents[:0]
        for text, start, stop in zip(split.texts.tolist(), starts, starts[1:], strict=False):
            indices = all_documents[start:stop]
            if last is None or not torch.equal(indices, last):  # subqueries of a query share their candidates
                last, columns = indices, documents[indices].T
            # One query at a time like mteb: a batched product differs in the last bit of a sum.
            torch.mm(queries[text : text + 1], columns, out=scores[start:stop].unsqueeze(0))
        n_missing = int(torch.isnan(scores).sum())
        if n_missing:
            raise ValueError(f"NaN values detected in the similarity scores: {n_missing}")
        return scores.numpy()

    def _encode(self, model: Any, table: Any, prompt_type: PromptType, kwargs: Mapping[str, Any]) -> torch.Tensor:
        """Encode a table; returns vectors of length 1, (n_rows, dim)."""
        metadata, encode_kwargs = self._task.metadata, kwargs["encode_kwargs"]
        vectors = model.encode(
            create_dataloader(table, task_metadata=metadata, prompt_type=prompt_type, **encode_kwargs),
            task_metadata=metadata,
            hf_split=kwargs["hf_split"],
            hf_subset=kwargs["hf_subset"],
            prompt_type=prompt_type,
            **encode_kwargs,
        )
        return _normalize_embeddings(vectors).cpu()


def _is_cosine(model: Any) -> bool:
    """Whether the model's similarity is mteb's cosine."""
    return (
        isinstance(model, AbsEncoder)
        and not isinstance(model, SearchProtocol)
        and type(model).similarity is AbsEncoder.similarity
        and "similarity" not in vars(model)
        and not hasattr(model, "model")
        and model.mteb_model_meta is not None
        and model.mteb_model_meta.similarity_fn_name in (None, ScoringFunction.COSINE)
    )


def _is_plain(ids: Sequence[str], rankings: Sequence[Sequence[str]], documents: Mapping[str, int], top_k: int) -> bool:
    """Whether queries are unique and each has at most `top_k` distinct candidates, all of them in the corpus."""
    return (
        0 < len(ids) == len(set(ids))
        and all(0 < len(names) <= top_k and len(set(names)) == len(names) for names in rankings)
        and all(name in documents for names in rankings for name in names)
    )


def _merge_candidates(
    judged: Mapping[str, Mapping[str, int]], ids: Sequence[str], candidates: Candidates, documents: Mapping[str, int]
) -> _Merged:
    """Merge subqueries like mteb's `max_over_subqueries`: the id of a subquery is QUERY_NUMBER."""
    number_of = {query: number for number, query in enumerate(ids)}
    subqueries = defaultdict(list)
    for query in judged:
        subqueries[query.rpartition("_")[0]].append(number_of[query])
    names = {number: name for name, number in documents.items()}
    slots = np.empty(len(candidates.documents), dtype=np.int32)
    first_pairs: list[int] = []
    first_queries: list[int] = []
    rankings: list[list[str]] = []
    judgements: list[Mapping[str, int]] = []
    for members in subqueries.values():
        slot_of: dict[int, int] = {}
        for member in members:
            start, stop = int(candidates.starts[member]), int(candidates.starts[member + 1])
            for pair, document in zip(range(start, stop), candidates.documents[start:stop].tolist(), strict=True):
                if document not in slot_of:
                    slot_of[document] = len(first_pairs)
                    first_pairs.append(pair)
                    first_queries.append(member)
                slots[pair] = slot_of[document]
        rankings.append([names[document] for document in slot_of])
        judgements.append(judged[ids[members[-1]]])
    merged = Candidates.of(rankings, judgements, documents, candidates.k_values)
    return _Merged(merged, slots, np.array(first_pairs), np.array(first_queries))


def _merged_scores(split: _Split, scores: np.ndarray) -> dict[str, Any]:
    """Scores that take the similarity of a document to a query as the maximum over its subqueries."""
    merged = split.merged
    assert merged is not None
    highest = np.full(len(merged.first_pairs), -np.inf, dtype=np.float32)
    np.maximum.at(highest, merged.slots, scores)
    # mteb appends them in this order: subquery by subquery, each in the order of its heap, new documents only.
    width = int(np.diff(split.candidates.starts).max())
    order = merged.first_queries * width + heap_places(split.candidates, scores)[merged.first_pairs]
    return ranking_scores(merged.candidates, highest, order)
