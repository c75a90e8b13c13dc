"""How far the ONNX graphs of every known architecture are from torch.

    python -m benchmarks.encoding.onnx_parity [--architectures NAME ...] [--layers 0 1 2 3]

Writes the graph of some layers of the tiny models of the tests, normed and raw, with the mean of the states inside, and
runs it over padded batches of 1 to 128 tokens. Prints the largest difference from torch, relative to the size of a
vector (see `relative_difference`), or why there is no graph. Nothing is timed.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from midlayer_embed import MidLayerEncoder
from midlayer_embed.encoder.onnx.graph import write_graph
from midlayer_embed.errors import InputError
from midlayer_embed.ground.markdown import table

# The tiny models are those of the tests, which are no package.
sys.path.append(str(Path(__file__).parents[2] / "tests"))

LAYERS = (0, 1, 2, 3)


def graphs(folder: Path, layers: Sequence[int], scratch: Path) -> Iterator[float | str]:
    """Of each layer, normed and raw where stock transformers gives it: the difference, or why there is no graph.

    Args:
        folder: The model.
        layers: Its layers.
        scratch: Where the graphs are written.
    """
    for layer in layers:
        for final_norm in (True, False):
            try:
                encoder = MidLayerEncoder(folder, layer, final_norm=final_norm, device="cpu")
            except InputError:  # no stock form, so nothing to write
                continue
            if final_norm or encoder.checkpoint.family.final_norm is not None:
                try:
                    yield write_graph(encoder, scratch / "model.onnx", embedding=True)
                except (InputError, RuntimeError) as error:
                    yield str(error)


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    from support.architectures import ARCHITECTURES, MODELS
    from support.tiny_models import save_model

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--architectures", nargs="+", default=ARCHITECTURES, choices=ARCHITECTURES, metavar="NAME")
    parser.add_argument("--layers", nargs="+", type=int, default=LAYERS)
    arguments = parser.parse_args(argv)
    rows: list[tuple[str, ...]] = [("architecture", "graphs", "largest difference")]
    for name in arguments.architectures:
        with tempfile.TemporaryDirectory() as scratch:
            folder = save_model(*MODELS[name], Path(scratch) / name)
            found = list(graphs(folder, arguments.layers, Path(scratch)))
        numbers = [each for each in found if isinstance(each, float)]
        refused = sorted({each for each in found if isinstance(each, str)})
        shown = "; ".join([f"{max(numbers):.1e}", *refused] if numbers else refused)
        rows.append((name, str(len(numbers)), shown))
        print(f"{name}: {shown}", file=sys.stderr, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
