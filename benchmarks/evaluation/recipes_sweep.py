"""What transforms cost in a sweep, beyond the scoring of each: fitting them and mapping the vectors.

    python -m benchmarks.evaluation.recipes_sweep [--model MODEL] [--tasks TASK ...] [--layers N] [--data-dir FOLDER]

One sweep scores all layers under four transforms. The time of fitting and mapping is measured inside it, and given as a
share of the time of the whole sweep. Each layer of N (default: 2) is then encoded alone, transformed by the plain
formulas with numpy, and scored by mteb: scores have to be equal.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import mteb
import numpy as np
import polars as pl
from mteb.abstasks.abstask import AbsTask
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta

from benchmarks.bench import Row, build_parser, describe_machine, report_rows, time_call
from benchmarks.evaluation.scoring import silence_mteb
from benchmarks.evaluation.sweep import load_data
from leaderboard import run_sweep
from leaderboard.scoring.columns import texts_in
from leaderboard.scoring.texts import collect_texts
from leaderboard.sweep.layers.layer_job import Fitting
from leaderboard.sweep.layers.vector_map import VectorMap
from leaderboard.tasks.benchmarks import resolve_tasks
from leaderboard.tasks.fitting_texts import draw
from leaderboard.tasks.names import check_data_dir
from midlayer_embed import LayerwiseEncoder

TARGET = 5.0
TOLERANCE = 2e-3  # one or two predictions of a starter task: batches differ in the last bits of their vectors
TRANSFORMS = ("none", "standardize", "remove:1", "whiten:10")


def transform_plainly(name: str, fitted_on: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """A transform by its formula."""
    X, Z = fitted_on.astype(np.float64), vectors.astype(np.float64)
    mean = X.mean(axis=0)
    if name == "none":
        return vectors
    if name == "standardize":
        return (Z - mean) / X.std(axis=0)
    values, directions = np.linalg.eigh(np.cov(X.T, bias=True))
    if name == "remove:1":
        return (Z - mean) @ (np.eye(len(mean)) - directions[:, -1:] @ directions[:, -1:].T)
    return (Z - mean) @ directions / np.sqrt(values + 10 * values.mean())


class PlainRecipe(AbsEncoder):
    """Vectors of one layer, transformed by the formula."""

    mteb_model_meta = ModelMeta.create_empty({"name": "benchmarks/plain", "revision": "1"})

    def __init__(self, rows: dict[str, int], vectors: np.ndarray) -> None:
        self._rows, self._vectors = rows, vectors.astype(np.float32)

    def encode(self, inputs: Any, **_: Any) -> np.ndarray:
        """The vectors of the texts."""
        return self._vectors[[self._rows[text] for text in texts_in(inputs)]]


@contextmanager
def timed(seconds: dict[str, float]) -> Iterator[None]:
    """Measures the time of fitting and of mapping in this process."""

    def measured(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments)
            finally:
                seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - start

        return call

    with (
        patch.object(Fitting, "fit", measured("fitting", Fitting.fit)),
        patch.object(VectorMap, "__call__", measured("mapping", VectorMap.__call__)),
    ):
        yield


def largest_difference(board: pl.DataFrame, task: AbsTask, encoder: LayerwiseEncoder, layers: list[int]) -> float:
    """The largest difference between scores of the sweep and those of the formulas."""
    collected = collect_texts(task)
    fitted_on = draw(collected.evaluated, 5000, 0)
    texts = list(dict.fromkeys([*map(str, collected.all), *fitted_on]))
    rows = {text: number for number, text in enumerate(texts)}
    vectors = encoder.encode(texts, layers=layers)
    largest = 0.0
    for slot, layer in enumerate(layers):
        for name in TRANSFORMS:
            fit = vectors[[rows[text] for text in fitted_on], slot]
            model = PlainRecipe(rows, transform_plainly(name, fit, vectors[:, slot]))
            options: dict[str, Any] = {"cache": None, "show_progress_bar": False, "co2_tracker": False}
            expected = mteb.evaluate(model, task, **options).task_results[0].get_score()
            found = board.filter(
                pl.col("transform").eq_missing(None if name == "none" else name),
                task=task.metadata.name,
                layer=layer,
            )
            largest = max(largest, abs(float(found["main_score"].item()) - expected))
    return largest


def main() -> None:
    """Print the share, and how it is made up."""
    parser = build_parser(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--tasks", nargs="+", default=["StarterSTS", "StarterClassification"])
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    print(describe_machine())
    silence_mteb()
    data_dir = None if arguments.data_dir is None else check_data_dir(arguments.data_dir)
    encoder = LayerwiseEncoder(arguments.model, device="cpu")
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as scratch, timed(seconds):
        whole, board = time_call(
            lambda: run_sweep(
                encoder,
                arguments.tasks,
                scratch,
                metrics="none",
                transforms=TRANSFORMS,
                transform_texts="task",
                data_dir=data_dir,
                show_progress=False,
            )
        )
    parts = ", ".join(f"{part} {value:.1f} s" for part, value in seconds.items())
    print(
        f"{encoder.n_layers} layers, {len(TRANSFORMS)} transforms: {whole.seconds:.1f} s, of which {parts}", flush=True
    )
    layers = [int(layer) for layer in np.linspace(0, encoder.n_layers - 1, arguments.layers)]
    largest = 0.0
    for task in resolve_tasks(arguments.tasks):
        load_data(task, data_dir)
        largest = max(largest, largest_difference(board.scores, task, encoder, layers))
    print(f"scores at layers {layers} differ from those of the formulas by at most {largest:.0e}")
    if largest > TOLERANCE:
        sys.exit(f"scores differ by {largest:.1e}, more than {TOLERANCE:.0e}")
    share = 100 * sum(seconds.values()) / whole.seconds
    report_rows(
        [Row("four transforms in a sweep", "-", share, TARGET, at_least=False, unit="%", note=parts)], arguments.rows
    )


if __name__ == "__main__":
    main()
