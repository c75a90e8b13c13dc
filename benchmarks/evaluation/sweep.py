"""Time of one run per layer (plain truncated SentenceTransformers and mteb.evaluate) over a sweep of all layers.

    python -m benchmarks.evaluation.sweep [--model MODEL] [--tasks TASK ...] [--every N] [--data-dir FOLDER]

One process runs the sweep of all layers, then, for every N-th layer and always for the last one, exports a folder that
plain SentenceTransformer loads and mteb alone scores; their time is scaled to all layers. With N = 1, the default,
nothing is scaled, and the run takes over 20 minutes on two cores. The default tasks are the starter tasks. Scores must
be equal except for borderline predictions: batches differ, so vectors differ in their last bits, and one or two of the
2,160 predictions of a starter task may change.
"""

import logging
import sys
import tempfile
from functools import partial
from pathlib import Path

import mteb
import polars as pl
from mteb.abstasks.abstask import AbsTask
from sentence_transformers import SentenceTransformer

from benchmarks.bench import Row, Timing, build_parser, describe_machine, format_cpu_ratio, report_rows, time_call
from benchmarks.evaluation.scoring import silence_mteb
from leaderboard import run_sweep
from leaderboard.tasks.benchmarks import resolve_tasks
from leaderboard.tasks.mirror import dataset_folder, reading_from
from leaderboard.tasks.names import check_data_dir
from midlayer_embed import MidLayerEncoder
from midlayer_embed.models.checkpoint import find_checkpoint

TARGET = 10.0
TOLERANCE = 2e-3


def load_data(task: AbsTask, data_dir: Path | None) -> None:
    """Load a task's data, from the folder if there is one."""
    folder = None if data_dir is None else dataset_folder(data_dir, task)
    if folder is None:
        task.load_data()
    else:
        with reading_from(folder, task):
            task.load_data()


def score_layer(folder: Path, tasks: list[AbsTask]) -> dict[str, float]:
    """Score one layer like a user of mteb."""
    model = SentenceTransformer(str(folder), device="cpu")
    scores = {}
    for task in tasks:
        result = mteb.evaluate(
            model,
            task,
            cache=None,
            encode_kwargs={"batch_size": 32, "show_progress_bar": False},
            show_progress_bar=False,
            co2_tracker=False,
        )
        scores[task.metadata.name] = float(result.task_results[0].get_score())
    return scores


def run_layer(folder: Path, names: list[str] | str, data_dir: Path | None) -> dict[str, float]:
    """Do one whole run: load data and model, encode texts, score tasks."""
    tasks = resolve_tasks(names)
    for task in tasks:
        load_data(task, data_dir)
    return score_layer(folder, tasks)


def main() -> None:
    """Print the ratio, and the times of both."""
    parser = build_parser(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    print(describe_machine())
    data_dir = None if arguments.data_dir is None else check_data_dir(arguments.data_dir)
    tasks = arguments.tasks or "starter"
    logging.getLogger("leaderboard").addHandler(logging.StreamHandler(sys.stdout))
    logging.getLogger("leaderboard").setLevel(logging.INFO)
    n_layers = find_checkpoint(arguments.model).n_blocks + 1
    measured = sorted({*range(n_layers - 1, -1, -arguments.every)})
    with tempfile.TemporaryDirectory() as scratch:
        folders = {layer: Path(scratch) / f"layer-{layer}" for layer in measured}
        for layer, folder in folders.items():  # not timed
            MidLayerEncoder(arguments.model, layer=layer, device="cpu").save_pretrained(str(folder))
        ours, board = time_call(
            lambda: run_sweep(
                arguments.model,
                tasks,
                Path(scratch) / "results",
                metrics="none",
                data_dir=data_dir,
                device="cpu",
                show_progress=False,
            )
        )
        print(f"the sweep of {n_layers} layers: {ours.seconds:.1f} s, including loading", flush=True)
        silence_mteb()
        alone, largest = [], 0.0
        for layer, folder in folders.items():
            timing, plain_scores = time_call(partial(run_layer, folder, tasks, data_dir))
            alone.append(timing)
            scores = dict(board.scores.filter(pl.col("layer") == layer).select("task", "main_score").iter_rows())
            difference = max(abs(scores[name] - score) for name, score in plain_scores.items())
            largest = max(largest, difference)
            print(f"layer {layer} alone: {timing.seconds:.1f} s; scores differ by at most {difference:.0e}", flush=True)
    plain = Timing(*(n_layers / len(measured) * sum(kind) for kind in zip(*alone, strict=True)))
    print(
        f"{arguments.model}, {n_layers} layers, {board.scores['task'].n_unique()} tasks; "
        f"one run per layer: {plain.seconds:.1f} s ({plain.cpu_seconds:.1f} CPU s), measured at {len(measured)}; "
        f"the sweep: {ours.seconds:.1f} s ({ours.cpu_seconds:.1f} CPU s)"
    )
    if largest > TOLERANCE:
        sys.exit(f"scores differ by {largest:.1e}, more than {TOLERANCE:.0e}")
    ratio, cpu_ratio = plain.over(ours)
    report_rows(
        [Row("sweep of all layers", "one run per layer", ratio, TARGET, note=format_cpu_ratio(cpu_ratio))],
        arguments.rows,
    )


if __name__ == "__main__":
    main()
