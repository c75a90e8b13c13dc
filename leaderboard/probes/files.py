"""The files of probes: the table (Parquet), the figure (PNG, SVG), and a page."""

from pathlib import Path

import polars as pl
import vl_convert

from leaderboard.experiments.figures import layer_curves
from leaderboard.experiments.files import PAGE
from leaderboard.probes.table import curves_of, summary_of
from leaderboard.report.cells import plain_cell
from leaderboard.report.figures import Figure, save_figure, slide, titled
from leaderboard.report.page_files.sections import Section, sections_page
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.paths import target_folder

NAME = "probe"
_TITLE = "Probes of every layer"
_LEAD = "How much of an image's class a classifier reads from the frozen states of each layer, beside the metrics."
_SAW = (
    "The paper (Figure 14): the accuracy of ViT, CLIP, BEiT, DINOv2, MAE and AIMv2 grows to the last layers; AIM, "
    "which predicts the next patch, peaks in the middle, as language models do."
)
# More models than this are counted in a title, not named.
_MOST_NAMED = 2


def save_probes(table: pl.DataFrame, folder: str | Path) -> list[Path]:
    """Write probe.parquet, probe.png, probe.svg and index.html; earlier ones are replaced.

    Args:
        table: From `probe_layers`.
        folder: Target folder, created if needed.

    Returns:
        The files.
    """
    target = target_folder(folder, "out")
    figure = figure_of(table)
    parquet, png, svg = (target / f"{NAME}.{suffix}" for suffix in ("parquet", "png", "svg"))
    with atomic_file(parquet) as partial:
        table.write_parquet(partial)
    save_figure(figure, png, svg)
    page = target / PAGE
    with atomic_file(page) as partial:
        partial.write_text(sections_page(_TITLE, _LEAD, [section_of(table)]), encoding="utf-8")
    return [parquet, png, svg, page]


def figure_of(table: pl.DataFrame) -> Figure:
    """Accuracies and metrics over depth, one line a model (the paper's Figure 14)."""
    drawn = layer_curves(curves_of(table), "model", rows="panel")
    return titled(drawn, title_of(table), _made_with(table))


def section_of(table: pl.DataFrame) -> Section:
    """The section of a page, for `Leaderboard.to_html`, too."""
    summary = summary_of(table)
    is_word = [kind == pl.String for kind in summary.dtypes]
    return Section(
        anchor=NAME,
        title=_TITLE,
        lead=_SAW,
        svg=vl_convert.vegalite_to_svg(slide(figure_of(table))),
        caption=title_of(table),
        columns=[name.replace("_", " ") for name in summary.columns],
        rows=[[plain_cell(value) for value in row] for row in summary.iter_rows()],
        n_names=is_word.index(False) if False in is_word else len(is_word),
        note=_made_with(table),
    )


def title_of(table: pl.DataFrame) -> str:
    """The title of a table, with its models."""
    names = table["model"].unique(maintain_order=True).to_list()
    return f"{_TITLE}: {', '.join(names) if len(names) <= _MOST_NAMED else f'{len(names)} models'}"


def _made_with(table: pl.DataFrame) -> str:
    """The settings of a table in words."""
    row = table.row(0, named=True)
    words = [f"{row['n_train']} images to train on, {row['n_test']} to test on, {row['n_classes']} classes"]
    if row["n_metric_images"] is not None:
        words.append(f"metrics of {row['n_metric_images']}")
    norms = table["final_norm"].unique().to_list()
    words += ["states after the final norm" if norms == [True] else "raw states"] if len(norms) == 1 else []
    return ", ".join([*words, f"seed {row['seed']}"])
