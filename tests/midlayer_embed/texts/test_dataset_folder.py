"""Datasets in folders laid out as on the Hub, whole or in part."""

import gzip
import json
import logging
import os
import shutil
import socket
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants
from support.tiny_mirror import write_mirror, write_parquet, write_readme

from midlayer_embed.errors import InputError
from midlayer_embed.texts.corpora import dataset_texts
from midlayer_embed.texts.dataset_arguments import check_dataset

_CONFIG = "wikitext-103-raw-v1"


@pytest.fixture(autouse=True)
def _nothing_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the datasets library prepares goes with the test, and the network cannot be reached."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("the network was asked")

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def _write_jsonl(path: Path, *texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))


@pytest.fixture
def wikitext(tmp_path: Path) -> Path:
    """A copy of WikiText that lists four configurations with three splits, and has two files: one split of one."""
    folder = tmp_path / "data/Salesforce/wikitext"
    names = ("wikitext-103-raw-v1", "wikitext-103-v1", "wikitext-2-raw-v1", "wikitext-2-v1")
    folder.mkdir(parents=True)
    write_readme(folder, {name: {s: f"{name}/{s}-*" for s in ("test", "train", "validation")} for name in names[::-1]})
    for number, texts in enumerate(([" = Mills = \n", " A mill . \n"], ["", " = = History = = \n", " It is old . \n"])):
        write_parquet(folder / _CONFIG / f"test-0000{number}-of-00002.parquet", {"text": texts})
    return folder


@pytest.mark.parametrize("has_readme", [True, False])
def test_wikitext_is_read_from_a_folder_that_has_only_its_test_split(
    wikitext: Path, tmp_path: Path, has_readme: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not has_readme:
        (wikitext / "README.md").unlink()
        write_parquet(wikitext / "wikitext-2-raw-v1/test-00000-of-00001.parquet", {"text": ["Of another one ."]})
    # Of a folder of the same name in the working directory, nothing is read.
    _write_jsonl(tmp_path / "here/Salesforce/wikitext" / _CONFIG / "test.jsonl", "Not this one .")
    monkeypatch.chdir(tmp_path / "here")
    assert dataset_texts("wikitext", data_dir=tmp_path / "data") == ["A mill .", "", "It is old ."]
    check_dataset("wikitext", data_dir=tmp_path / "data")


def test_what_is_missing_of_a_dataset_is_named(wikitext: Path, tmp_path: Path) -> None:
    root = tmp_path / "data"
    which = f"configuration '{_CONFIG}' in '{wikitext}'"
    for keywords, said in [
        ({"data_dir": tmp_path / "nowhere"}, f"data_dir: there is no folder '{tmp_path}/nowhere'"),
        ({"data_dir": wikitext / "README.md"}, f"data_dir: there is no folder '{wikitext}/README.md'"),
        ({"data_dir": ""}, "data_dir: expected a path, got an empty string"),
        (
            {"data_dir": tmp_path},
            f"dataset: Salesforce/wikitext not found: there is no folder '{tmp_path}/Salesforce/wikitext'",
        ),
        (
            {"data_dir": root, "config": "wikitext-4"},
            f"config: '{wikitext}' has no configuration 'wikitext-4'; it has wikitext-2-v1, wikitext-2-raw-v1, "
            "wikitext-103-v1, wikitext-103-raw-v1",
        ),
        (
            {"data_dir": root, "split": "train"},
            f"split: {which} has no split 'train': there are no files {_CONFIG}/train-*; it has test",
        ),
        ({"data_dir": root, "split": "dev"}, f"split: {which} has no split 'dev'; it has test"),
        ({"data_dir": root, "split": "test+dev"}, f"split: {which} has no split 'dev'; it has test"),
        ({"data_dir": root, "split": ""}, f"split: {which} has no split ''; it has test"),
        (
            {"data_dir": root, "config": "wikitext-2-v1"},
            f"split: configuration 'wikitext-2-v1' in '{wikitext}' has no split 'test': there are no files "
            "wikitext-2-v1/test-*; it has none",
        ),
    ]:
        for function in (check_dataset, dataset_texts):  # told before anything is read, and in Python
            with pytest.raises(InputError) as error:
                function("wikitext", **keywords)
            assert str(error.value) == said
    with pytest.raises(InputError, match="^config: .* has several configurations, name one; it has wikitext-2-v1, "):
        dataset_texts("Salesforce/wikitext", data_dir=root)
    with pytest.raises(InputError, match=r"^config: .* has no configuration '\.\.'"):
        dataset_texts("wikitext", data_dir=root, config="..")
    for name in ("../data/Salesforce/wikitext", str(wikitext), "Salesforce/", "", "a/b/c", "org/my data"):
        with pytest.raises(InputError, match="^dataset: expected a name such as 'org/name' or 'name', got "):
            dataset_texts(name, data_dir=root)


def test_a_folder_without_a_readme_or_without_data(wikitext: Path, tmp_path: Path) -> None:
    (wikitext / "README.md").unlink()
    with pytest.raises(InputError, match=r"^config: .* has no configuration 'a': neither README.md nor a folder names"):
        dataset_texts("wikitext", data_dir=tmp_path / "data", config="a")
    with pytest.raises(InputError, match=rf"^split: '{wikitext}/{_CONFIG}' has no split 'train'; it has test$"):
        dataset_texts("wikitext", data_dir=tmp_path / "data", split="train")
    shutil.rmtree(wikitext / _CONFIG)
    (wikitext / _CONFIG).mkdir()
    (wikitext / _CONFIG / "LICENSE").write_text("as you like")
    for dataset, config, where in (("wikitext", None, wikitext / _CONFIG), ("Salesforce/wikitext", None, wikitext)):
        with pytest.raises(InputError, match=rf"^dataset: the folder '{where}' holds no data$"):
            dataset_texts(dataset, data_dir=tmp_path / "data", config=config)


def test_files_that_cannot_be_read_are_one_line(wikitext: Path, tmp_path: Path) -> None:
    (wikitext / _CONFIG / "test-00001-of-00002.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match=rf"^dataset: '{wikitext}' cannot be read: ") as error:
        dataset_texts("wikitext", data_dir=tmp_path / "data")
    assert len(str(error.value).splitlines()) == 1
    for readme in (
        "---\nconfigs: [\n---\n",
        "---\nconfigs: 3\n---\n",
        "---\nconfigs:\n- name: a\n---\n",
        "---\n- a\n---\n",
    ):
        (wikitext / "README.md").write_text(readme)
        with pytest.raises(InputError, match=rf"^dataset: '{wikitext}/README.md' cannot be read: ") as error:
            dataset_texts("wikitext", data_dir=tmp_path / "data")
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["a folder [of] *?", "ümlaut#1%20", "~"])
def test_any_name_of_a_folder_is_read(wikitext: Path, tmp_path: Path, name: str) -> None:
    shutil.move(tmp_path / "data", tmp_path / name)
    assert len(dataset_texts("wikitext", data_dir=tmp_path / name)) == 3
    os.symlink(tmp_path / name, tmp_path / "link")
    assert len(dataset_texts("wikitext", data_dir=tmp_path / "link")) == 3


def test_datasets_of_tasks_are_read_in_each_of_their_layouts(tmp_path: Path) -> None:
    write_mirror(tmp_path)
    assert len(dataset_texts("mteb/stsbenchmark-sts", column="sentence1", data_dir=tmp_path)) == 8
    assert len(dataset_texts("mteb/amazon_counterfactual", data_dir=tmp_path)) == 32
    assert len(dataset_texts("mteb/sts17-crosslingual-sts", column="sentence2", data_dir=tmp_path)) == 16
    reranking = {"corpus": ["one text", "another text", "a third"], "queries": ["one query", "a query"]}
    for config, texts in reranking.items():
        assert dataset_texts("mteb/AskUbuntuDupQuestions", config=config, data_dir=tmp_path) == texts
    with pytest.raises(InputError, match="^column: .*AskUbuntuDupQuestions"):  # the relevant documents have ids alone
        dataset_texts("mteb/AskUbuntuDupQuestions", data_dir=tmp_path)


def test_folders_are_read_as_the_datasets_library_reads_them(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    for split, text in (("train", "of train"), ("test", "of test")):
        _write_jsonl(whole / "data" / f"{split}.jsonl", text, f"more {text}")
    (whole / "README.md").write_text("# No list of configurations\n")
    assert dataset_texts(str(whole)) == ["of test", "more of test"]
    assert dataset_texts(str(whole), split="train+test[:1]") == ["of train", "more of train", "of test"]
    assert dataset_texts(str(whole), split="test[50%:]") == ["more of test"]
    assert dataset_texts(str(whole), config="default") == dataset_texts(str(whole))

    # One file of no split is all of train; a table's separator is that of its configuration.
    _write_jsonl(tmp_path / "one" / "texts.jsonl", "alone")
    with pytest.raises(InputError, match="^split: .* has no split 'test'; it has train$"):
        dataset_texts(str(tmp_path / "one"))
    assert dataset_texts(str(tmp_path / "one"), split="train") == ["alone"]
    tables = tmp_path / "tables"
    (tables / "de").mkdir(parents=True)
    (tables / "de" / "test.csv").write_text("text;number\nein Satz, mit Komma;1\n")
    (tables / "README.md").write_text("---\nconfigs:\n- config_name: de\n  data_dir: de\n  sep: ;\n---\n")
    assert dataset_texts(str(tables)) == ["ein Satz, mit Komma"]
    (tables / "README.md").write_text("---\nconfigs:\n- config_name: de\n  data_files: de/*.csv\n  sep: ;\n---\n")
    assert dataset_texts(str(tables), split="train") == ["ein Satz, mit Komma"]
    with gzip.open(tables / "test.txt.gz", "wt") as file:
        file.write("a line\nanother\n")
    (tables / "README.md").unlink()
    shutil.rmtree(tables / "de")
    (tables / "test.png").write_bytes(b"a picture beside the texts")
    assert dataset_texts(str(tables)) == ["a line", "another"]


def test_saved_datasets_are_read(tmp_path: Path) -> None:
    table = datasets.Dataset.from_dict({"text": ["one", "two"]})
    datasets.DatasetDict({"test": table}).save_to_disk(tmp_path / "saved")
    assert dataset_texts(str(tmp_path / "saved")) == ["one", "two"]


def test_a_readme_that_names_files_elsewhere_leads_nowhere(tmp_path: Path) -> None:
    _write_jsonl(tmp_path / "secret.jsonl", "not part of it")
    (tmp_path / "data/org/data").mkdir(parents=True)
    for path in (
        "https://example.org/test.jsonl",
        "hf://datasets/org/other/test.jsonl",
        str(tmp_path / "secret.jsonl"),
    ):
        write_readme(tmp_path / "data/org/data", {"default": {"test": path}})
        with pytest.raises(InputError, match="^split: .* has no split 'test': there are no files .*; it has none$"):
            dataset_texts("org/data", data_dir=tmp_path / "data")


def test_reading_a_folder_says_nothing(wikitext: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (wikitext / "README.md").write_text("# No metadata\n")
    with caplog.at_level(logging.WARNING):
        dataset_texts("wikitext", data_dir=tmp_path / "data")
    assert caplog.messages == []
