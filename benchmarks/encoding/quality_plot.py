"""Draws quality against cost: two panels, cost on a logarithmic axis, for README.md."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.encoding.one_way import INT8, ONNX, OURS, PLAIN, WORDS

# Colours that people with any colour vision tell apart (Okabe and Ito); models differ by colour, ways by marker too.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")
_MARKERS = {PLAIN: "o", OURS: "P", ONNX: "s", INT8: "D", WORDS: "^"}
_INCHES, _DPI = (10, 4.6), 160


def draw(points: Sequence[tuple[str, str, float, Sequence[float]]], tasks: Sequence[str], target: Path) -> None:
    """Draw one panel per task.

    Args:
        points: Of each way its model, what makes the vectors, CPU seconds per 1,000 texts, and a score per task.
        tasks: Names of the tasks.
        target: A .png or .svg file.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    models = list(dict.fromkeys(model for model, *_ in points))
    colour_of = dict(zip(models, _COLOURS, strict=False))
    with mpl.rc_context({"svg.hashsalt": "midlayer-embed", "font.size": 10}):
        figure = Figure(figsize=_INCHES, layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(1, len(tasks), sharex=True)
        for number, (panel, task) in enumerate(zip(panels, tasks, strict=True)):
            for model in models:
                own = sorted((cost, scores[number], by) for of, by, cost, scores in points if of == model)
                costs, heights = [cost for cost, *_ in own], [height for _, height, _ in own]
                panel.plot(costs, heights, color=colour_of[model], linewidth=1, alpha=0.6, zorder=1)
                for cost, height, by in own:
                    panel.scatter(cost, height, s=46, color=colour_of[model], marker=_MARKERS[by], zorder=2)
            panel.set_xscale("log")
            panel.set_title(task, fontsize=11)
            panel.set_xlabel("CPU seconds per 1,000 texts")
            panel.grid(alpha=0.25)
            panel.margins(x=0.08, y=0.1)
        panels[0].set_ylabel("score, x100")
        ways = [by for by in _MARKERS if any(by == other for _, other, *_ in points)]
        of_models = [Line2D([], [], color=colour_of[model], linewidth=3, label=model) for model in models]
        of_ways = [Line2D([], [], color="#555555", marker=_MARKERS[by], linestyle="", label=by) for by in ways]
        figure.legend(handles=[*of_models, *of_ways], loc="outside lower center", ncols=5, frameon=False, fontsize=9)
        figure.savefig(target, dpi=_DPI, metadata={"Date": None} if target.suffix == ".svg" else None)
