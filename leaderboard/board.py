"""The leaderboard: tables that can be written as files, pages and figures. Loading functions return it."""

import logging
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from leaderboard.results.tables import Tables
from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.paths import target_folder

if TYPE_CHECKING:
    from leaderboard.report.figures import Figure
    from leaderboard.report.page_files.sections import Section

logger = logging.getLogger(__name__)


class Leaderboard(Tables):
    """Scores and metrics of models, layer by layer, with writers.

    Attributes:
        scores: Columns model, revision, layer, depth, task, task_type, main_score (0..1), and the recipe: template,
            transform, fitted_on (null for a plain layer).
        metrics: Columns model, revision, task, metric, normalization, layer, value.
        paper_scores: The scores that the paper reports, with the columns of `scores`, for the task types where these
            are not mteb's main scores. `configs/benchmarks/paper.yaml` names them.
        origins: How to load the models again, by (name, revision). Models from table files have none.
        reasons: Why a score is null, by (model, revision, layer, task), where that is known.
        remarks: What a reader of the results has to know, one sentence each, such as results that were passed over.
    """

    def to_parquet(self, folder: str | Path, **options: Any) -> None:
        """Writes all tables as .parquet.

        These are scores, paper_scores, metrics, schemes, recipes, regret, regret_types, layers and associations. The
        regrets are over common tasks; regret_types has them for each type of tasks.

        Args:
            folder: Target folder, created if needed.
            **options: Options of `schemes`: tasks, complete_only, seed.
        """
        target = target_folder(folder, "folder")
        for name, frame in self._all_tables(options).items():
            with atomic_file(target / f"{name}.parquet") as partial:
                frame.write_parquet(partial)

    def to_csv(self, folder: str | Path, **options: Any) -> None:
        """Writes the tables of `to_parquet` as .csv. `load_tables` reads scores.csv and metrics.csv.

        Args:
            folder: Target folder, created if needed.
            **options: Options of `schemes`: tasks, complete_only, seed.
        """
        target = target_folder(folder, "folder")
        for name, frame in self._all_tables(options).items():
            with atomic_file(target / f"{name}.csv") as partial:
                frame.write_csv(partial)

    def to_markdown(self, **options: Any) -> str:
        """The tables as Markdown: schemes of all models, then layers (the best in bold) and associations of each model.

        Args:
            **options: Options of `schemes`: tasks, complete_only, seed.
        """
        from leaderboard.report.markdown import markdown

        return markdown(self, **options)

    def __repr__(self) -> str:
        tasks = self.scores["task"].n_unique()
        return f"Leaderboard({len(self.models())} models, {tasks} tasks, {len(self.scores)} scores)"

    def _repr_markdown_(self) -> str:
        """What Jupyter shows: the layers of one model, or the best layer of each of several."""
        from leaderboard.report.markdown import overview

        return overview(self)

    def save_markdown(self, path: str | Path, **options: Any) -> None:
        """Writes `to_markdown` to a file.

        Args:
            path: Target file, replaced atomically.
            **options: Options of `schemes`: tasks, complete_only, seed.
        """
        with atomic_file(path) as partial:
            partial.write_text(self.to_markdown(**options), encoding="utf-8")

    def to_html(self, path: str | Path, *, sections: "Sequence[Section]" = (), **options: Any) -> None:
        """Writes the page: tables and charts of all models in one file, which a browser opens without a network.

        Args:
            path: Target file, replaced atomically.
            sections: Further sections, such as those of `leaderboard.experiments.files.sections_of`.
            **options: Options of `schemes`: tasks, complete_only, seed.

        Raises:
            InputError: (a ValueError) there is no score.
        """
        from leaderboard.report.page import page  # a slow import, only needed for a page

        if self.scores.is_empty():
            raise InputError("page: there are no scores to show")
        with atomic_file(path) as partial:
            partial.write_text(page(self, sections=sections, **options), encoding="utf-8")

    def to_site(
        self, folder: str | Path, *, about: str = "", sections: "Sequence[Section]" = (), **options: Any
    ) -> None:
        """Writes a folder that a static Hugging Face Space or GitHub Pages serves as it is.

        It has the page as index.html, with an introduction for strangers, a README.md with the front matter of a Space,
        .nojekyll, and a picture of the scores.

        Args:
            folder: Target folder, created if needed. Files of an earlier site are replaced.
            about: A sentence that says whose results these are.
            sections: Further sections of the page.
            **options: Options of `schemes`: tasks, complete_only, seed.

        Raises:
            InputError: (a ValueError) there is no score, or the folder has a README.md that no site has written.
        """
        from leaderboard.report.site.folder import save_site

        if self.scores.is_empty():
            raise InputError("site: there are no scores to show")
        save_site(self, folder, about=about, sections=sections, **options)

    def figures(self, **options: Any) -> "dict[str, Figure]":
        """The figures of `save_figures`, by the name of their files.

        Args:
            **options: Options of `schemes`: tasks, complete_only, seed.

        Returns:
            Altair charts; `leaderboard.report.figures.png` makes a picture of one.
        """
        from leaderboard.report.figure_rows import all_figures

        return dict(all_figures(self, **options))

    def save_figures(self, folder: str | Path, **options: Any) -> None:
        """Draws the paper's figures as .png and .svg: curves of all models, associations and a heat map for each model.

        Args:
            folder: Target folder, created if needed.
            **options: Options of `schemes`: tasks, complete_only, seed.
        """
        from leaderboard.report.figure_rows import save_figures

        save_figures(self, folder, **options)

    def _all_tables(self, options: dict[str, Any]) -> dict[str, pl.DataFrame]:
        seed = options.get("seed", 0)
        frames = {
            "scores": self.scores,
            "paper_scores": self.paper_scores,
            "metrics": self.metrics,
            "schemes": self.schemes(**options),
            "recipes": self.recipes(tasks=options.get("tasks", "available")),
            "regret": self.regret(seed=seed),
            "regret_types": self.regret(per_type=True, seed=seed),
        }
        if self.models():
            frames["layers"] = self.of_every_model(self.layer_table)
            frames["associations"] = self.of_every_model(self.associations)
        return frames


def load_results(results_dir: str | Path) -> Leaderboard:
    """Reads the results of every model in a folder.

    Args:
        results_dir: The `results_dir` of `run_sweep`.

    Returns:
        The leaderboard; its tables are empty if no task is finished. Its `remarks` are logged as warnings.

    Raises:
        InputError: (a ValueError) there is no such folder.

    Example:
        >>> board = load_results("results/starter")                                    # doctest: +SKIP
    """
    board = read_board(results_dir)
    log_remarks(board)
    return board


def read_board(results_dir: str | Path) -> Leaderboard:
    """`load_results` without the warnings."""
    from leaderboard.results.load import read_results

    return _with_writers(read_results(results_dir))


def log_remarks(board: Leaderboard) -> None:
    """Logs the remarks of a leaderboard as warnings, one line each."""
    for remark in board.remarks:
        logger.warning("%s", remark)


def load_tables(scores: str | Path | None = None, metrics: str | Path | None = None) -> Leaderboard:
    """Reads scores and metrics of any number of models from table files, such as those that `to_csv` writes.

    Columns may come in any order, and further columns are ignored. Without `revision`, all rows get "main"; without
    `depth`, it is the layer divided by the highest layer of the model and revision. Every metric belongs to a task: a
    metrics file without `task` is refused.

    Args:
        scores: A .csv, .csv.gz or .parquet file: model, revision, layer, depth, task, task_type, main_score, and for
            recipes template, transform and fitted_on ("train", "task" or "corpus:<name>"), empty where there is none.
            Scores are fractions, not points. They may be negative, as correlations can be. An empty or NaN score is
            missing.
        metrics: A file of metrics: model, revision, task, metric, normalization, layer, value. The older names
            entropy_prompt, entropy_sentence and entropy_dataset are renamed. An empty or NaN
            value is missing, and so is infinity.

    Returns:
        The leaderboard; a table is empty if its file is not given. Its `remarks` are logged as warnings.

    Raises:
        InputError: (a ValueError) no such file, a missing column, a value of the wrong type or range, or a duplicate
            row; the message names the file, the column and the row, counted from 1 without the header.

    Example:
        >>> board = load_tables(scores="scores.csv.gz", metrics="metrics.parquet")     # doctest: +SKIP
        >>> board.schemes()                                                            # doctest: +SKIP
    """
    board = read_table_board(scores, metrics)
    log_remarks(board)
    return board


def read_table_board(scores: str | Path | None, metrics: str | Path | None) -> Leaderboard:
    """`load_tables` without the warnings."""
    from leaderboard.results.table_files import read_tables

    return _with_writers(read_tables(scores, metrics))


def _with_writers(tables: Tables) -> Leaderboard:
    return Leaderboard(**{field.name: getattr(tables, field.name) for field in fields(tables)})
