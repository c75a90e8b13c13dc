"""What weights of 8 bits cost: size, and the loss that `export --int8` measures.

    python -m benchmarks.encoding.onnx_loss [--layers 2 7 13 22 30] [--settings]

SmolLM2-135M at some layers, its best recipes, and all-MiniLM-L6-v2: cosine to float32 over the sentences of the starter
STS, and the Spearman correlation there. With --settings, the layers with other settings of the quantiser. Prints a
table; nothing is timed.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from benchmarks.recipes import MINILM, minilm_folder
from midlayer_embed import MidLayerEncoder
from midlayer_embed.encoder.onnx.graph import write_graph
from midlayer_embed.encoder.onnx.loss import Int8Loss, measure_loss, samples
from midlayer_embed.encoder.onnx.names import MODEL_FILE, QUANTIZED_FILE
from midlayer_embed.encoder.onnx.quantise import quantise
from midlayer_embed.ground.markdown import table
from midlayer_embed.texts.corpora import starter_texts

LAYERS = (2, 7, 13, 22, 30)
# Words for a recipe: its layer and options.
RECIPES: dict[str, tuple[int, dict[str, Any]]] = {
    "`echo`, `whiten`": (13, {"template": "echo", "transform": "whiten"}),
    "`echo`, `standardize`": (30, {"template": "echo", "transform": "standardize"}),
    "`eol`, last token, `standardize`": (
        30,
        {"template": "eol", "pooling_mode": "lasttoken", "transform": "standardize"},
    ),
}
# Words for settings of `quantise` that differ from those in use.
SETTINGS: dict[str, dict[str, Any]] = {
    "as exported": {},
    "token embeddings in float": {"token_embeddings": False},
    "every product in int8": {"coarse": float("inf")},
    "more products in float (0.05)": {"coarse": 0.05},
    "uint8": {"weight_type": "QUInt8"},
    "7 bits": {"reduce_range": True},
    "one scale a weight": {"per_channel": False},
}
_HEAD = ("size, float32", "int8", "cosine, mean", "least", "STS, float32", "int8")


def _cells(folder: Path, loss: Int8Loss) -> tuple[str, ...]:
    sizes = (f"{(folder / name).stat().st_size / 1e6:.0f} MB" for name in (MODEL_FILE, QUANTIZED_FILE))
    cosines = (f"{cosine:.4f}" for cosine in (loss.mean_cosine, loss.least_cosine))
    return *sizes, *cosines, f"{loss.sts_float32:.1f}", f"{loss.sts_int8:.1f}"


def rows(encoder: SentenceTransformer, settings: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """A row of a table for each of some settings: their words, sizes and losses."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        graph, target = folder / MODEL_FILE, folder / QUANTIZED_FILE
        write_graph(encoder, graph, embedding=True)
        found = []
        for words, options in settings.items():
            quantise(graph, target, samples(encoder), **options)
            found.append((words, *_cells(folder, measure_loss(encoder, target))))
            print(*found[-1], file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", nargs="+", type=int, default=list(LAYERS), help="layers of the starter model")
    parser.add_argument("--settings", action="store_true", help="compare settings of the quantiser")
    arguments = parser.parse_args()
    found: list[tuple[str, ...]] = []
    if arguments.settings:
        for layer in arguments.layers:
            encoder = MidLayerEncoder("starter", layer, device="cpu")
            found += [(f"layer {layer}", *row) for row in rows(encoder, SETTINGS)]
        print(table([("SmolLM2-135M", "settings", *_HEAD), *found]))
        return
    exported = {"": SETTINGS["as exported"]}
    for layer in arguments.layers:
        (row,) = rows(MidLayerEncoder("starter", layer, device="cpu"), exported)
        found.append((f"SmolLM2-135M, layer {layer}", *row[1:]))
    for words, (layer, options) in RECIPES.items():
        encoder = MidLayerEncoder("starter", layer, device="cpu", transform_texts=starter_texts(), **options)
        (row,) = rows(encoder, exported)
        found.append((f"layer {layer}, {words}", *row[1:]))
    (row,) = rows(SentenceTransformer(str(minilm_folder()), device="cpu"), exported)
    found.append((MINILM, *row[1:]))
    print(table([("model", *_HEAD), *found]))


if __name__ == "__main__":
    main()
