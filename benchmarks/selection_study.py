"""How far a layer that is chosen without labels is from the best one, on tasks that the rule was not chosen on.

    python -m benchmarks.selection_study DATA_DIR [--results FOLDER] [--models starter minilm NAME=FOLDER[:GGUF] ...]
        [--templates none echo] [--limit 200] [--texts 60] [--dtype bfloat16] [--jobs 1] [--report-only]

DATA_DIR holds the datasets of the tasks (see `midlayer-leaderboard run --data-dir`). Every layer of every model is
scored on a sample of each task, and the criteria are measured on texts of the tasks, without labels. The tasks are
split in two, each type of them: rules are compared on the deciding half, and the reporting half says what they are
worth. A run that was interrupted continues from the results folder.
"""

import argparse
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from mteb.abstasks.abstask import AbsTask
from scipy.stats import spearmanr

from benchmarks.recipes import minilm_folder
from leaderboard import load_results, run_sweep
from leaderboard.quiet import calm_libraries
from leaderboard.scoring.texts import collect_texts
from leaderboard.tasks.benchmarks import get_task
from leaderboard.tasks.limit import limit_task
from leaderboard.tasks.mirror import dataset_folder, reading_from
from midlayer_embed import LayerwiseEncoder, profile_layers
from midlayer_embed.ground.atomic import atomic_file
from midlayer_embed.ground.markdown import table
from midlayer_embed.selection.criteria import cost, end_of, metrics_of, value_of
from midlayer_embed.texts.tokens import spelt

TASKS = {
    "similarity": (
        *("STSBenchmark", "STS12", "STS14", "STS15", "STS16", "STS17", "BIOSSES"),
        "TwitterURLCorpus",
    ),
    "classification": (
        *("AmazonCounterfactualClassification", "Banking77Classification", "EmotionClassification"),
        *("MassiveIntentClassification", "MTOPDomainClassification"),
    ),
    "clustering": ("TwentyNewsgroupsClustering", "RedditClustering", "StackExchangeClustering"),
}
ALL_TASKS = tuple(name for names in TASKS.values() for name in names)
# Sets of sentences that are clustered one by one, 25 of them; the limit is for each.
_MANY_SETS = ("RedditClustering", "StackExchangeClustering")
# Draws of training rows; mteb makes 10. The classifier takes longer than the model where there are 60 classes and more.
_EXPERIMENTS = 4
HALVES = ("deciding", "reporting")
MIXED = "mixed"  # the texts of all types of tasks together
PAPER = ("dime", "infonce", "dataset_entropy")
VIEWS = ("half_retrieval", "drop_retrieval")
_ABOUT = "about.json"  # of each model in the results folder
Curves = Mapping[str, np.ndarray]


def split(seed: int = 0) -> dict[str, list[str]]:
    """The tasks of each half; every type gives the larger part to the deciding one."""
    found: dict[str, list[str]] = {half: [] for half in HALVES}
    for names in TASKS.values():
        shuffled = random.Random(seed).sample(names, len(names))
        middle = (len(names) + 1) // 2
        found["deciding"] += shuffled[:middle]
        found["reporting"] += shuffled[middle:]
    return found


def kinds_of(names: Sequence[str]) -> dict[str, list[str]]:
    """These tasks by their type; a type without any is left out."""
    found = {kind: [name for name in of_kind if name in names] for kind, of_kind in TASKS.items()}
    return {kind: some for kind, some in found.items() if some}


def _by(criterion: str) -> "Rule":
    """What a criterion takes, as `select_layer` does."""
    return lambda curves, depths: int(
        cost(value_of([curves[metric] for metric in metrics_of(criterion)]), end_of(criterion)).argmin()
    )


def _at(depth: float) -> "Rule":
    return lambda curves, depths: int(abs(depths - depth).argmin())


# The place of the layer that a rule takes among those that have a score, from their curves and their depths. A rule
# whose curves are missing is left out.
Rule = Callable[[Curves, np.ndarray], int]
RULES: dict[str, Rule] = {
    **{name: _by(name) for name in ("half-and-drop", "half-retrieval", "drop-retrieval")},
    "proxy": lambda curves, depths: int(curves["proxy"].argmax()),
    **{name: _by(name) for name in ("min-dime", "min-infonce", "min-entropy")},
    "first": _at(0),
    "middle": _at(0.5),
    "depth:0.7": _at(0.7),
    "depth:0.8": _at(0.8),
    "last": _at(1),
}


def regrets(score: np.ndarray, curves: Curves, embeds: bool = False) -> list[tuple[str, int | None, float]]:
    """The regret of each rule, and of a random layer: rule, layer, regret in points.

    Args:
        score: The score of every layer in points; NaN for a layer without one, which is not taken.
        curves: The criteria's curves over all layers.
        embeds: Whether it is an embedding model: `auto` takes its last layer.
    """
    kept = np.flatnonzero(np.isfinite(score))
    scored, depths = score[kept], kept / (len(score) - 1)
    of_kept = {metric: curve[kept] for metric, curve in curves.items()}
    found: list[tuple[str, int | None, float]] = [("random", None, float(scored.max() - scored.mean()))]
    for rule, pick in {"auto": RULES["last" if embeds else "half-and-drop"], **RULES}.items():
        try:
            place = pick(of_kept, depths)
        except KeyError:
            continue
        found.append((rule, int(kept[place]), float(scored.max() - scored[place])))
    return found


def prepared(name: str) -> AbsTask:
    """A task with fewer draws of training rows."""
    task = get_task(name)
    if name in TASKS["classification"]:
        task.n_experiments = _EXPERIMENTS
    return task


def limit_of(name: str, limit: int) -> int:
    """Evaluated items of a task: a set of sentences out of many gets fewer."""
    return max(2, limit // 10) if name in _MANY_SETS else limit


def texts_of(name: str, data_dir: Path, limit: int, n_texts: int) -> list[str]:
    """A sample of the texts that a task evaluates, without labels."""
    task = prepared(name)
    folder = dataset_folder(data_dir, task)
    assert folder is not None  # none of these tasks builds its own data
    with calm_libraries(), reading_from(folder, task):
        task.load_data()
        limit_task(task, limit_of(name, limit), seed=0)
        texts = sorted({spelt(text) for text in collect_texts(task).evaluated})
    return random.Random(f"study {name}").sample(texts, min(n_texts, len(texts)))


def corpora_of(texts: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """What the criteria are measured on: the texts of each half of the tasks together, and of each type in it."""
    found = {}
    for half, names in split().items():
        known = [name for name in names if name in texts]
        for corpus, some in {MIXED: known, **kinds_of(known)}.items():
            found[f"{half}, {corpus}"] = [text for name in some for text in texts[name]]
    return found


def measure(encoder: LayerwiseEncoder, texts: Mapping[str, Sequence[str]], metrics: Sequence[str]) -> pl.DataFrame:
    """The metrics on every corpus: corpus, metric, layer, value."""
    rows = [
        (corpus, metric, layer, float(value))
        for corpus, some in corpora_of(texts).items()
        for metric, values in profile_layers(encoder, some, metrics, max_texts=None).values.items()
        for layer, value in enumerate(values)
    ]
    schema = {"corpus": pl.String, "metric": pl.String, "layer": pl.Int64, "value": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def named_model(spelled: str) -> tuple[str, str, str | None]:
    """Name, model and file of a model on the command line.

    Example:
        >>> named_model("gemma=models/gemma:model.gguf")
        ('gemma', 'models/gemma', 'model.gguf')
    """
    name, _, where = spelled.partition("=")
    if not where:
        return (name, str(minilm_folder()), None) if name == "minilm" else (name, name, None)
    folder, _, gguf_file = where.partition(":")
    return name, folder, gguf_file or None


def run(spelled: str, arguments: argparse.Namespace, texts: Mapping[str, Sequence[str]]) -> None:
    """Score every layer of a model and measure the criteria; what is there already is kept."""
    name, model, gguf_file = named_model(spelled)
    options = {"gguf_file": gguf_file} if gguf_file else {}
    for template in (None if template == "none" else template for template in arguments.templates):
        encoder = LayerwiseEncoder(model, template=template, dtype=arguments.dtype, **options)
        folder = arguments.results / name
        common = {"metrics": "none", "jobs": arguments.jobs, "show_progress": sys.stderr.isatty()}
        for limit in sorted({limit_of(task, arguments.limit) for task in arguments.tasks}, reverse=True):
            some = [prepared(task) for task in arguments.tasks if limit_of(task, arguments.limit) == limit]
            run_sweep(encoder, some, folder / "scores", data_dir=arguments.data_dir, limit=limit, **common)
        run_sweep(encoder, "starter", folder / "starter", **common)
        (folder / _ABOUT).write_text(json.dumps({"embeds": encoder.checkpoint.own.is_sentence_transformer}))
        file = folder / f"curves-{template or 'none'}.parquet"
        if not file.exists():
            # the paper's criteria measure raw states of plain texts
            found = measure(encoder, texts, VIEWS if template else (*VIEWS, *PAPER))
            with atomic_file(file) as partial:
                found.write_parquet(partial)


def curves_in(folder: Path, template: str) -> dict[str, dict[str, np.ndarray]]:
    """The curves of a model under a template, by corpus: of each metric, and the proxy's scores."""
    file = folder / f"curves-{template}.parquet"
    if not file.exists():
        return {}
    found: dict[str, dict[str, np.ndarray]] = {}
    for (corpus, metric), part in pl.read_parquet(file).sort("layer").group_by("corpus", "metric"):
        found.setdefault(str(corpus), {})[str(metric)] = part["value"].to_numpy()
    if (folder / "starter").is_dir():
        proxy = scores_in(folder / "starter", template)
        if proxy:
            for curves in found.values():
                curves["proxy"] = np.mean(list(proxy.values()), axis=0)
    return found


def scores_in(folder: Path, template: str) -> dict[str, np.ndarray]:
    """The scores of every layer on each task, in points; a layer without a score is NaN."""
    scores = load_results(folder).scores.filter(
        pl.col("transform").is_null(), pl.col("template").fill_null("none") == template
    )
    n_layers = int(scores["layer"].max() or 0) + 1
    found = {}
    for (task,), part in scores.group_by("task", maintain_order=True):
        found[str(task)] = np.full(n_layers, np.nan)
        found[str(task)][part["layer"].to_numpy()] = part["main_score"].to_numpy() * 100
    return found


def read(results: Path, half: str, template: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Regrets and rank correlations of every model on each type of the tasks of a half.

    Returns:
        Regrets (texts, model, type, rule, layer, regret), where texts says whether the criteria went by the texts of
        all types together ("mixed") or by those of the type ("own"); and correlations (texts, model, type, metric, rho)
        of the criteria's curves with the score, over layers.
    """
    rows, correlations = [], []
    for folder in sorted(path for path in results.iterdir() if (path / "scores").is_dir()):
        scores, curves = scores_in(folder / "scores", template), curves_in(folder, template)
        embeds = json.loads((folder / _ABOUT).read_text())["embeds"]
        for kind, names in kinds_of([name for name in split()[half] if name in scores]).items():
            score = np.mean([scores[name] for name in names], axis=0)
            for texts, corpus in (("mixed", MIXED), ("own", kind)):
                measured = curves.get(f"{half}, {corpus}", {})
                if not measured or np.isfinite(score).sum() < 2:
                    continue
                rows += [(texts, folder.name, kind, *row) for row in regrets(score, measured, embeds)]
                for metric, curve in measured.items():
                    kept = np.isfinite(score) & np.isfinite(curve)
                    rho = float(spearmanr(curve[kept], score[kept])[0])
                    correlations.append((texts, folder.name, kind, metric, rho))
    first = ["texts", "model", "type"]
    return (
        pl.DataFrame(rows, schema=[*first, "rule", "layer", "regret"], orient="row"),
        pl.DataFrame(correlations, schema=[*first, "metric", "rho"], orient="row"),
    )


def summary(found: pl.DataFrame) -> str:
    """A table in Markdown: the mean and the worst regret of each rule over models and types, and those of each model.

    In parentheses are the layers, one if all types get the same.
    """
    models = found["model"].unique(maintain_order=True).to_list()
    means = found.group_by("rule").agg(pl.col("regret").mean(), worst=pl.col("regret").max()).sort("regret", "rule")
    rows: list[tuple[str, ...]] = [("rule", "mean", "worst", *models)]
    for rule, mean, worst in means.iter_rows():
        cells = []
        for model in models:
            part = found.filter(rule=rule, model=model)
            layers = ", ".join(dict.fromkeys(str(layer) for layer in part["layer"].drop_nulls()))
            each = ", ".join(f"{regret:.1f}" for regret in part["regret"])
            cells.append(each + (f" ({layers})" if layers else ""))
        rows.append((rule, f"{mean:.1f}", f"{worst:.1f}", *cells))
    return table(rows)


def correlation_table(found: pl.DataFrame) -> str:
    """A table in Markdown: the rank correlations of each criterion's curve."""
    wide = found.pivot("metric", index=["model", "type"], values="rho")
    rows = [
        ("" if cell is None else f"{cell:+.2f}" if isinstance(cell, float) else cell for cell in row)
        for row in wide.iter_rows()
    ]
    return table([tuple(wide.columns), *map(tuple, rows)])


def main() -> None:
    """Print the tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--results", type=Path, default=Path("results/selection-study"))
    parser.add_argument("--models", nargs="+", default=["starter", "minilm"], metavar="MODEL")
    parser.add_argument("--templates", nargs="+", default=["none", "echo"])
    parser.add_argument("--tasks", nargs="+", default=list(ALL_TASKS))
    parser.add_argument("--limit", type=int, default=200, help="evaluated items of a task (default: 200)")
    parser.add_argument("--texts", type=int, default=60, help="texts of a task for the criteria (default: 60)")
    parser.add_argument("--dtype", default="bfloat16", help="dtype of the weights (default: bfloat16)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that score layers (default: 1)")
    parser.add_argument("--report-only", action="store_true", help="print the tables of the results folder")
    arguments = parser.parse_args()
    if not arguments.report_only:
        texts = {name: texts_of(name, arguments.data_dir, arguments.limit, arguments.texts) for name in arguments.tasks}
        for model in arguments.models:
            run(model, arguments, texts)
    for template in arguments.templates:
        for half in HALVES:
            found, correlations = read(arguments.results, half, template)
            for texts in ("mixed", "own"):
                some = found.filter(texts=texts)
                if some.is_empty():
                    continue
                kinds = ", ".join(some["type"].unique(maintain_order=True))
                print(f"\n## Template {template}, {half} half, by {texts} texts: regrets on {kinds}\n\n{summary(some)}")
                print(f"\nRank correlations\n\n{correlation_table(correlations.filter(texts=texts))}")


if __name__ == "__main__":
    main()
