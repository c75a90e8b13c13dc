"""Searches that are cut: what is kept, how the next one goes on, and what makes it start afresh."""

import json
import logging
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.forks import Fork
from support.tiers import sampled, slow

from midlayer_embed import LayerwiseEncoder, RecipeSelection, select_recipe
from midlayer_embed.selection.recipe.kept_passes import KeptPasses

# The command, killed before it puts its n-th file in place.
_KILLED = """
import os, signal, sys
from midlayer_embed.cli import main
replace, left = os.replace, int(sys.argv.pop(1))
def replace_or_die(source, target):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = replace_or_die
sys.exit(main(sys.argv[1:]))
"""


class _Cut(Exception):
    pass


@pytest.fixture(scope="module")
def texts(sentences: list[str]) -> list[str]:
    return [f"{first} {second}" for first in sentences for second in sentences[:3] if first != second]


@pytest.fixture(scope="module")
def whole(llama_folder: Path, texts: list[str]) -> RecipeSelection:
    return select_recipe(llama_folder, texts, n_resamples=3)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The templates of the passes that are run."""
    seen: list[str | None] = []
    batches = LayerwiseEncoder.pooled_batches

    def counted(self: LayerwiseEncoder, *arguments: Any, **keywords: Any) -> Iterator[Any]:
        seen.append(self.recipe.template)
        return batches(self, *arguments, **keywords)

    monkeypatch.setattr(LayerwiseEncoder, "pooled_batches", counted)
    return seen


def _cut_in(number: int, monkeypatch: pytest.MonkeyPatch, error: type[BaseException] = _Cut) -> None:
    """Lets the pass of a number, from 1, fail after its first batch."""
    batches, count = LayerwiseEncoder.pooled_batches, 0

    def cut(self: LayerwiseEncoder, *arguments: Any, **keywords: Any) -> Iterator[Any]:
        nonlocal count
        count += 1
        for pooled in batches(self, *arguments, **keywords):
            yield pooled
            if count == number:
                raise error

    monkeypatch.setattr(LayerwiseEncoder, "pooled_batches", cut)


@pytest.mark.parametrize("number", sampled(range(1, 13), 1, 6, 12))
def test_a_search_that_was_cut_runs_only_the_passes_that_are_missing(
    llama_folder: Path,
    texts: list[str],
    whole: RecipeSelection,
    tmp_path: Path,
    passes: list[str | None],
    number: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Cut):
        _cut_in(number, patch)
        select_recipe(llama_folder, texts, n_resamples=3, folder=tmp_path, batch_tokens=64)
    passes.clear()
    again = select_recipe(llama_folder, texts[::-1], n_resamples=3, folder=tmp_path, batch_tokens=64)
    assert passes == [*[None] * 4, *["eol"] * 4, *["echo"] * 4][number - 1 :]
    assert again.recipe == whole.recipe
    for one, other in zip(again.candidates, whole.candidates, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-6)
    assert sorted(path.name for path in (tmp_path / "passes").iterdir()) == [
        "echo.json",
        "eol.json",
        "lock",
        "none.json",
    ]


def test_what_is_kept_gives_the_same_numbers(
    llama_folder: Path, texts: list[str], whole: RecipeSelection, tmp_path: Path, passes: list[str | None]
) -> None:
    first = select_recipe(llama_folder, texts, n_resamples=3, folder=tmp_path)
    assert len(passes) == 12
    second = select_recipe(llama_folder, texts, n_resamples=3, folder=tmp_path)
    assert len(passes) == 12
    assert first.candidates == second.candidates == whole.candidates
    assert first.stability == second.stability == whole.stability
    one_more = select_recipe(
        llama_folder,
        texts,
        (None, "eol", "echo", "query: {text}"),
        n_resamples=3,
        folder=tmp_path,
        purpose="clustering",
    )
    assert passes[12:] == ["query: {text}"] * 4
    assert len(one_more.candidates) == 4 * 3 * 4


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"texts": ["another text", "and one more", "and a third one", "four of them"]}, "texts"),
        ({"final_norm": False}, "recipe"),
        ({"max_seq_length": 40}, "recipe, limit"),
        ({"dtype": "float64"}, "dtype"),
        ({"criterion": "drop-retrieval"}, "metrics, texts"),
        ({"seed": 1}, "texts, seed"),
        ({"n_resamples": 2}, "n_resamples"),
        ({"poolings": ("mean",)}, "recipe, poolings"),
        ({"batch_tokens": 77}, "batch_tokens"),
        ({"model": "gpt_neox"}, "model, revision"),
    ],
)
def test_what_was_measured_otherwise_is_not_used(
    llama_folder: Path,
    tiny_model: Callable[[str], Path],
    texts: list[str],
    tmp_path: Path,
    passes: list[str | None],
    caplog: pytest.LogCaptureFixture,
    changed: dict[str, Any],
    words: str,
) -> None:
    arguments: dict[str, Any] = {"model": llama_folder, "texts": texts, "templates": (None,), "n_resamples": 3}
    select_recipe(**arguments, folder=tmp_path)
    if "model" in changed:
        changed = {"model": tiny_model(changed["model"])}
    with caplog.at_level(logging.WARNING):
        kept = select_recipe(**{**arguments, **changed}, folder=tmp_path)
    assert len(passes) == 4 + (2 if "criterion" in changed else 4)
    assert f"starting over: what was measured earlier differs in {words}" in caplog.text
    assert kept.candidates == select_recipe(**{**arguments, **changed}).candidates


def test_vectors_of_other_texts_are_not_taken_for_those_of_a_pass(
    llama_folder: Path, texts: list[str], tmp_path: Path
) -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(_Cut):
        _cut_in(2, patch)
        select_recipe(llama_folder, texts, (None,), n_resamples=0, folder=tmp_path)
    others = texts[3:]
    found = select_recipe(llama_folder, others, (None,), n_resamples=0, folder=tmp_path)
    assert found.candidates == select_recipe(llama_folder, others, (None,), n_resamples=0).candidates
    assert not list((tmp_path / "passes").glob("*.f4"))


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"settings": 3}', '{"settings": {}, "values": []}'])
def test_a_file_that_holds_something_else_is_not_used(
    llama_folder: Path, texts: list[str], whole: RecipeSelection, tmp_path: Path, content: str
) -> None:
    (tmp_path / "passes").mkdir()
    (tmp_path / "passes" / "none.json").write_text(content)
    found = select_recipe(llama_folder, texts, n_resamples=3, folder=tmp_path)
    assert found.candidates == whole.candidates


def test_one_search_at_a_time_uses_a_folder(llama_folder: Path, texts: list[str], tmp_path: Path) -> None:
    with KeptPasses(tmp_path), pytest.raises(ValueError, match="folder: another process is searching in"):
        select_recipe(llama_folder, texts, folder=tmp_path)
    select_recipe(llama_folder, texts, (None,), folder=tmp_path, n_resamples=0)


@pytest.mark.parametrize("kept", [True, False])
def test_an_interrupt_says_what_is_kept(llama_folder: Path, texts: list[str], tmp_path: Path, kept: bool) -> None:
    folder = tmp_path if kept else None
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt) as interrupt:
        _cut_in(6, patch, KeyboardInterrupt)
        select_recipe(llama_folder, texts, folder=folder)
    words = "1 template and 1 pass more are kept; run the same command again to resume" if kept else "nothing is kept"
    assert str(interrupt.value).startswith(words)
    assert not kept or not [path for path in (tmp_path / "passes").iterdir() if "partial" in path.name]


def test_a_full_disk_is_told_before_the_pass(llama_folder: Path, texts: list[str], tmp_path: Path) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.posix_fallocate", full)
        with pytest.raises(ValueError, match="texts: their vectors need .* No space left on device; measure fewer"):
            select_recipe(llama_folder, texts, folder=tmp_path)
    assert not list((tmp_path / "passes").glob("*.f4"))


@pytest.mark.process
@pytest.mark.parametrize("number", [3, *slow(1, 5, 10)])  # two passes and the values of each template, then the tables
def test_a_killed_command_gives_the_same_tables_when_it_is_run_again(
    llama_folder: Path, texts: list[str], tmp_path: Path, number: int
) -> None:
    file, folder = tmp_path / "texts.txt", tmp_path / "out"
    file.write_text("\n".join(texts))
    arguments = ["recipe", str(llama_folder), "--texts", str(file), "--quiet", "--out", str(folder)]
    fork = Fork([sys.executable, "-c", _KILLED, str(number), *arguments])
    assert fork.wait() == -signal.SIGKILL
    assert not (folder / "recipes.csv").exists()
    fork = Fork([sys.executable, "-c", _KILLED, "0", *arguments])
    assert fork.wait() == 0
    tables = sorted(path.name for path in folder.iterdir())
    assert tables == ["passes", "recipes.csv", "recipes.parquet"]
    again = select_recipe(llama_folder, texts)
    assert (folder / "recipes.csv").read_text().splitlines()[1].startswith(f"{again.ranked[0].template or ''},")
    kept = json.loads((folder / "passes" / "none.json").read_text())
    values = {(*one.kind, one.layer): one.value for one in again.candidates}
    np.testing.assert_allclose(kept["values"][0], [values[None, "mean", layer] for layer in range(4)], atol=1e-6)
