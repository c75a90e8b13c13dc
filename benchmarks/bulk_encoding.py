"""What batches filled by tokens save over `encode`'s 32 texts a batch: time of one MidLayerEncoder over the same texts.

    python benchmarks/bulk_encoding.py [--model MODEL] [--layer LAYER] [--texts N]

The ways take turns, three times after one untimed turn; the best time of each counts, and the vectors are asserted to
be equal. The time of a LayerwiseEncoder that stops at the layer stands beside, for comparison: it loads all blocks.
"""

import argparse
import time

import numpy as np
import torch
from all_layers_pass import texts

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.bulk import encode_texts


def main() -> None:
    """Prints the times and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--layer", type=int, default=12)
    parser.add_argument("--texts", type=int, default=60)
    arguments = parser.parse_args()
    corpus = texts(arguments.texts)
    encoder = MidLayerEncoder(arguments.model, arguments.layer)
    every = LayerwiseEncoder(arguments.model)
    ways = {
        "MidLayerEncoder.encode": lambda: encoder.encode(corpus),
        "encode_texts": lambda: encode_texts(encoder, corpus),
        "LayerwiseEncoder.encode": lambda: every.encode(corpus, layers=[arguments.layer])[:, 0],
    }
    vectors = {name: way() for name, way in ways.items()}
    for found in vectors.values():
        np.testing.assert_allclose(found, vectors["MidLayerEncoder.encode"], atol=1e-4)
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(3):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            best[name] = min(best[name], time.perf_counter() - start)
    print(f"model {arguments.model}, layer {arguments.layer}, {len(corpus)} texts, {torch.get_num_threads()} threads")
    for name, seconds in best.items():
        print(f"{name:>24}: {seconds:.2f} s, {len(corpus) / seconds:.1f} texts/s")
    print(f"encode over encode_texts, time: {best['MidLayerEncoder.encode'] / best['encode_texts']:.2f}")


if __name__ == "__main__":
    main()
