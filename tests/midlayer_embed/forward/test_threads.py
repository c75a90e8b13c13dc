"""Encoders that several threads use at once, as a server does."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder


@pytest.mark.parametrize("kind", ["every layer", "one layer", "a site"])
def test_threads_get_the_vectors_of_their_own_texts(llama_folder: Path, sentences: list[str], kind: str) -> None:
    site = "attn_out" if kind == "a site" else "resid_post"
    encoder = MidLayerEncoder(llama_folder, 2) if kind == "one layer" else LayerwiseEncoder(llama_folder, site=site)
    parts = [sentences[: 1 + number % 8] for number in range(160)]
    expected = [encoder.encode(part) for part in parts[:8]]
    with ThreadPoolExecutor(8) as threads:
        for number, found in enumerate(threads.map(encoder.encode, parts)):
            np.testing.assert_allclose(found, expected[number % 8], atol=1e-5)
