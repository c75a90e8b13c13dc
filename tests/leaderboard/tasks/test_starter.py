"""The five starter tasks: fixed, disjoint, free of contradictions, and meaningful under mteb's own evaluation."""

import hashlib
import json
from collections import Counter
from dataclasses import replace

import mteb
import numpy as np
import pytest
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from sklearn.feature_extraction.text import HashingVectorizer

from leaderboard.tasks.starter import STARTER_TASKS
from midlayer_embed.texts import starter_content
from midlayer_embed.texts.starter_content import CLASSIFICATION_LABELS
from midlayer_embed.texts.starter_corpus import read_corpus

CLASSIFICATION, CLUSTERING, PAIRS, RERANKING, STS = STARTER_TASKS


def texts_of(task):
    content = task.content()
    if task is RERANKING:
        return [*content["test"]["queries"].values(), *content["test"]["corpus"].values()]
    if task is CLUSTERING:
        return [text for sentences in content["test"]["sentences"] for text in sentences]
    columns = ("text",) if task is CLASSIFICATION else ("sentence1", "sentence2")
    return [text for split in content.values() for column in columns for text in split[column]]


@pytest.fixture(scope="module")
def by_text():
    return {item.text: item for item in read_corpus()}


class RandomEncoder(AbsEncoder):
    """A vector that depends on the text's hash alone."""

    def __init__(self):
        self.mteb_model_meta = ModelMeta.create_empty({"name": "tests/random", "revision": "1"})
        self.seen = set()

    def vectors(self, texts):
        seeds = [int(hashlib.sha256(text.encode()).hexdigest()[:12], 16) for text in texts]
        return np.stack([np.random.default_rng(seed).standard_normal(64) for seed in seeds]).astype(np.float32)

    def encode(self, inputs, *, task_metadata, hf_split, hf_subset, prompt_type=None, **kwargs):
        texts = [text for batch in inputs for text in batch["text"]]
        self.seen.update(texts)
        return self.vectors(texts)


class CharacterEncoder(RandomEncoder):
    """Counts of character n-grams: knows spelling, no meaning."""

    def vectors(self, texts):
        hashing = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 5), n_features=2048, alternate_sign=False)
        return np.sqrt(hashing.transform(texts).toarray()).astype(np.float32)


@pytest.fixture(scope="module")
def scores(once):
    """Name of a task -> (scores of random vectors, scores of spelling, texts that were encoded)."""

    def evaluate():
        found = {}
        for task in STARTER_TASKS:
            runs = []
            for encoder in (RandomEncoder(), CharacterEncoder()):
                result = mteb.evaluate(encoder, task(), cache=None, show_progress_bar=False)
                runs.append(result.task_results[0].scores["test"][0])
            found[task.metadata.name] = (*runs, sorted(encoder.seen))
        return found

    return once("starter-scores", evaluate)


def test_order_and_types_of_the_tasks():
    types = [task.metadata.type for task in STARTER_TASKS]
    assert types == ["Classification", "Clustering", "PairClassification", "Reranking", "STS"]
    assert [task.metadata.name for task in STARTER_TASKS] == [f"Starter{kind}" for kind in types]


def test_about_a_thousand_texts_and_none_in_two_tasks():
    unique = [set(texts_of(task)) for task in STARTER_TASKS]
    assert sum(map(len, unique)) == len(set.union(*unique))
    assert 900 <= sum(map(len, unique)) <= 1150
    assert min(map(len, unique)) >= 120


def test_every_process_builds_the_same_tasks(fresh_answers):
    """That one has imported another part of scipy first, and has another hash seed and locale."""
    assert fresh_answers["starter content"] == [task.content_sha256() for task in STARTER_TASKS]


def test_importing_builds_nothing_and_registers_nothing(fresh_answers):
    assert fresh_answers["starter tasks"] == {"built": 0, "loaded": [], "registered": []}


def test_classes_are_balanced_and_large_enough():
    content = CLASSIFICATION.content()
    train, test = (Counter(content[split]["label"]) for split in ("train", "test"))
    assert set(train) == set(test) == set(range(len(CLASSIFICATION_LABELS)))
    assert min(train.values()) >= 8 and min(test.values()) >= 6
    assert max(test.values()) <= 2 * min(test.values())


def test_no_text_is_in_both_train_and_test():
    content = CLASSIFICATION.content()
    assert not set(content["train"]["text"]) & set(content["test"]["text"])


def test_labels_are_subpackages(by_text):
    for split in CLASSIFICATION.content().values():
        for text, label in zip(split["text"], split["label"], strict=True):
            assert by_text[text].path.split(".")[1] == CLASSIFICATION_LABELS[label]


def test_clustering_sets_differ_and_hold_every_label():
    content = CLUSTERING.content()["test"]
    assert len(content["labels"]) == len({json.dumps(sentences) for sentences in content["sentences"]}) == 5
    for sentences, labels in zip(content["sentences"], content["labels"], strict=True):
        assert len(sentences) == len(set(sentences)) == len(labels)
        assert min(Counter(labels).values()) >= 8 and len(set(labels)) >= 6


def test_pairs_are_linked_or_not_as_their_label_says(by_text):
    content = PAIRS.content()["test"]
    rows = list(zip(content["sentence1"], content["sentence2"], content["labels"], strict=True))
    assert len({frozenset(row[:2]) for row in rows}) == len(rows) >= 200
    assert sum(label for *_, label in rows) * 2 == len(rows)
    same_subpackage = 0
    for one, two, label in rows:
        a, b = by_text[one], by_text[two]
        assert (b.path in a.links or a.path in b.links) == bool(label), (a, b)
        same_subpackage += not label and a.subpackage == b.subpackage
    assert 0.3 < same_subpackage / (len(rows) / 2) < 0.9


def test_reranking_candidates_are_complete_and_true(by_text):
    content = RERANKING.content()["test"]
    assert len(content["queries"]) >= 100
    for query, text in content["queries"].items():
        links = by_text[text].links
        candidates, relevant = content["top_ranked"][query], content["relevant_docs"][query]
        assert len(candidates) == len(set(candidates)) == 15
        assert set(relevant) == set(candidates) & set(links)
        assert len(relevant) >= 1 and len(candidates) - len(relevant) >= 5
        assert by_text[text].path not in candidates
        assert set(candidates) <= set(content["corpus"])


def test_relevant_documents_do_not_come_first():
    content = RERANKING.content()["test"]
    first = [content["top_ranked"][query][0] in content["relevant_docs"][query] for query in content["queries"]]
    assert 0.02 < np.mean(first) < 0.4


def test_sts_grades_follow_the_ladder(by_text):
    content = STS.content()["test"]
    rows = list(zip(content["sentence1"], content["sentence2"], content["score"], strict=True))
    assert set(content["score"]) == {0, 1, 2, 3, 4}
    assert min(Counter(content["score"]).values()) >= 40
    for one, two, score in rows:
        a, b = by_text[one], by_text[two]
        assert (b.path in a.links) == (score == 4)
        if score in (2, 3):
            assert (a.package, a.subpackage) == (b.package, b.subpackage)
        if score == 3:
            assert a.module == b.module
        if score in (0, 1):
            assert (a.package == b.package) == bool(score) and a.subpackage != b.subpackage


@pytest.mark.parametrize("task", [PAIRS, STS])
def test_no_pair_contains_the_same_sentence_twice(task):
    content = task.content()["test"]
    for one, two in zip(content["sentence1"], content["sentence2"], strict=True):
        assert one.lower().strip(".") not in two.lower() and two.lower().strip(".") not in one.lower()


@pytest.mark.parametrize("task", STARTER_TASKS)
def test_loading_twice_builds_once_and_unloading_works(task):
    loaded = task()
    loaded.load_data()
    data = loaded.dataset
    loaded.load_data()
    assert loaded.dataset is data and loaded.data_loaded
    loaded.unload_data()
    assert loaded.dataset is None and not loaded.data_loaded
    loaded.load_data(num_proc=2, timer=None)
    assert loaded.data_loaded


@pytest.mark.parametrize("task", STARTER_TASKS)
def test_metadata_is_filled(task):
    assert task.metadata.is_filled()
    assert task.metadata.revision == starter_content.corpus_revision()
    task.metadata._validate_metadata()


@pytest.mark.parametrize("task", STARTER_TASKS)
def test_content_is_a_copy(task):
    task.content()["test"].clear()
    assert task.content()["test"]


@pytest.mark.parametrize(
    ("task", "low", "high"),
    [
        (CLASSIFICATION, 0.03, 0.22),
        (CLUSTERING, 0.0, 0.15),
        (PAIRS, 0.42, 0.60),
        (RERANKING, 0.18, 0.38),
        (STS, -0.15, 0.15),
    ],
)
def test_random_vectors_score_as_chance(scores, task, low, high):
    assert low < scores[task.metadata.name][0]["main_score"] < high


@pytest.mark.parametrize("task", STARTER_TASKS)
def test_spelling_beats_chance_but_does_not_solve_it(scores, task):
    random, spelling, _ = scores[task.metadata.name]
    assert random["main_score"] + 0.12 < spelling["main_score"] < 0.95


@pytest.mark.parametrize("task", STARTER_TASKS)
def test_scores_carry_the_content_hash(scores, task):
    assert scores[task.metadata.name][0]["content_sha256"] == task.content_sha256()
    json.dumps(scores[task.metadata.name][0])


@pytest.mark.parametrize("task", STARTER_TASKS)
def test_mteb_encodes_exactly_the_texts_of_the_content(scores, task):
    # Of the training rows mteb only encodes those that its ten draws select.
    assert set(scores[task.metadata.name][2]) <= set(texts_of(task))
    assert len(scores[task.metadata.name][2]) >= 0.95 * len(set(texts_of(task)))


def test_too_few_texts_of_a_label_are_named(monkeypatch):
    kept = tuple(item for item in read_corpus() if item.subpackage != "interpolate")
    monkeypatch.setattr(starter_content, "read_corpus", lambda: kept)
    with pytest.raises(ValueError, match=r"found 0 texts of subpackage 'interpolate' .* expected 22 to 28 .*scipy"):
        starter_content._build_pools.__wrapped__()


def test_too_few_links_are_named(monkeypatch):
    lonely = tuple(replace(item, links=()) for item in read_corpus())
    monkeypatch.setattr(starter_content, "read_corpus", lambda: lonely)
    with pytest.raises(ValueError, match=r"linked texts for Starter\w+, expected about \d+"):
        starter_content._build_pools.__wrapped__()
