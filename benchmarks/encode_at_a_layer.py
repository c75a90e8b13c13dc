"""How much faster a middle layer embeds: texts a second of MidLayerEncoder against plain SentenceTransformer.

    python benchmarks/encode_at_a_layer.py [--model MODEL] [--layer K] [--texts N]

Two ratios, each measured in this one process, in turns on the same texts, and the vectors asserted to be equal:
over all blocks through plain SentenceTransformer, and over the exported folder through plain SentenceTransformer.
"""

import argparse
import platform
import tempfile
import time

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from midlayer_embed import MidLayerEncoder
from midlayer_embed.export import export_encoder


def texts(n: int) -> list[str]:
    """Sentences of about 5 to 120 words."""
    from leaderboard.starter_corpus import read_corpus

    found = [item.text for item in read_corpus()]
    rng = np.random.default_rng(0)
    # Mostly short, some long, as texts are.
    return [" ".join(rng.choice(found, size=size)) for size in np.minimum(rng.geometric(0.4, size=n), 10)]


def main() -> None:
    """Prints both ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--layer", type=int, default=12)
    parser.add_argument("--texts", type=int, default=2000)
    arguments = parser.parse_args()
    corpus = texts(arguments.texts)
    encoder = MidLayerEncoder(arguments.model, arguments.layer)
    with tempfile.TemporaryDirectory() as folder:
        export_encoder(encoder, f"{folder}/middle")
        export_encoder(MidLayerEncoder(arguments.model, -1), f"{folder}/whole")
        models = {
            "MidLayerEncoder": encoder,
            "plain SentenceTransformer, exported folder": SentenceTransformer(f"{folder}/middle"),
            "plain SentenceTransformer, all blocks": SentenceTransformer(f"{folder}/whole"),
        }
    rates, vectors = {}, {}
    for name, model in models.items():
        model.encode(corpus[:64])
        start = time.perf_counter()
        vectors[name] = model.encode(corpus)
        rates[name] = len(corpus) / (time.perf_counter() - start)
    ours, exported, whole = models
    np.testing.assert_allclose(vectors[ours], vectors[exported], atol=1e-4)
    print(
        f"model {arguments.model}, layer {encoder.layer} of {encoder.n_layers - 1}, {len(corpus)} texts, "
        f"{torch.get_num_threads()} threads, {platform.machine()}"
    )
    for name, rate in rates.items():
        print(f"{rate:8.1f} texts/s  {name}")
    print(f"over all blocks: {rates[ours] / rates[whole]:.2f}x")
    print(f"over the exported folder: {rates[ours] / rates[exported]:.2f}x")


if __name__ == "__main__":
    main()
