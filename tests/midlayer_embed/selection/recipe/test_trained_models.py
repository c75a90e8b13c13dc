"""What "auto" makes of a sentence-transformers model: it keeps what it was trained with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.tiny_models import save_with_modules

from midlayer_embed import LayerwiseEncoder, select_recipe
from midlayer_embed.selection.recipe.choice import recipe_summary


@pytest.fixture(scope="module")
def texts(sentences: list[str]) -> list[str]:
    return [f"{first} {second}" for first in sentences for second in sentences[:5] if first != second]


def test_auto_keeps_what_a_trained_model_has(
    llama_folder: Path, texts: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_with_modules(llama_folder, tmp_path / "model", pooling="max")
    layers_of_passes: list[list[int]] = []
    batches = LayerwiseEncoder.pooled_batches

    def counted(self: LayerwiseEncoder, some: list[str], layers: Any, **keywords: Any) -> Iterator[Any]:
        layers_of_passes.append(list(layers))
        return batches(self, some, layers, **keywords)

    monkeypatch.setattr(LayerwiseEncoder, "pooled_batches", counted)
    selection = select_recipe(folder, texts)
    assert layers_of_passes == [[3]] * 4  # vectors of no other layer are kept
    assert [(*one.kind, one.layer) for one in selection.candidates] == [(None, "max", 3)]
    assert (selection.recipe.transform, selection.stability, selection.runner_up) == (None, 1, None)
    assert any("a sentence-transformers model" in line for line in recipe_summary(selection))
    echo = select_recipe(folder, texts, ("eol", "echo"), ("whiten",), poolings=("mean",), n_resamples=0)
    assert {(*one.kind, one.layer) for one in echo.candidates} == {("eol", "mean", 3), ("echo", "mean", 3)}
    assert echo.recipe.transform == "whiten:10"
