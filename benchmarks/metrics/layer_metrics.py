"""Time of the metrics of all layers, over plain implementations in the same run. Checks that results are equal.

    python -m benchmarks.metrics.layer_metrics [--layers 31] [--texts 1000]

The plain implementations are `plain_metrics` of the tests: numpy float64, a Python loop over layers, `eigvalsh` for
each matrix, LiDAR's scatter matrices summed from outer products as in the paper's code, DiME's pairings as permutation
matrices. They run on as many layers as fit in a few seconds; times are per layer. States are random, with a decaying
spectrum and 576 dimensions, like those of the starter model; each text has two views, and 16 for LiDAR.

On a busy machine, several numpy threads can be many times slower than one, because they wait for each other: the plain
implementations get one thread or all, whichever is faster at the time.
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
from threadpoolctl import threadpool_limits

from benchmarks.bench import Row, build_parser, describe_machine, report_rows
from midlayer_embed import metrics

DIM = 576
VIEWS = 16
TOLERANCE = 1e-8
# Maximum number of layers for the plain implementation, and layers per call of ours, to keep 16 views in memory.
PLAIN_LAYERS = {"infonce": 8, "dime": 2, "dataset_entropy": 8, "effective_rank": 8, "lidar": 1}
CALL_LAYERS = {"lidar": 4}


class Figures(NamedTuple):
    """Measurements of one metric."""

    ours: float  # seconds per layer
    plain: float  # seconds per layer
    plain_layers: int
    difference: float  # largest relative difference


def draw_states(layer: int, n_texts: int, n_views: int) -> np.ndarray:
    """Random vectors of one layer, float32 (n_views, n_texts, DIM); views scatter a third as much as texts."""
    rng = np.random.default_rng(layer)
    scales = np.arange(1, DIM + 1) ** -0.5
    texts = rng.standard_normal((n_texts, DIM), dtype=np.float32)
    around = rng.standard_normal((n_views, n_texts, DIM), dtype=np.float32)
    return np.asarray((texts + around / 3) * scales + scales[::-1], dtype=np.float32)


def build_arguments(metric: str, layers: Sequence[int], n_texts: int) -> list[np.ndarray]:
    """Arguments of a metric for these layers, with the layers as first axis."""
    if metric == "lidar":
        return [np.stack([draw_states(layer, n_texts, VIEWS).swapaxes(0, 1) for layer in layers])]
    views = np.stack([draw_states(layer, n_texts, 2) for layer in layers], axis=1)
    return list(views) if metric in ("infonce", "dime") else [views[0]]


def measure(metric: str, plain: ModuleType, n_layers: int, n_texts: int, plain_threads: int) -> Figures:
    """Time both implementations."""
    ours: Callable[..., np.ndarray] = getattr(metrics, metric)
    slow: Callable[..., float] = getattr(plain, metric)
    plain_layers = min(n_layers, PLAIN_LAYERS[metric])
    call_layers = CALL_LAYERS.get(metric, n_layers)
    ours(*build_arguments(metric, [0, 1], 50))  # warm-up
    found, our_seconds = np.zeros(n_layers), 0.0
    for layers in split_range(n_layers, call_layers):
        arrays = build_arguments(metric, layers, n_texts)
        start = time.perf_counter()
        found[layers] = ours(*arrays)
        our_seconds += time.perf_counter() - start
    expected, plain_seconds = np.zeros(plain_layers), 0.0
    for layer in range(plain_layers):
        arrays = [array[0] for array in build_arguments(metric, [layer], n_texts)]
        with threadpool_limits(plain_threads):
            start = time.perf_counter()
            expected[layer] = slow(*(array.astype(np.float64) for array in arrays))
            plain_seconds += time.perf_counter() - start
    difference = float(np.abs(found[:plain_layers] / expected - 1).max())
    return Figures(our_seconds / n_layers, plain_seconds / plain_layers, plain_layers, difference)


def split_range(n: int, size: int) -> Iterator[list[int]]:
    """Split 0..n-1 into lists of at most `size` numbers."""
    for start in range(0, n, size):
        yield list(range(start, min(n, start + size)))


def find_fastest_threads() -> int:
    """1 or one thread per core, whichever computes eigenvalues of a matrix of typical size faster."""
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


def load_plain_metrics() -> ModuleType:
    """Load the module with the plain implementations from the tests."""
    path = Path(__file__).parents[2] / "tests" / "support" / "plain_metrics.py"
    spec = importlib.util.spec_from_file_location("plain_metrics", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Print one line per metric, and the sum."""
    parser = build_parser(__doc__)
    parser.add_argument("--layers", type=int, default=31)
    parser.add_argument("--texts", type=int, default=1000)
    arguments = parser.parse_args()
    plain = load_plain_metrics()
    print(describe_machine())
    print(f"{arguments.texts} texts, {DIM} dimensions, {VIEWS} views for lidar, {arguments.layers} layers")
    plain_threads = find_fastest_threads()
    print(f"plain: numpy on {plain_threads} thread{'s' if plain_threads > 1 else ''}")
    print(f"{'':<16} {'ours':>10} {'plain':>10} {'layers':>10} {'times':>7}   largest relative")
    print(f"{'':<16} {'ms a layer':>10} {'ms a layer':>10} {'of plain':>10} {'faster':>7}   difference")
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
    ours, reference = (sum(getattr(figures, side) for figures in found.values()) for side in ("ours", "plain"))
    print(f"{'sum':<16} {1e3 * ours:>10.1f} {1e3 * reference:>10.1f} {'':>10} {reference / ours:>7.1f}")
    lidar = found["lidar"]
    others = (reference - lidar.plain) / (ours - lidar.ours)
    report_rows(
        [
            Row("metrics of all layers: LiDAR", "plain implementation", lidar.plain / lidar.ours, 20.0),
            Row(
                "metrics of all layers: sum of five",
                "plain implementations",
                reference / ours,
                3.0,
                note=f"without LiDAR {others:.3g}x",
            ),
        ],
        arguments.rows,
    )


if __name__ == "__main__":
    main()
