"""How much faster a middle layer embeds: texts a second of ours against plain SentenceTransformer.

    python benchmarks/encode_at_a_layer.py [--model MODEL] [--layer K] [--texts N]

All in this one process, on the same texts; the vectors of a layer are asserted to be equal. Ours is `encode`, as
everybody calls it, and `encode_texts`, which fills batches by tokens; plain is the exported folder, and all blocks.
"""

import argparse
import platform
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from midlayer_embed import MidLayerEncoder
from midlayer_embed.bulk import encode_texts
from midlayer_embed.export import export_encoder


def texts(n: int) -> list[str]:
    """Sentences of about 5 to 120 words."""
    from midlayer_embed.starter_corpus import read_corpus

    found = [item.text for item in read_corpus()]
    rng = np.random.default_rng(0)
    # Mostly short, some long, as texts are.
    return [" ".join(rng.choice(found, size=size)) for size in np.minimum(rng.geometric(0.4, size=n), 10)]


def main() -> None:
    """Prints both ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--layer", type=int, default=12)
    parser.add_argument("--texts", type=int, default=200)
    arguments = parser.parse_args()
    corpus = texts(arguments.texts)
    encoder = MidLayerEncoder(arguments.model, arguments.layer)
    with tempfile.TemporaryDirectory() as folder:
        export_encoder(encoder, f"{folder}/middle")
        export_encoder(MidLayerEncoder(arguments.model, -1), f"{folder}/whole")
        exported, whole = SentenceTransformer(f"{folder}/middle"), SentenceTransformer(f"{folder}/whole")
    ways: dict[str, Callable[[list[str]], np.ndarray]] = {
        "encode_texts": lambda batch: encode_texts(encoder, batch),
        "MidLayerEncoder.encode": encoder.encode,
        "exported folder, plain": exported.encode,
        "all blocks, plain": whole.encode,
    }
    rates, vectors = {}, {}
    for name, way in ways.items():
        way(corpus[:64])
        start = time.perf_counter()
        vectors[name] = way(corpus)
        rates[name] = len(corpus) / (time.perf_counter() - start)
    for name in ("encode_texts", "MidLayerEncoder.encode"):
        np.testing.assert_allclose(vectors[name], vectors["exported folder, plain"], atol=1e-4)
    print(
        f"model {arguments.model}, layer {encoder.layer} of {encoder.n_layers - 1}, {len(corpus)} texts, "
        f"{torch.get_num_threads()} threads, {platform.machine()}"
    )
    for name, rate in rates.items():
        others = (f"{rate / rates[plain]:.2f}x {plain}" for plain in ("exported folder, plain", "all blocks, plain"))
        print(f"{name:>24}: {rate:6.1f} texts/s = {', '.join(others)}")


if __name__ == "__main__":
    main()
