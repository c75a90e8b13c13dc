"""What a sweep of all layers costs over one run a layer: plain truncated SentenceTransformers and mteb.evaluate.

    python benchmarks/sweep.py [--model MODEL] [--tasks TASK ...] [--every N] [--data-dir FOLDER]

In one process, over the starter tasks unless others are named: first the sweep of all layers, then for every N-th layer
a folder that plain SentenceTransformer loads, which mteb alone scores; the last layer is always among them. What these
take is scaled to all layers. With N = 1, the default, nothing is scaled: over 20 minutes on two cores. Scores have to
be equal, but for predictions on the edge: batches differ, so vectors differ in their last bits, and one or two of the
2,160 predictions of a starter task may fall to the other side.
"""

import argparse
import logging
import os
import platform
import sys
import tempfile
import time
import warnings
from pathlib import Path

import datasets
import mteb
import numpy as np
import polars as pl
import torch
from mteb.abstasks.abstask import AbsTask
from sentence_transformers import SentenceTransformer

from leaderboard import run_sweep
from leaderboard.mirror import check_data_dir, dataset_folder, reading_from
from leaderboard.tasks import resolve_tasks
from midlayer_embed import MidLayerEncoder
from midlayer_embed.backbone import find_checkpoint

LEAST = 10.0
TOLERANCE = 2e-3


class Clock:
    """Seconds, and CPU seconds of all threads, which a busy machine disturbs less."""

    def __init__(self) -> None:
        self._start = np.array([time.perf_counter(), time.process_time()])

    def read(self) -> np.ndarray:
        """Both, since it was made: (2,)."""
        now: np.ndarray = np.array([time.perf_counter(), time.process_time()])
        return np.asarray(now - self._start)


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


def main() -> None:
    """Prints the ratio, and what both were spent on."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--data-dir")
    arguments = parser.parse_args()
    data_dir = None if arguments.data_dir is None else check_data_dir(arguments.data_dir)
    logging.getLogger("leaderboard").addHandler(logging.StreamHandler(sys.stdout))
    logging.getLogger("leaderboard").setLevel(logging.INFO)
    n_blocks = find_checkpoint(arguments.model).n_blocks
    timed = sorted({*range(n_blocks, -1, -arguments.every)})
    with tempfile.TemporaryDirectory() as scratch:
        folders = {layer: Path(scratch) / f"layer-{layer}" for layer in timed}
        for layer, folder in folders.items():  # saving is neither's business
            MidLayerEncoder(arguments.model, layer=layer, device="cpu").save_pretrained(str(folder))
        clock = Clock()
        board = run_sweep(
            arguments.model,
            arguments.tasks or "starter",
            Path(scratch) / "results",
            metrics="none",
            data_dir=data_dir,
            device="cpu",
            show_progress=False,
        )
        ours = clock.read()
        print(f"the sweep of {n_blocks + 1} layers: {ours[0]:.1f} s, model and data loaded in it", flush=True)

        warnings.simplefilter("ignore")
        logging.getLogger("mteb").setLevel(logging.ERROR)
        datasets.disable_progress_bars()
        plain, apart = np.zeros(2), 0.0
        for layer, folder in folders.items():
            clock = Clock()
            tasks = resolve_tasks(arguments.tasks or "starter")
            for task in tasks:
                load(task, data_dir)
            found = score_layer(folder, tasks)
            seconds = clock.read()
            plain += seconds
            here = board.scores.filter(pl.col("layer") == layer)
            scores = dict(here.select("task", "main_score").iter_rows())
            difference = max(abs(scores[name] - score) for name, score in found.items())
            apart = max(apart, difference)
            print(f"layer {layer} alone: {seconds[0]:.1f} s; scores differ by at most {difference:.0e}", flush=True)
    scale = (n_blocks + 1) / len(timed)
    ratio, cpu_ratio = plain * scale / ours
    print(
        f"{arguments.model}, {n_blocks + 1} layers, {len(board.scores['task'].unique())} tasks, "
        f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, {platform.machine()}"
    )
    print(f"one run a layer: {plain[0]:.1f} s for {len(timed)} layers, {plain[0] * scale:.1f} s for all")
    print(f"one run a layer over the sweep: {ratio:.1f} (at least {LEAST:.0f}); in CPU seconds {cpu_ratio:.1f}")
    if apart > TOLERANCE:
        sys.exit(f"scores differ by {apart:.1e}, more than {TOLERANCE:.0e}")
    if ratio < LEAST:
        sys.exit(f"{ratio:.1f} is below {LEAST:.0f}")


if __name__ == "__main__":
    main()
