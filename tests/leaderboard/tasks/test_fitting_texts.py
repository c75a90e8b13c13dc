"""Texts that a transform is fitted on: which they are, and their draw."""

import random
from pathlib import Path

import pytest
from datasets import Dataset, DatasetDict
from support.tiny_tasks import TinyClassification, TinyClustering, TinyPairClassification, TinyReranking, TinySTS

from leaderboard.tasks.benchmarks import get_task
from leaderboard.tasks.fitting_texts import draw, fit_on, other_items, sha256_of


@pytest.mark.parametrize("n", [1, 7, 50, 1000])
def test_a_draw_depends_on_the_texts_and_the_seed_alone(n: int) -> None:
    texts = [f"text {number}" for number in range(300)]
    expected = draw(texts, n, seed=3)
    assert len(expected) == min(n, 300) and expected == sorted(set(expected))
    for seed in range(3):
        shuffled = [*texts, *texts[:50], "", " \n"]
        random.Random(seed).shuffle(shuffled)
        assert draw(iter(shuffled), n, seed=3) == expected
    if n < 300:
        assert draw(texts, n, seed=4) != expected


def test_a_draw_is_even_over_the_texts() -> None:
    drawn = [int(text) for seed in range(50) for text in draw(map(str, range(200)), 20, seed=seed)]
    assert 90 < sum(drawn) / len(drawn) < 110


def test_other_splits_are_read_without_labels() -> None:
    task = TinyClassification()
    task.load_data()
    task.dataset["validation"] = (
        task.dataset["train"].select(range(2)).map(lambda row: {"text": row["text"] + " again"})
    )
    assert set(other_items(task)) == {*task.dataset["train"]["text"], *task.dataset["validation"]["text"]}
    for kind in (TinyClustering, TinyReranking, TinySTS):
        other = kind()
        other.load_data()
        assert list(other_items(other)) == []


def test_rows_of_lists_pairs_and_subsets_are_read() -> None:
    pairs = TinyPairClassification()
    pairs.load_data()
    row = {"sentence1": [["a", "b"]], "sentence2": [["c", "a"]], "labels": [[0, 1]]}
    pairs.dataset = DatasetDict({**pairs.dataset, "train": Dataset.from_dict(row)})
    assert list(other_items(pairs)) == ["a", "b", "c", "a"]
    sets = TinyClustering()
    sets.load_data()
    sets.dataset["dev"] = Dataset.from_dict({"sentences": [["x", "y"]], "labels": [[0, 1]]})
    assert list(other_items(sets)) == ["x", "y"]
    many = get_task("MTOPDomainClassification")
    table = Dataset.from_dict({"text": ["hello"], "label": [0]})
    many.dataset = {language: DatasetDict({"train": table, "test": table}) for language in ("en", "de")}
    assert list(other_items(many)) == ["hello"] * len(many.hf_subsets)


def test_a_corpus_has_the_name_of_its_file_or_of_its_texts(tmp_path: Path) -> None:
    path = tmp_path / "wiki.txt"
    path.write_text("b\na\n\nb\n")
    assert fit_on(path) == fit_on(str(path))
    assert (fit_on(path).name, fit_on(path).texts, fit_on(path).is_corpus) == ("corpus:wiki.txt", ("a", "b"), True)
    assert fit_on(["b", "a"]).name == f"corpus:{sha256_of(['a', 'b'])[:12]}" != fit_on(["b", "c"]).name
    assert not fit_on("train").is_corpus and not fit_on("task").is_corpus
    with pytest.raises(ValueError, match="^transform_texts: expected texts that are not blank, got none$"):
        fit_on(["", " "])
