"""What a sweep of all layers costs over one run a layer: plain truncated SentenceTransformers and mteb.evaluate.

    python benchmarks/sweep.py [--model MODEL] [--tasks TASK ...] [--every N] [--data-dir FOLDER]

In one process, over the starter tasks unless others are named: first the sweep of all layers, then for every N-th layer
a folder that plain SentenceTransformer loads, which mteb alone scores; the last layer is always among them. What these
take is scaled to all layers. With N = 1, the default, nothing is scaled: over 20 minutes on two cores. Scores have to
be equal, but for predictions on the edge: batches differ, so vectors differ in their last bits, and one or two of the
2,160 predictions of a starter task may fall to the other side.
"""

import logging
import sys
import tempfile
from functools import partial
from pathlib import Path

import mteb
import polars as pl
from bench import Row, Timing, cpu_ratio, hand_in, machine, parser, timed
from mteb.abstasks.abstask import AbsTask
from scoring import silence_mteb
from sentence_transformers import SentenceTransformer

from leaderboard import run_sweep
from leaderboard.tasks.benchmarks import resolve_tasks
from leaderboard.tasks.mirror import check_data_dir, dataset_folder, reading_from
from midlayer_embed import MidLayerEncoder
from midlayer_embed.models.checkpoint import find_checkpoint

REACH = 10.0
TOLERANCE = 2e-3


def load(task: AbsTask, data_dir: Path | None) -> None:
    """A task's data, out of the folder where there is one."""
    folder = None if data_dir is None else dataset_folder(data_dir, task)
    if folder is None:
        task.load_data()
    else:
        with reading_from(folder, task):
            task.load_data()


def score_layer(folder: Path, tasks: list[AbsTask]) -> dict[str, float]:
    """What a user of mteb does for one layer."""
    model = SentenceTransformer(str(folder), device="cpu")
    found = {}
    for task in tasks:
        result = mteb.evaluate(
            model,
            task,
            cache=None,
            encode_kwargs={"batch_size": 32, "show_progress_bar": False},
            show_progress_bar=False,
            co2_tracker=False,
        )
        found[task.metadata.name] = float(result.task_results[0].get_score())
    return found


def run_layer(folder: Path, names: list[str] | str, data_dir: Path | None) -> dict[str, float]:
    """All of one run: data and model loaded, texts encoded, tasks scored."""
    tasks = resolve_tasks(names)
    for task in tasks:
        load(task, data_dir)
    return score_layer(folder, tasks)


def main() -> None:
    """Prints the ratio, and what both were spent on."""
    arguments_of = parser(__doc__)
    arguments_of.add_argument("--model", default="starter")
    arguments_of.add_argument("--tasks", nargs="+")
    arguments_of.add_argument("--every", type=int, default=1)
    arguments_of.add_argument("--data-dir")
    arguments = arguments_of.parse_args()
    print(machine())
    data_dir = None if arguments.data_dir is None else check_data_dir(arguments.data_dir)
    tasks = arguments.tasks or "starter"
    logging.getLogger("leaderboard").addHandler(logging.StreamHandler(sys.stdout))
    logging.getLogger("leaderboard").setLevel(logging.INFO)
    n_layers = find_checkpoint(arguments.model).n_blocks + 1
    measured = sorted({*range(n_layers - 1, -1, -arguments.every)})
    with tempfile.TemporaryDirectory() as scratch:
        folders = {layer: Path(scratch) / f"layer-{layer}" for layer in measured}
        for layer, folder in folders.items():  # saving is neither's business
            MidLayerEncoder(arguments.model, layer=layer, device="cpu").save_pretrained(str(folder))
        ours, board = timed(
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
        print(f"the sweep of {n_layers} layers: {ours.seconds:.1f} s, model and data loaded in it", flush=True)
        silence_mteb()
        alone, apart = [], 0.0
        for layer, folder in folders.items():
            timing, found = timed(partial(run_layer, folder, tasks, data_dir))
            alone.append(timing)
            here = board.scores.filter(pl.col("layer") == layer)
            scores = dict(here.select("task", "main_score").iter_rows())
            difference = max(abs(scores[name] - score) for name, score in found.items())
            apart = max(apart, difference)
            print(f"layer {layer} alone: {timing.seconds:.1f} s; scores differ by at most {difference:.0e}", flush=True)
    plain = Timing(*(n_layers / len(measured) * sum(kind) for kind in zip(*alone, strict=True)))
    print(
        f"{arguments.model}, {n_layers} layers, {board.scores['task'].n_unique()} tasks; "
        f"one run a layer: {plain.seconds:.1f} s ({plain.cpu_seconds:.1f} CPU s) for all, measured at {len(measured)}; "
        f"the sweep: {ours.seconds:.1f} s ({ours.cpu_seconds:.1f} CPU s)"
    )
    if apart > TOLERANCE:
        sys.exit(f"scores differ by {apart:.1e}, more than {TOLERANCE:.0e}")
    ratio, of_cpu = plain.over(ours)
    hand_in([Row("sweep of all layers", "one run a layer", ratio, REACH, beside=cpu_ratio(of_cpu))], arguments.rows)


if __name__ == "__main__":
    main()
