"""Results of one layer as mteb's own BenchmarkResults.

mteb stores layers as experiments of one model, and averages over the experiments of a model in most of its tables.
"""

from collections import defaultdict
from pathlib import Path

from mteb.models.model_meta import ModelMeta
from mteb.results import BenchmarkResults, ModelResult, TaskResult

from leaderboard.models.labels import model_label
from leaderboard.results.arguments import check_results
from leaderboard.results.files.folder import ResultsFolder
from leaderboard.results.provenance import provenance_of
from leaderboard.tasks import benchmarks  # noqa: F401  # mteb looks our tasks up by their names, once they are imported
from midlayer_embed.errors import InputError
from midlayer_embed.layers import check_layer, layer_number
from midlayer_embed.recipes.names import asked_template, asked_transform, template_name

_Found = list[tuple[ModelMeta, TaskResult]]


def mteb_results(
    results_dir: str | Path,
    layer: int | float = -1,
    *,
    model: str | None = None,
    revision: str | None = None,
    template: str | None = None,
    transform: str | None = None,
    fitted_on: str | None = None,
) -> BenchmarkResults:
    """The results of one layer with one recipe, for mteb's own tables and benchmarks.

    They hold one result per model and task, so that nothing is averaged over layers or recipes. A model is named as
    in our tables: with the settings that are not the default, because they change the scores.

    Args:
        results_dir: The `results_dir` of `run_sweep`.
        layer: A layer of each model (17, or -1 from the end), or a depth as a float in [0, 1]. The default is the last.
        model: Name of one model, as in our tables or without settings; None for all models.
        revision: Revision of the model; needed if there are results of several.
        template: The template of the recipe; None: plain texts.
        transform: The transform of the recipe; None: vectors as they are.
        fitted_on: What the transform was fitted on, "train", "task" or "corpus:<name>"; needed if there are results of
            several.

    Returns:
        mteb's BenchmarkResults; tasks without a result at this layer are left out.

    Raises:
        InputError: (a ValueError) there is no such folder, model, revision, recipe or layer, or several are meant.
        InputTypeError: (a ValueError and a TypeError) the layer is neither an int nor a float.

    Example:
        >>> results = mteb_results("results/starter", layer=7)                          # doctest: +SKIP
        >>> results.to_dataframe()                                                      # doctest: +SKIP
        >>> mteb.get_benchmark("starter").get_score(results)                            # doctest: +SKIP
    """
    check_results(results_dir)
    check_layer(layer)
    recipe = asked_template(template), asked_transform(transform)
    models: dict[tuple[str, str], _Found] = defaultdict(list)
    for meta, result in ResultsFolder(results_dir).results():
        if (meta.experiment_kwargs or {}).get("layer") is not None:
            models[model_label(meta), str(meta.revision)].append((meta, result))
    if not models:
        raise InputError(f"results: there are no results of any layer in {results_dir}")
    models = _of_recipe(models, recipe, fitted_on, str(results_dir))
    chosen = _chosen(models, model, revision, str(results_dir))
    found = [there for label in chosen if (there := _at_layer(label, models[label], layer)) is not None]
    if not found:
        layers = sorted({meta.experiment_kwargs["layer"] for label in chosen for meta, _ in models[label]})  # type: ignore[index]
        raise InputError(f"layer: {results_dir} has no results of layer {layer}; there are layers {layers}")
    return BenchmarkResults(model_results=found)


def _of_recipe(
    models: dict[tuple[str, str], _Found], recipe: tuple[str | None, str | None], fitted_on: str | None, folder: str
) -> dict[tuple[str, str], _Found]:
    """The results with a template and transform; models without any are left out."""
    found: dict[tuple[str, str], _Found] = {}
    on: set[str] = set()
    for label, results in models.items():
        for meta, result in results:
            own = meta.experiment_kwargs or {}
            if (own.get("template"), own.get("transform")) == (template_name(recipe[0]), recipe[1]):
                on.add(str(own.get("transform_texts")))
                if fitted_on in (None, own.get("transform_texts")):
                    found.setdefault(label, []).append((meta, result))
    if not on:
        asked = zip(("template", "transform"), recipe, strict=True)
        of = ", ".join(f"{name}={value!r}" for name, value in asked if value is not None)
        raise InputError(f"{of.partition('=')[0] or 'results'}: {folder} has no results of {of or 'plain layers'}")
    if fitted_on is not None and recipe[1] is None:
        raise InputError(f"fitted_on: {folder} has no transform that was fitted for this recipe, got {fitted_on!r}")
    if not found or (fitted_on is None and len(on) > 1):
        raise InputError(f"fitted_on: {folder} has results fitted on {', '.join(sorted(on))}, got {fitted_on!r}")
    return found


def _chosen(
    models: dict[tuple[str, str], _Found], model: str | None, revision: str | None, folder: str
) -> list[tuple[str, str]]:
    """Name and revision of the models that are meant, one revision of each."""
    labels = sorted({label for label, _ in models})
    if model is not None and model not in labels:
        short = [label for label in labels if any(str(meta.name) == model for meta, _ in models[_first(models, label)])]
        if len(short) != 1:
            raise InputError(f"model: {folder} has results of {', '.join(short or labels)}, got {model!r}")
        model = short[0]
    chosen = [key for key in sorted(models) if model in (None, key[0]) and revision in (None, key[1])]
    if not chosen:
        revisions = ", ".join(sorted({of for label, of in models if model in (None, label)}))
        raise InputError(f"revision: {folder} has results of {revisions}, got {revision!r}")
    for label in labels:
        revisions = ", ".join(of for name, of in chosen if name == label)
        if revisions.count(", "):
            raise InputError(
                f"revision: {folder} has results of several revisions of {label}; expected one of {revisions}"
            )
    return chosen


def _first(models: dict[tuple[str, str], _Found], label: str) -> tuple[str, str]:
    return next(key for key in models if key[0] == label)


def _at_layer(label: tuple[str, str], found: _Found, layer: int | float) -> ModelResult | None:
    """The results of a model at a layer, or None."""
    n_blocks = [provenance["n_blocks"] for _, result in found if (provenance := provenance_of(result)) is not None]
    if isinstance(layer, float) or layer < 0:
        if not n_blocks:
            raise InputError(
                f"layer: the results of {label[0]} do not say how many layers it has; expected an int of at least 0"
            )
        layer = layer_number(layer, n_blocks[0])
    there = [(meta, result) for meta, result in found if (meta.experiment_kwargs or {})["layer"] == layer]
    if not there:
        return None
    meta = there[0][0]
    return ModelResult(
        model_name=label[0],
        model_revision=label[1],
        task_results=[result for _, result in there],
        experiment_name=meta.experiment_name,
        model_meta=meta,
    )
