"""Time of all sites of all layers in one pass, over the pass of all layers.

    python -m benchmarks.encoding.sites [--model MODEL] [--texts N]

Both pool normed states and drop the vectors batch by batch; time is the best of several passes in turns. Checks that
the output of the blocks is the same in both.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.bench import Row, build_parser, describe_machine, format_cpu_ratio, report_rows, time_in_turns
from benchmarks.encoding.forward_pass import build_texts
from midlayer_embed import LayerwiseEncoder
from midlayer_embed.errors import InputError
from midlayer_embed.forward.sites import Place
from midlayer_embed.layers import LAYER_SITE

ROUNDS = 5


def pooled_layers(encoder: LayerwiseEncoder, texts: Sequence[str], places: Sequence[Place]) -> np.ndarray:
    """Encode texts at places; returns the vectors (n_layers, n_texts, dim) of those that are layers."""
    layers = [slot for slot, place in enumerate(places) if place.site == LAYER_SITE]
    vectors = np.zeros((len(layers), len(texts), encoder.dim), dtype=np.float32)
    for pooled in encoder.pooled_batches(texts, places, norms=[True]):
        vectors[:, pooled.rows] = pooled.vectors[0, layers]
    return vectors


def main() -> None:
    """Print the ratio."""
    parser = build_parser(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--texts", type=int, default=80)
    arguments = parser.parse_args()
    texts = build_texts(np.random.default_rng(0).integers(1, 12, size=arguments.texts).tolist())
    encoder = LayerwiseEncoder(arguments.model)
    sites = encoder.backbone.sites
    if sites is None:
        raise InputError(f"model: the sites of {arguments.model} are not known")
    layers = [Place(layer) for layer in range(encoder.n_layers)]
    names = sites.available()
    within = [Place(layer, site) for layer in range(1, encoder.n_layers) for site in names if site != LAYER_SITE]
    print(describe_machine())
    passes = {
        which: partial(pooled_layers, encoder, texts, places)
        for which, places in (("layers", layers), ("sites", [*layers, *within]))
    }
    found = time_in_turns(ROUNDS, passes)
    np.testing.assert_array_equal(found["sites"][1], found["layers"][1])
    print(f"model {encoder.checkpoint.name}, {len(texts)} texts, sites {', '.join(names)}")
    for which, n_places in (("layers", len(layers)), ("sites", len(layers) + len(within))):
        timing = found[which][0]
        print(f"{which:>6}: {n_places} places, {timing.seconds:.2f} s, {timing.cpu_seconds:.2f} CPU s")
    ratio, cpu_ratio = found["sites"][0].over(found["layers"][0])
    report_rows(
        [Row("all sites, time", "all-layers pass", ratio, 1.3, at_least=False, note=format_cpu_ratio(cpu_ratio))],
        arguments.rows,
    )


if __name__ == "__main__":
    main()
