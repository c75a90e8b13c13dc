"""A file of texts over many chunks."""

from pathlib import Path

import pytest

from midlayer_embed.texts import files as text_files

N_TEXTS = 60


@pytest.fixture
def texts(sentences: list[str]) -> list[str]:
    """Repeats, empty texts and texts of their own, over many chunks."""
    return [f"{sentences[i % 8]} {i}" if i % 3 else sentences[i % 5] if i % 4 else "" for i in range(N_TEXTS)]


@pytest.fixture
def source(texts: list[str], tmp_path: Path) -> Path:
    path = tmp_path / "texts.txt"
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_files, "CHUNK_TEXTS", 5)
