"""push_to_hub and save_to_hub, against a stand-in for the Hub: what arrives is a whole model that anyone loads."""

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard, ModelCardData
from sentence_transformers import SentenceTransformer
from sentence_transformers.base import model as base_model

from midlayer_embed import MidLayerEncoder

_load_file_path = base_model.load_file_path
REPO = "somebody/tiny-llama-layer-2"


class _Hub:
    """Keeps what is uploaded in a folder."""

    def __init__(self, folder: Path, readme: Path | None = None) -> None:
        self.folder, self.readme = folder, readme
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, token: str | None = None) -> "_Hub":
        self.calls.append(("token", {"token": token}))
        return self

    def create_repo(self, repo_id: str, **kwargs: Any) -> SimpleNamespace:
        self.calls.append(("create_repo", kwargs))
        return SimpleNamespace(repo_id=repo_id)

    def create_branch(self, **kwargs: Any) -> None:
        self.calls.append(("create_branch", kwargs))

    def upload_folder(self, *, folder_path: str, **kwargs: Any) -> SimpleNamespace:
        self.calls.append(("upload_folder", kwargs))
        shutil.copytree(folder_path, self.folder, dirs_exist_ok=True)
        return SimpleNamespace(commit_url="https://hub/commit/1", pr_url="https://hub/pr/1")

    def file_path(self, repo: str, file: str, **kwargs: Any) -> str | None:
        if repo != REPO:  # a folder
            return _load_file_path(repo, file, **kwargs)
        assert file == "README.md"
        return None if self.readme is None else str(self.readme)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Hub:
    stand_in = _Hub(tmp_path / "uploaded")
    monkeypatch.setattr(base_model, "HfApi", stand_in)
    monkeypatch.setattr(base_model, "load_file_path", stand_in.file_path)
    return stand_in


@pytest.mark.parametrize("method", ["push_to_hub", "save_to_hub"])
def test_what_arrives_is_a_whole_model(
    llama_folder: Path, sentences: list[str], tmp_path: Path, hub: _Hub, method: str
) -> None:
    base = Path(shutil.copytree(llama_folder, tmp_path / "base"))
    (base / "README.md").write_text("---\nlicense: mit\nlanguage: en\n---\n# Base\n")
    encoder = MidLayerEncoder(
        base, 2, prompts={"query": "A "}, truncate_dim=20, similarity_fn_name="dot", include_prompt=False
    )
    assert getattr(encoder, method)(REPO, token="secret", private=True) == "https://hub/commit/1"
    assert ("token", {"token": "secret"}) in hub.calls
    assert dict(hub.calls)["create_repo"]["private"] is True
    names = {str(path.relative_to(hub.folder)) for path in hub.folder.rglob("*") if path.is_file()}
    assert names == {
        "1_Pooling/config.json",
        "README.md",
        "config.json",
        "config_sentence_transformers.json",
        "model.safetensors",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    plain = SentenceTransformer(str(hub.folder), device="cpu")
    for kwargs in ({}, {"prompt_name": "query"}):
        np.testing.assert_allclose(
            plain.encode(sentences, **kwargs),
            encoder.encode(sentences, **kwargs),
            atol=1e-6,  # type: ignore[call-overload]
        )
    assert (plain.similarity_fn_name, plain.truncate_dim) == ("dot", 20)
    text = (hub.folder / "README.md").read_text()
    assert str(tmp_path) not in text
    assert f'SentenceTransformer("{REPO}")' in text
    card = ModelCard(text)
    assert isinstance(card.data, ModelCardData)
    assert (card.data.license, card.data.library_name) == ("mit", "sentence-transformers")
    assert card.data.pipeline_tag == "sentence-similarity"
    assert all("secret" not in path.read_text(errors="ignore") for path in hub.folder.rglob("*") if path.is_file())


def test_a_pull_request_onto_a_branch(llama_folder: Path, hub: _Hub) -> None:
    encoder = MidLayerEncoder(llama_folder, 2)
    url = encoder.push_to_hub(REPO, revision="middle", create_pr=True, exist_ok=True, commit_message="Layer 2")
    assert url == "https://hub/pr/1"
    calls = dict(hub.calls)
    assert calls["create_branch"]["branch"] == "middle"
    assert calls["upload_folder"]["revision"] == "middle"
    assert calls["upload_folder"]["commit_message"] == "Layer 2"
    tip = calls["upload_folder"]["commit_description"]
    # Loaded by people who have never heard of this package.
    assert "from sentence_transformers import SentenceTransformer\n" in tip
    assert "model = SentenceTransformer(" in tip
    assert "MidLayerEncoder" not in tip.split("```python")[1]


def test_a_card_that_is_there_is_kept_unless_told(llama_folder: Path, tmp_path: Path, hub: _Hub) -> None:
    hub.readme = tmp_path / "README.md"
    encoder = MidLayerEncoder(llama_folder, 2)
    encoder.push_to_hub(REPO)
    assert not (hub.folder / "README.md").exists()
    encoder.push_to_hub(REPO, replace_model_card=True)
    assert (hub.folder / "README.md").exists()
