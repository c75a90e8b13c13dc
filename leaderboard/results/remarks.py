"""What a reader of results has to know besides the numbers, one sentence each."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from leaderboard.analysis.variants import CORPUS, RECIPE, Variant, with_recipe
from midlayer_embed.layers import layer_list

# More names than this are counted, so that a sentence stays one line; of recipes there is more to choose from.
_SHOWN, _SHOWN_RECIPES = 4, 12
# The parts of a sweep's results folder, for messages.
LAYOUT = "results/<model>/<revision>/experiments/layer_<k>/<task>.json"


def said_of_nothing(source: str | Path, remarks: Sequence[str]) -> str:
    """What is said of results or tables without any score of a layer.

    Args:
        source: The folder or file.
        remarks: What was found instead.
    """
    found = "".join(f": {remark}" for remark in remarks[:1]) + "".join(f"; {remark}" for remark in remarks[1:])
    return f"{source} contains no scores of layers{found}; expected {LAYOUT}, as midlayer-leaderboard run writes them"


def some_names(names: Sequence[str], between: str = ", ", most: int = _SHOWN) -> str:
    """Names as a list, the last ones counted if there are more than `most`.

    Example:
        >>> some_names(["A", "B"]), some_names(list("ABCDEF"))
        ('A, B', 'A, B, C, D and 2 more')
    """
    more = len(names) - most
    return between.join(names) if more <= 0 else f"{between.join(names[:most])} and {more} more"


def some_recipes(variants: Sequence[Variant]) -> str:
    """Recipes as a list; templates are whole if there are few."""
    whole = len(variants) <= _SHOWN
    return some_names([one.words(whole=whole) for one in variants], "; ", _SHOWN_RECIPES)


def said_of_not_finite(n: int, of: int) -> str:
    """Why a layer has no score: the same for all tasks without a finite vector, so that these are told together.

    Args:
        n: Number of vectors that are not finite.
        of: Number of vectors.

    Example:
        >>> said_of_not_finite(3, 60), said_of_not_finite(60, 60)
        ('3 of 60 vectors are not finite (NaN)', 'no vector is finite (NaN)')
    """
    return "no vector is finite (NaN)" if n == of else f"{n} of {of} vectors are not finite (NaN)"


def said_of_no_scores(no_scores: pl.DataFrame) -> list[str]:
    """One sentence for each model that has layers without a score on some task.

    Args:
        no_scores: A result of `Tables.no_scores`.

    Example:
        >>> row = {"model": "org/m", "revision": "main", "layer": 0, "task": "STS17", "reason": "all vectors are equal"}
        >>> said_of_no_scores(pl.DataFrame([row]))
        ['org/m: layer 0 has no score on STS17: all vectors are equal']
        >>> said_of_no_scores(pl.DataFrame([{**row, "template": "echo"}]))
        ['org/m: layer 0 has no score on STS17 with echo: all vectors are equal']
    """
    tasks: dict[tuple[str, str, tuple[int, ...], str], list[str]] = {}
    key = ["model", "revision", *RECIPE, "task", "reason"]
    by_task = with_recipe(no_scores).group_by(key, maintain_order=True).agg(pl.col("layer").sort())
    for model, revision, *recipe, task, reason, layers in by_task.iter_rows():
        variant = Variant(model, revision, *recipe)
        tasks.setdefault((model, reason, tuple(layers), "" if variant.is_plain else variant.words()), []).append(task)
    recipes: dict[str, dict[tuple[str, tuple[int, ...], tuple[str, ...]], list[str]]] = {}
    for (model, reason, numbers, recipe_words), names in tasks.items():
        recipes.setdefault(model, {}).setdefault((reason, numbers, tuple(names)), []).append(recipe_words)
    return [
        f"{model}: {some_names([_of_layers(*kind, words) for kind, words in kinds.items()], '; ')}"
        for model, kinds in recipes.items()
    ]


def _of_layers(reason: str, layers: Sequence[int], tasks: Sequence[str], recipes: Sequence[str]) -> str:
    plain = ["plain"] if "" in recipes and len(recipes) > 1 else []
    named = [*plain, *filter(None, recipes)]
    how = f" with {some_names(named, ' or ')}" if named else ""
    return f"{_named(layers)} {'has' if len(layers) == 1 else 'have'} no score on {some_names(tasks)}{how}: {reason}"


def _named(layers: Sequence[int]) -> str:
    return f"layer{'s' * (len(layers) > 1)} {layer_list(layers)}"


def said_of_passed_over(passed_over: Mapping[tuple[str, bool], int]) -> list[str]:
    """One sentence for each model with results that no sweep wrote.

    Args:
        passed_over: Number of results, by model and whether they are of a layer.

    Example:
        >>> said_of_passed_over({("org/m", False): 3})
        ['3 results of org/m without a layer were passed over: no sweep wrote them']
    """
    sentences = []
    for (model, of_layer), n in passed_over.items():
        results, were, them = ("result", "was", "it") if n == 1 else ("results", "were", "them")
        of = "of single layers" if of_layer else "without a layer"
        sentences.append(f"{n} {results} of {model} {of} {were} passed over: no sweep wrote {them}")
    return sentences


def said_of_other_fits(fits: pl.DataFrame) -> list[str]:
    """One sentence for each name of texts under which transforms were fitted on different texts.

    A corpus is the same for all models and tasks. A task has texts of its own, under the prompts of a model.

    Args:
        fits: Columns model, task, layer, fitted_on, and what it was fitted on: n, the number of texts, and their hash,
            sha256.
    """
    is_corpus = pl.col("fitted_on").str.starts_with(CORPUS)
    own = [pl.when(~is_corpus).then(name).alias(f"own_{name}") for name in ("task", "model")]
    sentences = []
    for (name, task, _), rows in (
        fits.with_columns(own)
        .sort("own_task", maintain_order=True)
        .partition_by("fitted_on", "own_task", "own_model", as_dict=True, maintain_order=True)
        .items()
    ):
        if rows["sha256"].n_unique() == 1:
            continue
        parts, counted = [], set[int]()
        for (n, _), some in rows.partition_by("n", "sha256", as_dict=True, maintain_order=True).items():
            layers = some.group_by("model", "task", maintain_order=True).agg(pl.col("layer").unique().sort())
            where = [f"{model}: {_named(numbers)} on {of}" for model, of, numbers in layers.iter_rows()]
            parts.append(f"{n} {'others' if n in counted else 'texts'} ({some_names(where, '; ')})")
            counted.add(n)
        of_task = "" if task is None else f" of {task}"
        sentences.append(
            f"transforms on {name}{of_task} were fitted on different texts, so their scores are not comparable: "
            f"{some_names(parts, '; ')}"
        )
    return sentences


def said_of_other_data(data: pl.DataFrame) -> list[str]:
    """One sentence for each task whose results are of different data.

    Args:
        data: Columns model, task, layer, and data: what the layer was scored on.
    """
    sentences = []
    for (task,), rows in data.partition_by("task", as_dict=True, maintain_order=True).items():
        if rows["data"].n_unique() == 1:
            continue
        parts = []
        for (found,), some in rows.partition_by("data", as_dict=True, maintain_order=True).items():
            layers = some.group_by("model", maintain_order=True).agg(pl.col("layer").unique())
            names = [f"{model}: {_named(numbers)}" for model, numbers in layers.iter_rows()]
            parts.append(f"{found} ({some_names(names, '; ')})")
        sentences.append(f"{task} was scored on different data, so its scores are not comparable: {some_names(parts)}")
    return sentences
