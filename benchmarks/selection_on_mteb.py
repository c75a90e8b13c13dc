"""The layer each criterion chooses without labels, and what mteb's score of it is beside the best and the last layer's.

    python benchmarks/selection_on_mteb.py DATA_DIR [--model MODEL] [--tasks TASK ...] [--max-texts N]

DATA_DIR holds the tasks' datasets (see `midlayer-leaderboard run --data-dir`). Every layer is scored in one sweep; the
criteria then see the texts of the task's test split, and no label.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from mteb.abstasks.abstask import AbsTask

from leaderboard import run_sweep
from leaderboard.mirror import check_data_dir, dataset_folder, reading_from
from leaderboard.tasks import get_task
from midlayer_embed import LayerwiseEncoder, profile_layers
from midlayer_embed.selection import CRITERIA, ranking

TEXT_COLUMNS = ("text", "sentence1", "sentence2")


def texts_of(task: AbsTask, data_dir: Path) -> list[str]:
    """The distinct texts of a task's test split."""
    folder = dataset_folder(data_dir, task)
    assert folder is not None
    with reading_from(folder, task):
        task.load_data()
    return sorted(set(_texts(task)))


def _texts(task: AbsTask) -> Iterator[str]:
    split = task.dataset["test"] if "test" in task.dataset else task.dataset["default"]["test"]
    for name in split.column_names:
        if name in TEXT_COLUMNS:
            yield from split[name]


def main() -> None:
    """Prints a table a task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir")
    parser.add_argument("--model", default="starter")
    parser.add_argument("--tasks", nargs="+", default=["STSBenchmark", "Banking77Classification"])
    parser.add_argument("--max-texts", type=int, default=300)
    parser.add_argument("--results")
    arguments = parser.parse_args()
    data_dir = check_data_dir(arguments.data_dir)
    encoder = LayerwiseEncoder(arguments.model)
    with tempfile.TemporaryDirectory() as scratch:
        board = run_sweep(encoder, arguments.tasks, arguments.results or scratch, data_dir=data_dir)
    metrics = sorted({metric for metric, _ in CRITERIA.values()})
    for name in arguments.tasks:
        scores = board.scores.filter(pl.col("task") == name).sort("layer")["main_score"].to_numpy() * 100
        texts = texts_of(get_task(name), data_dir)
        profile = profile_layers(
            encoder, texts, metrics, max_texts=arguments.max_texts, final_norm=False, show_progress=True
        )
        rows = [("best", int(scores.argmax())), ("last", len(scores) - 1)]
        rows += [
            (criterion, ranking(criterion, profile.values[metric])[0]) for criterion, (metric, _) in CRITERIA.items()
        ]
        print(f"{name}: {encoder.checkpoint.name}, {len(scores)} layers, criteria over {profile.n_texts} texts")
        for label, layer in rows:
            print_row(label, str(layer), scores[layer], scores.max())
        print_row("a random layer", "any", scores.mean(), scores.max())


def print_row(label: str, layer: str, score: float, best: float) -> None:
    print(f"  {label:<14} layer {layer:>3}  score {score:6.2f}  regret {best - score:6.2f}")


if __name__ == "__main__":
    main()
