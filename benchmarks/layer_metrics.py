"""What the metrics of all layers cost, beside the plain way of computing them, in the same run; results asserted equal.

    python benchmarks/layer_metrics.py [--layers 31] [--texts 1000]

The plain way is the tests' `plain_metrics`: numpy float64, a Python loop over layers, `eigvalsh` for each matrix,
LiDAR's scatters summed by outer products as in the paper's code, DiME's pairings by permutation matrices. It is given
as many layers as fit in some seconds; times are those of a layer. States are random, of 576 dimensions, as those of the
starter model, and a falling spectrum; two views, and 16 for LiDAR, lie around each text.

numpy's threads, waiting for each other, are many times slower than one on a busy machine: the plain way is given as
many as serve it best at the time, one or all.
"""

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import torch
from bench import Row, hand_in, machine, parser
from threadpoolctl import threadpool_limits

from midlayer_embed import metrics

DIM = 576
VIEWS = 16
TOLERANCE = 1e-8
# How many layers the plain way is given, at most; and how many ours takes in one call, to keep 16 views in memory.
PLAIN_LAYERS = {"infonce": 8, "dime": 2, "dataset_entropy": 8, "effective_rank": 8, "lidar": 1}
CALL_LAYERS = {"lidar": 4}


class Figures(NamedTuple):
    """Of one metric."""

    ours: float  # seconds a layer
    plain: float  # seconds a layer
    plain_layers: int
    difference: float  # largest, relative


def states(layer: int, n_texts: int, n_views: int) -> np.ndarray:
    """Vectors (n_views, n_texts, DIM) of one layer, float32: views that scatter by a third of what texts do."""
    rng = np.random.default_rng(layer)
    scales = np.arange(1, DIM + 1) ** -0.5
    texts = rng.standard_normal((n_texts, DIM), dtype=np.float32)
    around = rng.standard_normal((n_views, n_texts, DIM), dtype=np.float32)
    return np.asarray((texts + around / 3) * scales + scales[::-1], dtype=np.float32)


def operands(metric: str, layers: Sequence[int], n_texts: int) -> list[np.ndarray]:
    """What a metric takes for these layers, each argument with the layers in front."""
    if metric == "lidar":
        return [np.stack([states(layer, n_texts, VIEWS).swapaxes(0, 1) for layer in layers])]
    views = np.stack([states(layer, n_texts, 2) for layer in layers], axis=1)
    return list(views) if metric in ("infonce", "dime") else [views[0]]


def measure(metric: str, plain: ModuleType, n_layers: int, n_texts: int, plain_threads: int) -> Figures:
    """Times both."""
    ours: Callable[..., np.ndarray] = getattr(metrics, metric)
    slow: Callable[..., float] = getattr(plain, metric)
    plain_layers = min(n_layers, PLAIN_LAYERS[metric])
    call_layers = CALL_LAYERS.get(metric, n_layers)
    ours(*operands(metric, [0, 1], 50))  # threads and libraries wake up
    found, our_seconds = np.zeros(n_layers), 0.0
    for layers in some_at_a_time(n_layers, call_layers):
        arrays = operands(metric, layers, n_texts)
        start = time.perf_counter()
        found[layers] = ours(*arrays)
        our_seconds += time.perf_counter() - start
    expected, plain_seconds = np.zeros(plain_layers), 0.0
    for layer in range(plain_layers):
        arrays = [array[0] for array in operands(metric, [layer], n_texts)]
        with threadpool_limits(plain_threads):
            start = time.perf_counter()
            expected[layer] = slow(*(array.astype(np.float64) for array in arrays))
            plain_seconds += time.perf_counter() - start
    difference = float(np.abs(found[:plain_layers] / expected - 1).max())
    return Figures(our_seconds / n_layers, plain_seconds / plain_layers, plain_layers, difference)


def some_at_a_time(n: int, size: int) -> Iterator[list[int]]:
    """Numbers 0..n-1, `size` at a time."""
    for start in range(0, n, size):
        yield list(range(start, min(n, start + size)))


def threads_that_serve_numpy() -> int:
    """1 or one a core: whichever is quicker at the eigenvalues of the size in question."""
    K = np.random.default_rng(0).normal(size=(800, 800))
    K = K @ K.T
    seconds = {}
    for threads in (1, torch.get_num_threads()):
        with threadpool_limits(threads):
            np.linalg.eigvalsh(K[:100, :100])
            start = time.perf_counter()
            for _ in range(4):
                np.linalg.eigvalsh(K)
            seconds[threads] = time.perf_counter() - start
    return min(seconds, key=lambda threads: seconds[threads])


def plain_metrics() -> ModuleType:
    """The tests' module."""
    path = Path(__file__).parents[1] / "tests" / "midlayer_embed" / "metrics" / "plain_metrics.py"
    spec = importlib.util.spec_from_file_location("plain_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Prints a line a metric, and the sum."""
    arguments_of = parser(__doc__)
    arguments_of.add_argument("--layers", type=int, default=31)
    arguments_of.add_argument("--texts", type=int, default=1000)
    arguments = arguments_of.parse_args()
    plain = plain_metrics()
    print(machine())
    print(f"{arguments.texts} texts, {DIM} dimensions, {VIEWS} views for lidar, {arguments.layers} layers")
    plain_threads = threads_that_serve_numpy()
    print(f"plain: numpy on {plain_threads} thread{'s' if plain_threads > 1 else ''}")
    print(f"{'':<16} {'ours':>10} {'plain':>10} {'plain way':>10} {'times':>7}   largest relative")
    print(f"{'':<16} {'ms a layer':>10} {'ms a layer':>10} {'on layers':>10} {'faster':>7}   difference")
    found = {}
    for metric in PLAIN_LAYERS:
        found[metric] = figures = measure(metric, plain, arguments.layers, arguments.texts, plain_threads)
        print(
            f"{metric:<16} {1e3 * figures.ours:>10.1f} {1e3 * figures.plain:>10.1f} {figures.plain_layers:>10} "
            f"{figures.plain / figures.ours:>7.1f}   {figures.difference:.1e}",
            flush=True,
        )
        if not figures.difference <= TOLERANCE:
            sys.exit(f"{metric}: differs by {figures.difference:.1e}, more than {TOLERANCE:.0e}")
    ours, oracle = (sum(getattr(figures, side) for figures in found.values()) for side in ("ours", "plain"))
    print(f"{'sum':<16} {1e3 * ours:>10.1f} {1e3 * oracle:>10.1f} {'':>10} {oracle / ours:>7.1f}")
    lidar = found["lidar"]
    others = (oracle - lidar.plain) / (ours - lidar.ours)
    hand_in(
        [
            Row("metrics of all layers: LiDAR", "plain oracle", lidar.plain / lidar.ours, 20.0),
            Row(
                "metrics of all layers: sum of five",
                "plain oracles",
                oracle / ours,
                3.0,
                beside=f"without LiDAR {others:.3g}x",
            ),
        ],
        arguments.rows,
    )


if __name__ == "__main__":
    main()
