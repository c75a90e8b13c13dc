"""A spy on the forward passes of a sweep."""

from typing import Any

import pytest

from midlayer_embed.forward.one_pass import OnePassEncoder


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str | None, list[Any]]]:
    """The template and the texts of every pass over texts, but those that the plan measures the speed on."""
    found: list[tuple[str | None, list[Any]]] = []
    encode = OnePassEncoder.pooled_batches

    def spy(self: OnePassEncoder, texts: Any, *arguments: Any, **options: Any) -> Any:
        if options.get("description", "Encoding") != "Encoding":
            found.append((self.recipe.template, list(texts)))
        return encode(self, texts, *arguments, **options)

    monkeypatch.setattr(OnePassEncoder, "pooled_batches", spy)
    return found
