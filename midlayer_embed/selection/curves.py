"""Curves over layers as text tables, Markdown and pictures. Nothing is measured here."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from midlayer_embed.errors import InputError
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.checks import check_installed
from midlayer_embed.ground.markdown import table
from midlayer_embed.ground.paths import target_folder
from midlayer_embed.ground.pictures import (
    COLOURS,
    FONTS,
    PIXELS_PER_POINT,
    SLIDE,
    TEXT_SIZE,
    TITLE_SIZE,
    wrapped,
)
from midlayer_embed.layers import LAYER_SITE
from midlayer_embed.selection.criteria import number, without_first
from midlayer_embed.terms import METRIC_TABLE

if TYPE_CHECKING:
    from midlayer_embed.selection.criteria import LayerSelection
    from midlayer_embed.selection.profile import Profile

_BAR_WIDTH = 32
_SHORTEST_BAR = 4
_NO_MATPLOTLIB = "pictures need matplotlib; run: pip install 'midlayer-embed[select]'"
_LINE, _MARK = COLOURS[:2]  # distinct in grey as well
_POINTS_PER_INCH = 72


def profile_table(profile: "Profile", width: int | None = None) -> str:
    """A table with one row per layer and one column per metric.

    Args:
        profile: The curves.
        width: Width of the terminal: heads that are too long for it are broken at underscores, and columns that do not
            fit follow in another table below. None: any width.
    """
    layers = range(profile.n_layers)
    columns = [
        ["layer", *map(str, layers)],
        ["depth", *(f"{layer / (profile.n_layers - 1):.2f}" for layer in layers)],
    ]
    columns += [[name, *map(number, curve)] for name, curve in profile.values.items()]
    full = aligned(columns)
    if width is None or len(full.partition("\n")[0]) <= width:
        return full
    blocks: list[list[list[str]]] = []
    for column in columns[2:]:
        if not blocks or _width([*blocks[-1], column]) > width:
            blocks.append(columns[:2])
        blocks[-1] = [*blocks[-1], column]
    return "\n\n".join(aligned(_with_broken_heads(block)) for block in blocks)


def measured_on(profile: "Profile") -> str:
    """What the metrics of a profile were measured on, in a few words."""
    states = {profile.states_of(metric) for metric in profile.values}
    kinds = " and ".join(kind for kind in ("raw", "normed") if kind in states)
    where = "" if profile.site == LAYER_SITE else f"{profile.site}, "
    items = f"{profile.kind}{'s' * (profile.n_texts != 1)}"
    return f"{where}{kinds} states of {profile.n_texts} {items}{without_first(profile)}"


def _width(columns: list[list[str]]) -> int:
    return len(aligned(_with_broken_heads(columns)).partition("\n")[0])


def _with_broken_heads(columns: list[list[str]]) -> list[list[str]]:
    """Columns whose first cells, the heads, are broken at underscores, into as many cells in each column."""
    heads = [head.split("_") for head, *_ in columns]
    n_lines = max(map(len, heads))
    return [[*[""] * (n_lines - len(head)), *head, *cells] for head, (_, *cells) in zip(heads, columns, strict=True)]


def aligned(columns: list[list[str]]) -> str:
    """Columns as text, aligned to the right."""
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    return "\n".join("  ".join(cell.rjust(size) for cell, size in zip(row, widths, strict=True)) for row in rows)


def curve_bars(selection: "LayerSelection", width: int | None = None) -> str:
    """The curve of a criterion as text: one row per layer, with a bar from the lowest value to the highest.

    Args:
        selection: The choice, by a criterion that measures texts.
        width: Width of the terminal; None: wide enough.
    """
    if selection.values is None:
        return ""
    low, high = float(np.nanmin(selection.values)), float(np.nanmax(selection.values))
    marks = {selection.runner_up: "runner-up", selection.layer: "chosen"}
    lines = [f"{'layer':>5}  {'depth':>5}  {_name(selection):>15}"]
    room = _BAR_WIDTH if width is None else width - len(lines[0]) - len("   runner-up")
    longest = min(_BAR_WIDTH, max(room, _SHORTEST_BAR))
    for layer, value in enumerate(selection.values):
        depth = layer / (selection.n_layers - 1)
        share = (float(value) - low) / ((high - low) or 1.0)
        bar = "" if np.isnan(value) else "█" * (1 + round((longest - 1) * share))
        mark = f" {marks[layer]}" if layer in marks else ""
        lines.append(f"{layer:>5}  {depth:>5.2f}  {number(value):>15}  {bar}{mark}".rstrip())
    return "\n".join(lines)


def _name(selection: "LayerSelection") -> str:
    return selection.metric or ("points" if selection.profile is None else "geometric mean")


def curve_markdown(selection: "LayerSelection") -> str:
    """The curve of a criterion as a Markdown table."""
    assert selection.values is not None
    rows = [["layer", "depth", _name(selection)]]
    for layer, value in enumerate(selection.values):
        rows.append([str(layer), f"{layer / (selection.n_layers - 1):.2f}", number(value)])
    return table(rows, right=True, bold=1 + selection.layer)


def can_draw() -> bool:
    """Whether matplotlib is installed; it comes with the `select` extra."""
    return find_spec("matplotlib") is not None


def check_folder_for_pictures(folder: str | Path) -> None:
    """Reject a folder that a table and pictures cannot be written to, before anything is measured.

    Raises:
        InputError: (a ValueError) the folder is a file, or polars or matplotlib is not installed.
    """
    target_folder(folder, "out")
    check_installed("polars", "out")
    if not can_draw():
        raise InputError(_NO_MATPLOTLIB)


def draw_profile(profile: "Profile", path: str | Path) -> None:
    """Draw a small chart over depth for each metric.

    Args:
        profile: The curves.
        path: A .png or .svg file; it is written atomically.

    Raises:
        InputError: (a ValueError) matplotlib is not installed.
    """
    names = list(profile.values)
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    depths = np.linspace(0, 1, profile.n_layers)
    title = f"Metrics of every layer: {profile.model}"
    with _picture(path, title, measured_on(profile)) as figure:
        for position, name in enumerate(names, start=1):
            axes = figure.add_subplot(rows, columns, position)
            _draw_curve(axes, depths, profile.values[name])
            axes.set_title(METRIC_TABLE[name].title, fontsize=TEXT_SIZE, loc="left")
            if position > len(names) - columns:
                axes.set_xlabel("depth")


def draw_selection(selection: "LayerSelection", path: str | Path) -> None:
    """Draw the curve of a criterion over layers, with the layer that was chosen.

    Args:
        selection: A selection by a criterion that measures texts.
        path: A .png or .svg file; it is written atomically.

    Raises:
        InputError: (a ValueError) matplotlib is not installed, or the criterion measures nothing.
    """
    if selection.values is None:
        raise InputError(f"selection: {selection.criterion!r} measures nothing, so there is no curve to draw")
    title = f"{selection.criterion} picks layer {selection.layer} of {selection.n_layers - 1}"
    note = ""
    if selection.profile is not None:
        title += f": {selection.profile.model}"
        note = measured_on(selection.profile)
    with _picture(path, title, note) as figure:
        axes = figure.add_subplot()
        _draw_curve(axes, np.arange(selection.n_layers), selection.values)
        axes.plot([selection.layer], [selection.values[selection.layer]], "o", color=_MARK, markersize=12)
        axes.axvline(selection.layer, color=_MARK, linewidth=1.5, linestyle=":")
        axes.set_xlabel("layer")
        axes.set_ylabel(selection.title)
        axes.xaxis.get_major_locator().set_params(integer=True)


@contextmanager
def _picture(path: str | Path, title: str, note: str) -> Iterator[Any]:
    """A figure of the size of a slide, with a wrapped title and a note under it; it is saved at the end."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.font_manager import get_font_names
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError:
        raise InputError(_NO_MATPLOTLIB) from None
    path = Path(path)
    installed = set(get_font_names())
    fonts = [name for name in FONTS if name in installed]
    width, height = (size / _POINTS_PER_INCH for size in SLIDE)
    with matplotlib.rc_context({"font.family": fonts, "font.size": TEXT_SIZE}), warnings.catch_warnings():
        # Names may have letters that no installed font has.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.1)  # inches
        figure = Figure(figsize=(width, height), dpi=_POINTS_PER_INCH * PIXELS_PER_POINT, layout=layout)
        # Names may hold dollar signs, which are no formulas.
        lines = [*wrapped(title), *(wrapped(note, TITLE_SIZE) if note else [])]
        figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=TITLE_SIZE, parse_math=False)
        yield figure
        with atomic_file(path) as partial:
            figure.savefig(partial, format=path.suffix.removeprefix(".").lower() or "png")


def _draw_curve(axes: Any, places: np.ndarray, values: np.ndarray) -> None:
    axes.plot(places, values, color=_LINE, marker="o", markersize=5, linewidth=2)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
