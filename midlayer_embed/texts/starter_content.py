"""Texts and labels of the five starter tasks, from the docstrings of numpy, scipy and scikit-learn, as plain values.

`leaderboard.tasks.starter` turns them into mteb tasks. Whoever asks what a change of the vectors costs, such as int8
weights, takes the graded pairs from here.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from typing import Any

from midlayer_embed.texts.starter_corpus import (
    LABEL_STEMS,
    Item,
    comparable,
    corpus_revision,
    linked,
    read_corpus,
    unrelated,
)

CLASSIFICATION_LABELS: tuple[str, ...] = tuple(sorted(LABEL_STEMS))
CLUSTERING_LABELS: tuple[str, ...] = ("linalg", "metrics", "optimize", "signal", "special", "stats")

# Texts per label, (min, max). The minimum leaves room for other package versions, the maximum balances the classes.
_CLASSIFICATION_SIZE = (22, 28)
_CLUSTERING_SIZE = (16, 27)
_N_TRAIN = 16  # mteb samples 8 per label
_POOL_SIZES = {"Reranking": 200, "PairClassification": 210, "STS": 180}
_LARGEST_GROUP = 40
_N_SETS = 5
_SHARE_OF_SET = 0.7
_N_CANDIDATES = 15
_MAX_RELEVANT = 5
_MAX_PAIRS_OF_ITEM, _PAIRS_OF_GRADE = 4, 80


def _sort_key(text: str) -> str:
    """Pseudo-random sort key, the same on every machine."""
    return hashlib.sha256(text.encode()).hexdigest()


def _group_by_links(items: Sequence[Item]) -> list[list[Item]]:
    """Group linked items of a subpackage. Large groups are split in breadth-first order, which cuts few links."""
    by_path = {item.path: item for item in items}
    groups: list[list[Item]] = []
    seen: set[str] = set()
    for first in items:
        if first.path in seen:
            continue
        group: list[Item] = []
        queue = deque([first])
        seen.add(first.path)
        while queue and len(group) < _LARGEST_GROUP:
            item = queue.popleft()
            group.append(item)
            for path in item.links:
                if path not in seen and by_path[path].subpackage == item.subpackage:
                    seen.add(path)
                    queue.append(by_path[path])
        seen.difference_update(item.path for item in queue)
        groups.append(group)
    return groups


@functools.cache
def _build_pools() -> dict[str, tuple[Item, ...]]:
    """Items of each task, disjoint. Tasks that need links choose first, but leave enough items of every label."""
    items = read_corpus()
    spare = Counter(item.subpackage for item in items)
    for label in CLASSIFICATION_LABELS:
        spare[label] -= _CLASSIFICATION_SIZE[1] + (_CLUSTERING_SIZE[1] if label in CLUSTERING_LABELS else 0)
    pools: dict[str, list[Item]] = {task: [] for task in _POOL_SIZES}
    taken: set[str] = set()
    linked_groups = [group for group in _group_by_links(items) if len(group) > 1]
    for group in sorted(linked_groups, key=lambda group: _sort_key(group[0].path)):
        room = {task: size - len(pools[task]) for task, size in _POOL_SIZES.items()}
        emptiest = max(room, key=lambda task: room[task])
        if len(group) <= min(room[emptiest], spare[group[0].subpackage]):
            pools[emptiest] += group
            spare[group[0].subpackage] -= len(group)
            taken.update(item.path for item in group)
    for task, size in _POOL_SIZES.items():
        if len(pools[task]) < 0.8 * size:
            raise ValueError(
                f"found {len(pools[task])} linked texts for Starter{task}, expected about {size} ({corpus_revision()})"
            )
    for task, labels, (fewest, most) in (
        ("Classification", CLASSIFICATION_LABELS, _CLASSIFICATION_SIZE),
        ("Clustering", CLUSTERING_LABELS, _CLUSTERING_SIZE),
    ):
        pools[task] = []
        for label in labels:
            free = [item for item in items if item.subpackage == label and item.path not in taken]
            chosen = sorted(free, key=lambda item: _sort_key(item.path))[:most]
            if len(chosen) < fewest:
                raise ValueError(
                    f"found {len(chosen)} texts of subpackage {label!r} for Starter{task}, expected {fewest} to {most} "
                    f"({corpus_revision()})"
                )
            pools[task] += chosen
            taken.update(item.path for item in chosen)
    return {task: tuple(pool) for task, pool in pools.items()}


def _shuffle(items: Iterable[Item], salt: str) -> list[Item]:
    return sorted(items, key=lambda item: _sort_key(salt + item.path))


def _find_partners(item: Item, pool: Sequence[Item]) -> list[Item]:
    return _shuffle((other for other in pool if linked(item, other) and comparable(item, other)), item.path)


def _find_unrelated(item: Item, pool: Sequence[Item]) -> tuple[list[Item], list[Item]]:
    """Unrelated items of the same subpackage and of other subpackages, each in a fixed random order."""
    others = _shuffle((other for other in pool if unrelated(item, other)), item.path)
    near = [other for other in others if other.subpackage == item.subpackage]
    return near, [other for other in others if other.subpackage != item.subpackage]


def _build_classification(pool: Sequence[Item]) -> dict[str, Any]:
    rows: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for index, label in enumerate(CLASSIFICATION_LABELS):
        texts = [item.text for item in pool if item.subpackage == label]
        rows["train"] += [(text, index) for text in texts[:_N_TRAIN]]
        rows["test"] += [(text, index) for text in texts[_N_TRAIN:]]
    for split in rows.values():
        split.sort(key=lambda row: _sort_key(row[0]))
    return {
        split: {"text": [text for text, _ in kept], "label": [label for _, label in kept]}
        for split, kept in rows.items()
    }


def _build_clustering(pool: Sequence[Item]) -> dict[str, Any]:
    sets: list[Sequence[Item]] = []
    for number in range(_N_SETS):
        rng = random.Random(number)
        chosen: list[Item] = []
        for label in CLUSTERING_LABELS:
            members = [item for item in pool if item.subpackage == label]
            chosen += rng.sample(members, round(_SHARE_OF_SET * len(members)))
        rng.shuffle(chosen)
        sets.append(chosen)
    return {
        "test": {
            "sentences": [[item.text for item in chosen] for chosen in sets],
            "labels": [[CLUSTERING_LABELS.index(item.subpackage) for item in chosen] for chosen in sets],
        }
    }


def _pair_columns(rows: Iterable[tuple[Item, Item, int]], value: str) -> dict[str, Any]:
    ordered = sorted(rows, key=lambda row: _sort_key(row[0].path + row[1].path))
    return {
        "test": {
            "sentence1": [a.text for a, _, _ in ordered],
            "sentence2": [b.text for _, b, _ in ordered],
            value: [number for _, _, number in ordered],
        }
    }


def _find_linked_pairs(pool: Sequence[Item]) -> list[tuple[Item, Item]]:
    """Distinct pairs of comparable linked items. Each item is in a few pairs at most, so that no clique dominates."""
    pairs = [(a, b) for a in pool for b in _find_partners(a, pool) if a.path < b.path]
    uses: Counter[str] = Counter()
    kept = []
    for a, b in sorted(pairs, key=lambda pair: _sort_key(pair[0].path + pair[1].path)):
        if max(uses[a.path], uses[b.path]) < _MAX_PAIRS_OF_ITEM:
            uses.update((a.path, b.path))
            kept.append((a, b))
    return kept


def _build_pair_classification(pool: Sequence[Item]) -> dict[str, Any]:
    rows: list[tuple[Item, Item, int]] = []
    used: set[frozenset[str]] = set()
    for number, (a, b) in enumerate(_find_linked_pairs(pool)):
        near, far = _find_unrelated(a, pool)
        # One negative per positive: the first text is equally frequent in both classes.
        for other in near + far if number % 3 else far + near:
            if frozenset((a.path, other.path)) not in used:
                used.add(frozenset((a.path, other.path)))
                rows += [(a, b, 1), (a, other, 0)]
                break
    return _pair_columns(rows, "labels")


def _build_reranking(pool: Sequence[Item]) -> dict[str, Any]:
    queries: dict[str, str] = {}
    relevant: dict[str, dict[str, int]] = {}
    candidates: dict[str, list[str]] = {}
    for item in pool:
        partners = _find_partners(item, pool)[:_MAX_RELEVANT]
        if not partners:
            continue
        near, far = _find_unrelated(item, pool)
        wanted = _N_CANDIDATES - len(partners)
        negatives = [*near[: 2 * wanted // 3], *far][:wanted]
        query = f"query/{item.path}"
        queries[query] = item.text
        relevant[query] = {other.path: 1 for other in partners}
        candidates[query] = [other.path for other in _shuffle(partners + negatives, query)]
    listed = {path for paths in candidates.values() for path in paths}
    corpus = {item.path: item.text for item in pool if item.path in listed}
    return {"test": {"queries": queries, "corpus": corpus, "relevant_docs": relevant, "top_ranked": candidates}}


def _grade(a: Item, b: Item) -> int | None:
    """Relatedness of two items: 4 linked, 3 same module, 2 same subpackage, 1 same package, 0 different packages.

    None for pairs without a clear grade: linked pairs that are not comparable, items linked to a common third item,
    subpackages with the same name in two packages (numpy.linalg, scipy.linalg), and pairs at the top level of numpy,
    which has no subpackages. numpy and compiled functions hide their modules, so their pairs never have grade 3.
    """
    if linked(a, b):
        return 4 if comparable(a, b) else None
    if not unrelated(a, b):
        return None
    if a.package != b.package:
        return None if a.subpackage == b.subpackage else 0
    if a.subpackage != b.subpackage:
        return 1
    if a.subpackage == a.package:
        return None
    return 3 if a.module == b.module and not a.hides_module else 2


def _build_sts(pool: Sequence[Item]) -> dict[str, Any]:
    grades: dict[int, list[tuple[Item, Item, int]]] = {}
    for number, a in enumerate(pool):
        for b in pool[number + 1 :]:
            grade = _grade(a, b)
            if grade is not None:
                grades.setdefault(grade, []).append((a, b, grade))
    rows: list[tuple[Item, Item, int]] = []
    for grade in sorted(grades):
        uses: Counter[str] = Counter()
        for row in sorted(grades[grade], key=lambda row: _sort_key(row[0].path + row[1].path)):
            ends = (row[0].path, row[1].path)
            if uses.total() < 2 * _PAIRS_OF_GRADE and max(uses[end] for end in ends) < _MAX_PAIRS_OF_ITEM:
                uses.update(ends)
                rows.append(row)
    return _pair_columns(rows, "score")


_BUILDERS = {
    "Classification": _build_classification,
    "Clustering": _build_clustering,
    "PairClassification": _build_pair_classification,
    "Reranking": _build_reranking,
    "STS": _build_sts,
}


@functools.cache
def content_json(task_type: str) -> str:
    """Canonical JSON of a task's texts and labels: input of the content hash, and safe to cache.

    Args:
        task_type: A key of `_BUILDERS`, such as "STS".
    """
    content = _BUILDERS[task_type](_build_pools()[task_type])
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
