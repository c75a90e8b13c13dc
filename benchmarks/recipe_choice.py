"""How far the recipe that is chosen without labels is from the best one, on tasks with labels.

    python -m benchmarks.recipe_choice DATA_DIR [--results FOLDER] [--model FOLDER[:GGUF]] [--tasks TASK ...]
        [--criteria half-and-drop ...] [--layers 0 3 ... 30] [--transforms none standardize whiten:1] [--texts 1000]
        [--dtype bfloat16]

DATA_DIR holds the datasets of the tasks (see `midlayer-leaderboard run --data-dir`). `select_recipe` gets texts of a
task, without labels: of its other splits, or the evaluated ones where there is no other split. Then every recipe of its
table is scored on the whole task, transforms fitted on the same texts. A run that was interrupted continues from the
results folder.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from mteb.abstasks.abstask import AbsTask
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta

from leaderboard.quiet import calm_libraries
from leaderboard.scoring.columns import texts_in
from leaderboard.scoring.score import prepared, score
from leaderboard.scoring.texts import collect_texts
from leaderboard.tasks.benchmarks import get_task
from leaderboard.tasks.fitting_texts import draw, other_items
from leaderboard.tasks.mirror import dataset_folder, reading_from
from midlayer_embed import LayerwiseEncoder
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.markdown import table
from midlayer_embed.recipes.names import check_transforms
from midlayer_embed.recipes.transform import fit_transform
from midlayer_embed.selection.recipe.choice import POOLINGS, Candidate, RecipeSelection
from midlayer_embed.selection.recipe.passes import entries_of
from midlayer_embed.selection.recipe_search import select_recipe
from midlayer_embed.texts.tokens import spelt

if TYPE_CHECKING:
    from mteb.types import BatchedInput
    from torch.utils.data import DataLoader

TASKS = {
    "STSBenchmark": "similarity",
    "Banking77Classification": "classification",
    "EmotionClassification": "classification",
    "MTOPDomainClassification": "classification",
    "TwentyNewsgroupsClustering": "clustering",
}
TEMPLATES = (None, "eol", "echo")
TRANSFORMS = ("none", "standardize", "whiten:1")
CRITERIA = ("half-and-drop", "half-retrieval", "drop-retrieval")
_KEY = ["template", "pooling_mode", "layer", "transform"]


class Vectors(AbsEncoder):
    """Vectors of texts that were encoded before.

    Args:
        place: The row of each text.
        vectors: (n_texts, d).
    """

    mteb_model_meta = ModelMeta.create_empty({"name": "benchmarks/vectors", "revision": "1"})

    def __init__(self, place: dict[str, int], vectors: np.ndarray) -> None:
        self._place, self._vectors = place, vectors

    def encode(self, inputs: "DataLoader[BatchedInput]", **_options: Any) -> np.ndarray:
        """Vectors (n_texts, d)."""
        return self._vectors[[self._place[spelt(text)] for text in texts_in(inputs)]]


@contextmanager
def loaded(name: str, data_dir: Path) -> Iterator[AbsTask]:
    """A task with its data."""
    task = get_task(name)
    folder = dataset_folder(data_dir, task)
    assert folder is not None  # none of these tasks builds its own data
    with calm_libraries(), reading_from(folder, task):
        task.load_data()
        with prepared(task):
            yield task


def own_texts(name: str, data_dir: Path, n: int) -> list[str]:
    """Texts of a task without labels: of the splits that are not evaluated, else of the evaluated ones."""
    task = get_task(name)
    folder = dataset_folder(data_dir, task)
    assert folder is not None
    with calm_libraries(), reading_from(folder, task):
        task.load_data()
        return draw(other_items(task), n, seed=0) or draw(map(spelt, collect_texts(task).evaluated), n, seed=0)


def score_template(
    encoder: LayerwiseEncoder, template: str | None, layers: Sequence[int], name: str, arguments: argparse.Namespace
) -> pl.DataFrame:
    """The main score, in points, of every pooling, layer and transform under a template."""
    own = own_texts(name, arguments.data_dir, arguments.texts)
    (entry,), _ = entries_of(encoder, encoder.recipe, [template], POOLINGS)
    rows = []
    with loaded(name, arguments.data_dir) as task:
        texts = list(dict.fromkeys([*own, *(spelt(text) for text in collect_texts(task).all)]))
        joined = np.empty((len(layers), len(texts), entry.encoder.dim), dtype=np.float32)
        for pooled in entry.encoder.pooled_batches(texts, layers, norms=[encoder.final_norm], show_progress=True):
            joined[:, pooled.rows] = pooled.vectors[0]
        place = {text: number for number, text in enumerate(texts)}
        for pooling in entry.poolings:
            for slot, layer in enumerate(layers):
                vectors = entry.part(joined[slot], pooling)
                if np.allclose(vectors, vectors[0], rtol=1e-5):
                    continue
                for transform in arguments.transforms:
                    found = vectors
                    if transform != "none":
                        found = fit_transform(vectors[: len(own)], transform)(vectors)
                    points = float(score(task, Vectors(place, found)).get_score()) * 100
                    rows.append((template, pooling, layer, transform, points))
                print(name, rows[-1], flush=True)
    schema = {**dict.fromkeys(_KEY, pl.String), "layer": pl.Int64, "score": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def scores_of(
    encoder: LayerwiseEncoder, layers: Sequence[int], name: str, arguments: argparse.Namespace
) -> pl.DataFrame:
    """The main scores of all recipes on a task; what is there already is kept."""
    found = []
    for template in TEMPLATES:
        file = arguments.results / name / f"scores-{template or 'none'}.parquet"
        known = pl.read_parquet(file) if file.exists() else None
        missing = sorted({*layers} - set([] if known is None else known["layer"]))
        if missing:
            some = score_template(encoder, template, missing, name, arguments)
            known = some if known is None else pl.concat([known, some])
            with atomic_file(file) as partial:
                known.write_parquet(partial)
        assert known is not None
        found.append(known)
    return pl.concat(found)


def searched(encoder: LayerwiseEncoder, name: str, arguments: argparse.Namespace) -> dict[str, RecipeSelection]:
    """What each criterion chooses by the task's own texts."""
    texts = own_texts(name, arguments.data_dir, arguments.texts)
    return {
        criterion: select_recipe(
            encoder,
            texts,
            TEMPLATES,
            tuple(arguments.transforms),
            criterion,
            purpose=TASKS[name],
            folder=arguments.results / name / criterion,
            show_progress=True,
        )
        for criterion in arguments.criteria
    }


def rows_of(name: str, chosen: dict[str, RecipeSelection], scores: pl.DataFrame) -> list[tuple[str, ...]]:
    """What each criterion's pick scores, beside the plain last layer and the best recipes by the labels."""

    def points(candidate: Candidate, transform: str) -> float:
        key = (*candidate.kind, candidate.layer, transform)
        same = [pl.col(column).eq_missing(pl.lit(value)) for column, value in zip(_KEY, key, strict=True)]
        return float(scores.filter(*same)["score"].item())

    def said(*recipe: object) -> str:
        template, pooling, layer, transform = recipe
        return ", ".join(filter(None, [str(template or "plain"), str(pooling), f"layer {layer}", str(transform or "")]))

    plain = scores.filter(pl.col("transform") == "none")
    last = plain.filter(pl.col("template").is_null(), pooling_mode="mean", layer=plain["layer"].max())
    named = {
        "the plain last layer": last.row(0),
        "best by labels, no transform": plain.sort("score", descending=True).row(0),
        "best by labels": scores.sort("score", descending=True).row(0),
    }
    for criterion, selection in chosen.items():
        pick, transform = selection.candidates[0], selection.recipe.transform or "none"
        named[criterion] = (*pick.kind, pick.layer, transform, points(pick, transform))
    best = named["best by labels"][-1]
    return [
        (name, by, said(*row[:3], None if row[3] == "none" else row[3]), f"{row[-1]:.1f}", f"{best - row[-1]:.1f}")
        for by, row in named.items()
    ]


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--results", type=Path, default=Path("results/recipe-choice"))
    parser.add_argument("--model", default="starter")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--layers", nargs="*", type=int, help="layers to score, beside those picked (default: all)")
    parser.add_argument("--criteria", nargs="+", default=list(CRITERIA), choices=CRITERIA)
    parser.add_argument("--transforms", nargs="+", default=list(TRANSFORMS))
    parser.add_argument("--texts", type=int, default=1000, help="texts to choose by (default: 1000)")
    parser.add_argument("--dtype", default="bfloat16", help="dtype of the weights (default: bfloat16)")
    arguments = parser.parse_args()
    arguments.transforms = [name or "none" for name in check_transforms(arguments.transforms)]
    model, _, gguf_file = arguments.model.partition(":")
    options = {"gguf_file": gguf_file} if gguf_file else {}
    encoder = LayerwiseEncoder(model, dtype=arguments.dtype, **options)
    rows = [("task", "chosen by", "recipe", "score", "below the best")]
    for name in arguments.tasks:
        chosen = searched(encoder, name, arguments)
        wanted = range(encoder.n_layers) if arguments.layers is None else arguments.layers
        layers = sorted({*wanted, encoder.n_layers - 1, *(selection.recipe.layer for selection in chosen.values())})
        rows += rows_of(name, chosen, scores_of(encoder, layers, name, arguments))
    print(table(rows))


if __name__ == "__main__":
    main()
