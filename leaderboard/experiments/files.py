"""The files of experiments: for each a table (Parquet) and a figure (PNG, SVG), and one page for all of a folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import vl_convert

from leaderboard.experiments.names import EXPERIMENTS, Experiment
from leaderboard.report.cells import plain_cell
from leaderboard.report.figures import Figure, save_figure, slide, titled
from leaderboard.report.page_files.sections import Section, sections_page
from midlayer_embed.errors import InputError, first_line
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.paths import target_folder, user_path

PAGE = "index.html"
_TITLE = "The experiments of Layer by Layer"
_LEAD = (
    "What Layer by Layer (Skean et al. 2025) measured besides its main tables, for these models: each figure has what "
    "the paper saw above it, and its own numbers below."
)
# More models than this are counted in a title, not named.
_MOST_NAMED = 2
_SETTINGS: dict[str, Callable[[Any], str]] = {
    "n_texts": lambda n: f"{n} text{'s' if n != 1 else ''}",
    "final_norm": lambda normed: "states after the final norm" if normed else "raw states",
    "max_seq_length": lambda n: f"at most {n} tokens of each",
    "first_token": lambda counts: "" if counts else "without the first token",
    "one_token": lambda same: "one token of a prompt for all that are replaced" if same else "",
    "seed": lambda seed: f"seed {seed}",
}


def save(table: pl.DataFrame, experiment: Experiment, folder: str | Path) -> list[Path]:
    """Write the table of an experiment, its figure, and the page of all experiments in the folder.

    Args:
        table: What the experiment returned.
        experiment: The experiment.
        folder: Target folder, created if needed. Earlier files of the same experiment are replaced.

    Returns:
        The files.
    """
    target = target_folder(folder, "out")
    figure = figure_of(table, experiment)
    parquet, png, svg = (target / f"{experiment.name}.{suffix}" for suffix in ("parquet", "png", "svg"))
    with atomic_file(parquet) as partial:
        table.write_parquet(partial)
    save_figure(figure, png, svg)
    page = target / PAGE
    with atomic_file(page) as partial:
        partial.write_text(sections_page(_TITLE, _LEAD, sections_of(target)), encoding="utf-8")
    return [parquet, png, svg, page]


def read(folder: str | Path) -> dict[str, pl.DataFrame]:
    """The tables of all experiments in a folder, by name.

    Raises:
        InputError: (a ValueError) there is no such folder, no experiment in it, or a file that cannot be read.
    """
    source = user_path(folder, "experiments")
    if not source.is_dir():
        raise InputError(f"experiments: expected a folder that `experiment` wrote, got {str(folder)!r}")
    found = {}
    for name in EXPERIMENTS:
        path = source / f"{name}.parquet"
        if path.exists():
            try:
                found[name] = pl.read_parquet(path)
            except (pl.exceptions.PolarsError, OSError) as error:
                raise InputError(f"experiments: {path} cannot be read: {first_line(error)}") from error
    if not found:
        raise InputError(f"experiments: {str(folder)!r} has no table of an experiment, such as {name}.parquet")
    return found


def sections_of(folder: str | Path) -> list[Section]:
    """A section of a page for every experiment in a folder, for `Leaderboard.to_html`.

    Raises:
        InputError: (a ValueError) as `read`.
    """
    return [_section(table, EXPERIMENTS[name]) for name, table in read(folder).items()]


def figure_of(table: pl.DataFrame, experiment: Experiment) -> Figure:
    """The figure of an experiment, with a title that names its models."""
    drawn: Figure = experiment.part("draw_")(table)
    return titled(drawn, title_of(table, experiment), _made_with(table))


def summary_of(table: pl.DataFrame, experiment: Experiment) -> pl.DataFrame:
    """The small table of an experiment, without the model if there is only one: the title names it."""
    summary: pl.DataFrame = experiment.part("summary_")(table)
    alone = "model" in summary.columns and summary["model"].n_unique() == 1
    return summary.drop("model") if alone else summary


def title_of(table: pl.DataFrame, experiment: Experiment) -> str:
    """The title of an experiment with its models."""
    names = table["model"].drop_nulls().unique(maintain_order=True).to_list()
    said = ", ".join(names) if len(names) <= _MOST_NAMED else f"{len(names)} models"
    return f"{experiment.title}: {said}" if names else experiment.title


def _section(table: pl.DataFrame, experiment: Experiment) -> Section:
    summary = summary_of(table, experiment)
    is_word = [kind == pl.String for kind in summary.dtypes]
    return Section(
        anchor=experiment.name,
        title=experiment.title,
        lead=f"The paper ({experiment.paper}): {experiment.saw}",
        svg=vl_convert.vegalite_to_svg(slide(figure_of(table, experiment))),
        caption=title_of(table, experiment),
        columns=[name.replace("_", " ") for name in summary.columns],
        rows=[[plain_cell(value) for value in row] for row in summary.iter_rows()],
        n_names=is_word.index(False) if False in is_word else len(is_word),
        note=_made_with(table),
    )


def _made_with(table: pl.DataFrame) -> str:
    """The settings of a table in words."""
    said = []
    for column, words in _SETTINGS.items():
        values = table[column].drop_nulls().unique(maintain_order=True).to_list() if column in table.columns else []
        told = [words(value) for value in values[:_MOST_NAMED] if words(value)]
        said += [" or ".join(told)] if told else []
    return ", ".join(said)
