"""Tidy tables: one row a model, layer and task; out of result files, which `results_folder` writes, and into others."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path
from typing import Any, NoReturn

import polars as pl
from mteb.models.model_meta import ModelMeta
from mteb.results import TaskResult

from leaderboard.analysis.association import associations
from leaderboard.analysis.layer_means import WHOLE, metric_curves, score_curves
from leaderboard.analysis.schemes import Tasks, schemes
from leaderboard.config_files import read_config
from leaderboard.models.meta import model_label
from leaderboard.models.reload import Origin, origin_by_name, origin_of
from leaderboard.report.markdown import markdown
from leaderboard.results.folder import METRICS_SCHEMA, ResultsFolder
from leaderboard.results.provenance import entries_of, provenance_of
from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.layers import n_blocks_at
from midlayer_embed.selection.representations import METRICS

SCORES_SCHEMA = {
    "model": pl.String,
    "revision": pl.String,
    "layer": pl.Int64,
    "depth": pl.Float64,
    "task": pl.String,
    "task_type": pl.String,
    "main_score": pl.Float64,
}

# By type of task, the scores that the paper reports where mteb's main score has another name.
_PAPER_SCORES: dict[str, list[str]] = read_config("benchmarks", "paper")["paper_scores"]


@dataclass(frozen=True)
class LayerSummary:
    """Which layer is best, in one line.

    Attributes:
        best: The layer with the highest mean over the tasks, among those that miss none.
        last: The highest layer present.
        n_blocks: L.
        gain: Points that the best layer has over the last.
    """

    best: int
    last: int
    n_blocks: int
    gain: float

    def __str__(self) -> str:
        share = self.best / self.n_blocks
        return (
            f"best layer {self.best} (depth {share:.2f}): {self.gain:+.1f} points over the last layer, "
            f"{share:.0%} of the blocks"
        )


@dataclass(frozen=True)
class Leaderboard:
    """Scores and metrics of models, layer by layer.

    Attributes:
        scores: model, revision, layer, depth, task, task_type, main_score (0..1).
        metrics: model, revision, task, metric, normalization, layer, value.
        paper_scores: As `scores`, for tasks whose main score is not the one that the paper reports: the paper's.
            `configs/benchmarks/paper.yaml` says which scores these are.
        origins: How the models are loaded again, by (name, revision), where results tell.
    """

    scores: pl.DataFrame
    metrics: pl.DataFrame
    paper_scores: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=SCORES_SCHEMA))
    origins: Mapping[tuple[str, str], Origin] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> "Leaderboard":
        """Tables without a row."""
        return cls(pl.DataFrame(schema=SCORES_SCHEMA), pl.DataFrame(schema=METRICS_SCHEMA))

    def models(self) -> list[tuple[str, str]]:
        """The models, as (name, revision)."""
        return list(self.scores.select("model", "revision").unique(maintain_order=True).iter_rows())

    def labels(self) -> dict[tuple[str, str], str]:
        """What each model is called beside the others: its name, and its revision where there are several of it."""
        models = self.models()
        several = {name for name, count in Counter(name for name, _ in models).items() if count > 1}
        return {(name, revision): f"{name} ({revision})" if name in several else name for name, revision in models}

    def layer_table(self, model: str | None = None, revision: str | None = None) -> pl.DataFrame:
        """One row a layer of one model, scores in points.

        Args:
            model: Its name; may be left out where there is only one.
            revision: Its revision; may be left out where there is only one.

        Returns:
            Columns layer, depth, mean, one a task, and each metric's mean over the tasks that have it. A layer that
            misses a task has no mean: averages over different tasks are not comparable. Nor has it one of a metric
            that some task has at another layer, but not here.

        Raises:
            InputError: (a ValueError) no such model, or more than one.
        """
        name, which = self.find_model(model, revision)
        here = (pl.col("model") == name) & (pl.col("revision") == which)
        scores = self.scores.filter(here)
        tasks = scores["task"].unique(maintain_order=True).to_list()
        means = score_curves(scores).select("layer", mean=pl.when(WHOLE).then("score"))
        layers = (
            scores.with_columns(pl.col("main_score") * 100)
            .pivot("task", index=["layer", "depth"], values="main_score", aggregate_function="mean")
            .join(means, on="layer", how="left")
            .select("layer", "depth", "mean", *tasks)
        )
        curves = metric_curves(scores, self.metrics.filter(here))
        if not curves.is_empty():
            names = [name for name in METRICS if name in set(curves["metric"])]
            wide = curves.with_columns(pl.when(WHOLE).then("value")).pivot("metric", index="layer", values="value")
            layers = layers.join(wide.select("layer", *names), on="layer", how="left")
        return layers.sort("layer")

    def best_layer(self, model: str | None = None, revision: str | None = None) -> int | None:
        """The layer with the highest mean over the tasks, the lower of equals; None where each misses a task."""
        complete = self.layer_table(model, revision).filter(pl.col("mean").is_not_null())
        best_first = complete.sort("mean", "layer", descending=[True, False])["layer"]
        return None if best_first.is_empty() else int(best_first[0])

    def summary(self, model: str | None = None, revision: str | None = None) -> LayerSummary | None:
        """Best layer against last layer; None where no layer has all tasks, or the last one misses some."""
        layers = self.layer_table(model, revision)
        best = self.best_layer(model, revision)
        last = layers.row(-1, named=True)
        if best is None or last["mean"] is None:
            return None
        n_blocks = n_blocks_at(last["layer"], last["depth"])
        gain = layers.row(by_predicate=pl.col("layer") == best, named=True)["mean"] - last["mean"]
        return LayerSummary(best, last["layer"], n_blocks, gain)

    def schemes(
        self,
        model: str | None = None,
        revision: str | None = None,
        tasks: Tasks = "available",
        complete_only: bool = False,
        seed: int = 0,
    ) -> pl.DataFrame:
        """Ways to pick a layer, side by side, in points: one row a model and revision.

        Args:
            model: Only those of this name.
            revision: Only those of this revision.
            tasks: As in `leaderboard.analysis.schemes.schemes`, which says what the columns are.
            complete_only: As there.
            seed: As there.

        Raises:
            InputError: (a ValueError) no such model, or `tasks` is neither "available" nor "common".
        """
        board = self.only(model, revision)
        return schemes(board.scores, board.metrics, tasks, complete_only, seed)

    def associations(self, model: str, revision: str = "main", per_task: bool = False) -> pl.DataFrame:
        """How each metric goes with the score over the layers of a model.

        Args:
            model: Its name.
            revision: Its revision.
            per_task: As in `leaderboard.analysis.association.associations`, which says what the columns are.

        Raises:
            InputError: (a ValueError) no such model.
        """
        board = self.only(model, revision)
        return associations(board.scores, board.metrics, per_task)

    def only(self, model: str | None = None, revision: str | None = None) -> "Leaderboard":
        """The tables of the models of this name and revision; None is any.

        Raises:
            InputError: (a ValueError) there is none.
        """
        given = {"model": model, "revision": revision}
        asked = {column: value for column, value in given.items() if value is not None}
        scores, metrics, paper = (
            frame.filter(True, **asked) for frame in (self.scores, self.metrics, self.paper_scores)
        )
        if asked and scores.is_empty():
            self._refuse(model, revision)
        return Leaderboard(scores, metrics, paper, self.origins)

    def to_parquet(self, folder: str | Path, **options: Any) -> None:
        """Writes scores, paper_scores, metrics and schemes, and of all models layers and associations, as .parquet.

        Args:
            folder: It is made if need be.
            **options: Of `schemes`: tasks, complete_only, seed.
        """
        for name, frame in self._tables(options).items():
            with atomic_file(Path(folder) / f"{name}.parquet") as partial:
                frame.write_parquet(partial)

    def to_csv(self, folder: str | Path, **options: Any) -> None:
        """As `to_parquet`, as .csv. `load_tables` reads scores.csv and metrics.csv again."""
        for name, frame in self._tables(options).items():
            with atomic_file(Path(folder) / f"{name}.csv") as partial:
                frame.write_csv(partial)

    def save_markdown(self, path: str | Path, **options: Any) -> None:
        """Writes `to_markdown` to a file."""
        with atomic_file(path) as partial:
            partial.write_text(self.to_markdown(**options), encoding="utf-8")

    def to_html(self, path: str | Path, **options: Any) -> None:
        """Writes the page: tables and charts of all models in one file, which a browser opens without a network.

        Args:
            path: The file; it appears whole.
            **options: Of `schemes`: tasks, complete_only, seed.

        Raises:
            InputError: (a ValueError) there is no score.
        """
        from leaderboard.report.page import page  # a heavy import, for those who want a page

        if self.scores.is_empty():
            raise InputError("page: there are no scores to show")
        with atomic_file(path) as partial:
            partial.write_text(page(self, **options), encoding="utf-8")

    def save_figures(self, folder: str | Path, **options: Any) -> None:
        """Draws the paper's figures as .png and .svg: over all models, and of each its associations and heat map.

        Args:
            folder: It is made if need be.
            **options: Of `schemes`: tasks, complete_only, seed.
        """
        from leaderboard.report.figure_rows import save_figures

        save_figures(self, folder, **options)

    def to_markdown(self, **options: Any) -> str:
        """The schemes of all models; then of each model its layers, best one in bold, and associations.

        Args:
            **options: Of `schemes`: tasks, complete_only, seed.
        """
        return markdown(self, **options)

    def _tables(self, options: dict[str, Any]) -> dict[str, pl.DataFrame]:
        frames = {
            "scores": self.scores,
            "paper_scores": self.paper_scores,
            "metrics": self.metrics,
            "schemes": self.schemes(**options),
        }
        if self.models():
            frames["layers"] = self.of_every_model(self.layer_table)
            frames["associations"] = self.of_every_model(self.associations)
        return frames

    def of_every_model(self, table: Callable[[str, str], pl.DataFrame]) -> pl.DataFrame:
        """What `table` gives for each model and revision, below each other, with columns that say whose it is."""
        return pl.concat(
            [
                table(model, revision).select(
                    pl.lit(model).alias("model"), pl.lit(revision).alias("revision"), pl.all()
                )
                for model, revision in self.models()
            ],
            how="diagonal",
        )

    def origin(self, model: str, revision: str) -> Origin:
        """How a model is loaded again; of one that only tables tell of, by its name there."""
        return self.origins.get((model, revision)) or origin_by_name(model, revision)

    def find_model(self, model: str | None = None, revision: str | None = None) -> tuple[str, str]:
        """Name and revision of one model; what is left out is found where there is only one.

        Raises:
            InputError: (a ValueError) no such model, or more than one; the message names those there are.
        """
        found = [(m, r) for m, r in self.models() if model in (None, m) and revision in (None, r)]
        if len(found) != 1:
            self._refuse(model, revision)
        return found[0]

    def _refuse(self, model: str | None, revision: str | None) -> NoReturn:
        names = ", ".join(f"{m} ({r})" for m, r in self.models()) or "none"
        raise InputError(f"model: expected one of {names}; got model={model!r}, revision={revision!r}")


def load_results(results_dir: str | Path) -> Leaderboard:
    """Reads the results of every model in a folder.

    Args:
        results_dir: What was given to `run_sweep`.

    Returns:
        The leaderboard; empty tables where nothing is finished.

    Raises:
        InputError: (a ValueError) there is no such folder.
    """
    if not Path(results_dir).is_dir():
        raise InputError(f"results: there is no folder {str(results_dir)!r}")
    folder = ResultsFolder(results_dir)
    rows: dict[str, list[tuple[Any, ...]]] = {"main": [], "paper": []}
    origins: dict[tuple[str, str], Origin] = {}
    for meta, result in folder.results():
        made_of = provenance_of(result)
        if made_of is not None:
            origins.setdefault((model_label(meta), str(meta.revision)), origin_of(meta, made_of))
            for kind, row in _score_rows(meta, result, made_of):
                rows[kind].append(row)
    scores, paper_scores = (
        pl.DataFrame(found, schema=SCORES_SCHEMA, orient="row").sort("model", "revision", "layer", maintain_order=True)
        for found in rows.values()
    )
    return Leaderboard(scores, folder.metrics(), paper_scores, origins)


def _score_rows(
    meta: ModelMeta, result: TaskResult, made_of: Mapping[str, Any]
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The row of the main score and, where there is one, of the paper's."""
    layer, n_blocks, task_type = (made_of[key] for key in ("layer", "n_blocks", "task_type"))
    head = (model_label(meta), meta.revision, layer, layer / n_blocks, result.task_name, task_type)
    yield "main", (*head, float(result.get_score()))
    for name in _PAPER_SCORES.get(task_type, []):
        if all(name in entry for entry in entries_of(result)):
            yield "paper", (*head, float(result.get_score(getter=itemgetter(name))))
            break
