"""mteb calls a MidLayerEncoder as it calls any SentenceTransformer, and gets the same vectors."""

from pathlib import Path
from typing import Any

import mteb
import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from support.tiny_tasks import tiny_tasks

from midlayer_embed import MidLayerEncoder

PROMPTS = {"query": "A question: ", "STS": "Alike or not: "}


def test_scores_equal_those_of_plain_sentence_transformers(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = MidLayerEncoder(llama_folder, 2, prompts=PROMPTS)
    plain = SentenceTransformer(modules=list(encoder), device="cpu", prompts=PROMPTS)
    scores: list[list[float]] = []
    vectors: list[list[np.ndarray]] = []
    real = SentenceTransformer.encode

    def recorded(model: SentenceTransformer, *args: Any, **kwargs: Any) -> Any:
        found = real(model, *args, **kwargs)
        vectors[-1].append(np.asarray(found))
        return found

    monkeypatch.setattr(SentenceTransformer, "encode", recorded)
    for model in (encoder, plain):
        scores.append([])
        vectors.append([])
        for task in tiny_tasks():
            result = mteb.evaluate(model, task, cache=None, show_progress_bar=False, co2_tracker=False)
            scores[-1].append(result.task_results[0].get_score())
    assert len(vectors[0]) == len(vectors[1]) > len(scores[0])
    for ours, theirs in zip(*vectors, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    # A hair's breadth may swap two pairs of the same similarity, but no more.
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    assert len(set(scores[0])) > 2
