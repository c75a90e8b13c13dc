"""mteb scores of the layer that each criterion chooses without labels, compared with the best and the last layer.

    python -m benchmarks.evaluation.selection_on_mteb DATA_DIR [--model MODEL] [--tasks TASK ...] [--texts N]
        [--results FOLDER]

DATA_DIR holds the datasets of the tasks (see `midlayer-leaderboard run --data-dir`). One sweep scores every layer and
computes metrics on the texts of the task's test split. The criteria use these metrics and no labels.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import polars as pl

from leaderboard import Leaderboard, run_sweep
from midlayer_embed.selection.criteria import CRITERIA, ranking


def print_task(board: Leaderboard, name: str) -> None:
    """Print scores of the best and the last layer, and of those that the criteria choose."""
    scores = board.scores.filter(pl.col("task") == name).sort("layer")["main_score"].to_numpy() * 100
    rows = [("best", int(scores.argmax())), ("last", len(scores) - 1)]
    for criterion, (metric, _) in CRITERIA.items():
        measured = board.metrics.filter(
            pl.col("task") == name, pl.col("metric") == metric, pl.col("normalization") == "raw"
        )
        rows.append((criterion, ranking(criterion, measured.sort("layer")["value"].to_numpy())[0]))
    print(f"{name}: {len(scores)} layers")
    for label, layer in rows:
        print(f"  {label:<14} layer {layer:>3}  score {scores[layer]:6.2f}  regret {scores.max() - scores[layer]:6.2f}")
    print(f"  {'a random layer':<14} layer any  score {scores.mean():6.2f}  regret {scores.max() - scores.mean():6.2f}")


def main() -> None:
    """Print one table per task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--tasks", nargs="+", default=["STSBenchmark", "Banking77Classification"])
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        board = run_sweep(
            arguments.model,
            arguments.tasks,
            arguments.results or Path(scratch) / "results",
            data_dir=arguments.data_dir,
            metrics=sorted({metric for metric, _ in CRITERIA.values()}),
            metric_texts=arguments.texts,
            show_progress=sys.stderr.isatty(),
        )
    print(f"criteria on {arguments.texts} texts per task")
    for name in arguments.tasks:
        print_task(board, name)


if __name__ == "__main__":
    main()
