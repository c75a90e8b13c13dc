"""The model card of one layer: its scores, the curve over layers, and how to load the encoder.

`midlayer_embed.encoder.card` renders the part that every saved encoder has; `publish` writes the files.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCardData

from leaderboard.analysis.intervals import N_RESAMPLES
from leaderboard.analysis.schemes import SCHEMES
from leaderboard.analysis.variants import SAID_OF_TRANSDUCTIVE, RecipeKeywords
from leaderboard.models.known import known_models
from leaderboard.report.cells import SCHEME_COLUMNS, format_cell, scheme_cells, variant_of
from leaderboard.report.hub_scores import dataset_of, is_of_mteb, model_index, task_of, task_type_of
from leaderboard.report.layer_record import LayerRecord, find_layer
from leaderboard.report.markdown import layers_markdown, recipes_markdown
from leaderboard.report.snippets import encoder_snippet, export_command, folder_name, layer_snippet, said_of_fitted
from leaderboard.results.provenance import entries_of, provenance_of
from leaderboard.results.remarks import said_of_no_scores, some_names
from leaderboard.results.scores import score_of
from leaderboard.tasks.own_data import STARTER_DATASET, STARTER_DATASETS, STARTER_VISION_DATASET
from midlayer_embed.encoder.card import NAME_TO_COME, CardFacts, base_card_of, base_model_of, card
from midlayer_embed.ground.markdown import escaped, table
from midlayer_embed.models.sentence_transformers_config import NORMALIZE
from midlayer_embed.models.starter import LOCAL, STARTER_HUB_ID, STARTER_LICENSE
from midlayer_embed.options import fold
from midlayer_embed.terms import METRICS

if TYPE_CHECKING:
    from typing_extensions import Unpack

_NUMBERS = ("no", "one", "two", "three", "four", "five")
# What the data of starter tasks are built from.
_STARTER_SOURCES = {
    STARTER_DATASET: """the
> docstrings of the installed numpy, scipy and scikit-learn, to compare the layers of a model offline. Their scores are
> not comparable with MTEB scores, and change with the versions of the three packages""",
    STARTER_VISION_DATASET: """the
> handwritten digits of scikit-learn and from rendered docstrings, to compare the layers of a model offline. Their
> scores are not comparable with MTEB scores""",
}


def model_card(
    results_dir: str | Path,
    model: str | None = None,
    layer: int | float | None = None,
    *,
    revision: str | None = None,
    **recipe: "Unpack[RecipeKeywords]",
) -> str:
    """Render the card of one layer as the text of a README.md, without a picture.

    Args:
        results_dir: Results folder of `run_sweep`.
        model: Model name in the tables; optional if there is only one model.
        layer: A layer or depth that was scored. None: the layer with the best mean score over the tasks.
        revision: Revision of the model; optional if there is only one.
        **recipe: template, transform and fitted_on of the layer's recipe; without them, the layer is plain, or of the
            only recipe if no plain layer was scored.

    Raises:
        InputError: (a ValueError) if there is no such folder, model, recipe or layer; the message lists what there is.

    Example:
        >>> text = model_card("results/starter", layer=7)                               # doctest: +SKIP
    """
    return render_card(find_layer(results_dir, model, layer, revision=revision, **recipe))


def render_card(
    record: LayerRecord,
    *,
    name: str = NAME_TO_COME,
    picture: str | None = None,
    base: str | None = None,
    license: str | None = None,
    base_model: str | None = None,
) -> str:
    """Render the text of the card.

    Args:
        record: The layer with its results.
        name: Name or path that loads the saved encoder.
        picture: File name of a plot of the mean score over layers, in the same folder as the card.
        base: Folder of a base model that is not on the hub; its card supplies the license.
        license: Licence of the model. None: that of the base model.
        base_model: Hub id of the base model, if a folder was scored.
    """
    location = base or record.origin.hub_id
    known = known_models().get(str(record.origin.hub_id))
    known_license = None if known is None else known.license
    base_card = base_card_of(location) if location else ModelCardData()
    facts = CardFacts(
        base_name=_base_name(record),
        base_model=base_model or record.origin.hub_id or base_model_of(base_card),
        license=license or (STARTER_LICENSE if record.origin.hub_id == STARTER_HUB_ID else known_license),
        base_card=base_card,
        layer=record.layer,
        n_blocks=record.n_blocks,
        recipe=fold(record.provenance)[1],
        dim=record.dim,
        how_chosen=_how_chosen(record),
        name=name,
        modules=_modules(record),
        left_out=() if record.layer == record.n_blocks else tuple(_own(record)["for_the_last_layer"]),
        bidirectional=record.provenance["bidirectional"],
        adapters=tuple(record.provenance["adapters"]),
        quantization=record.provenance.get("quantization"),
        fitted_on=None if record.variant.transform is None else said_of_fitted(record.variant.fitted_on),
        answer=_answer(record),
        of_images=layer_snippet(record.origin, record.layer, record.variant.fitted_on)
        if record.origin.modality == "image"
        else None,
    )
    sections = [
        _scores_section(record),
        _layers_section(record, picture),
        *_recipes_sections(record),
        _schemes_section(record),
        *_metrics_sections(record),
        *_usage_sections(record),
        _provenance_section(record),
    ]
    tags = ["mteb"] if any(map(is_of_mteb, record.results)) else []
    return card(facts, sections, tags=tags, **model_index(record, _base_name(record)))


def _own(record: LayerRecord) -> Mapping[str, Any]:
    """What the model said about itself when it was scored; earlier versions noted only whether it normalises."""
    before = {"modules": ["Normalize"] * record.provenance.get("normalized", False), "for_the_last_layer": []}
    own: Mapping[str, Any] = record.provenance.get("own", before)
    return own


def _modules(record: LayerRecord) -> tuple[str, ...]:
    """The modules after pooling of the layer."""
    is_last = record.layer == record.n_blocks
    transform = () if record.variant.transform is None else ("Dense",)  # the module that it is saved as
    return transform + tuple(kind for kind in _own(record)["modules"] if is_last or kind == NORMALIZE)


def _base_name(record: LayerRecord) -> str:
    return record.origin.hub_id or str(record.meta.name).removeprefix(LOCAL)


def _how_chosen(record: LayerRecord) -> str:
    n_layers = record.layers.height
    if record.layer == record.best:
        return f"with labels: highest mean score over the tasks below, out of {n_layers} scored layers"
    better = "" if record.best is None else f"; layer {record.best} has the highest mean score"
    return f"set by the author{better}"


def _scores_section(record: LayerRecord) -> str:
    warning = _said_of_tasks(record)
    if record.variant.is_transductive:
        warning += f"> [!WARNING]\n> {SAID_OF_TRANSDUCTIVE[0].upper()}{SAID_OF_TRANSDUCTIVE[1:]}.\n\n"
    if record.limit is not None:
        warning += f"""> [!WARNING]
> These are partial results: only {record.limit} items of each split were evaluated. They are not MTEB scores and are
> not comparable with other results.

"""
    rows = [("task", "type", "main score", "x100")]
    for result in record.results:
        task = task_of(result)
        measure = "" if task is None else task.metadata.main_score
        rows.append(
            (
                escaped(result.task_name),
                escaped(task_type_of(result)),
                measure,
                "-" if (score := score_of(result)) is None else format_cell("score", score * 100),
            )
        )
    mean = record.layers.filter(layer=record.layer)["mean"][0]
    missing = [task for task in record.tasks if record.layers.filter(layer=record.layer)[task][0] is None]
    mean_sentence = f"The mean is {format_cell('mean', mean)}."
    if missing:
        mean_sentence = f"There is no mean, because this layer has no score for {', '.join(map(escaped, missing))}."
    elif mean is None:
        mean_sentence = "There is no mean, because no task has a score."
    reasons = "".join(f"\n{escaped(said)}.\n" for said in said_of_no_scores(record.no_scores))
    recipe = "" if record.variant.is_plain else f"Recipe: {escaped(record.variant.words(whole=True))}.\n\n"
    return f"""## Scores of layer {record.layer}

{warning}{recipe}Scored with [mteb](https://github.com/embeddings-benchmark/mteb). {mean_sentence}

{table(rows)}
{reasons}"""


def _said_of_tasks(record: LayerRecord) -> str:
    """What the tasks are, if they are not MTEB's."""
    of_starter = [result for result in record.results if dataset_of(result) in STARTER_DATASETS]
    others = [result.task_name for result in record.results if not is_of_mteb(result) and result not in of_starter]
    said = ""
    for dataset, source in _STARTER_SOURCES.items():
        if found := [result for result in of_starter if dataset_of(result) == dataset]:
            number = f"{_number(len(found))} small task{'s' if len(found) > 1 else ''}"
            said += f"""> [!NOTE]
> The starter tasks are not MTEB tasks. They are {number} of MTEB's types, built from {source}.

"""
    if others:
        said += f"> [!NOTE]\n> Not part of MTEB: {', '.join(map(escaped, others))}.\n\n"
    return said


def _number(n: int) -> str:
    return _NUMBERS[n] if n < len(_NUMBERS) else str(n)


def _answer(record: LayerRecord) -> str:
    """The scores of this layer and of the last one, or of the best one if this is the last, in a sentence or two.

    Both with the recipe of this layer; `_recipes_sections` compares with the plain last layer.
    """
    means = dict(record.layers.select("layer", "mean").iter_rows())
    last, best = record.n_blocks, record.best
    recipe = "" if record.variant.is_plain else f" with {escaped(record.variant.words())}"
    place = f"Layer {record.layer} of {last}" + ", the last one," * (record.layer == last) + recipe
    mean = means[record.layer]
    if mean is None:
        missing = [task for task in record.tasks if record.layers.filter(layer=record.layer)[task][0] is None]
        return f"{place} has no mean score: it has no score on {escaped(some_names(missing))}."
    scores = f"{place} scores {format_cell('mean', mean)} on {_said_of_scored(record)}"
    if record.layer == last:
        if best in (None, last):
            return f"{scores}."
        return f"{scores}, layer {best} {format_cell('mean', means[best])} with {best / last:.0%} of the blocks."
    needs = f"it needs {record.layer / last:.0%} of the blocks."
    if means.get(last) is not None:
        return f"{scores}, the last layer {format_cell('mean', means[last])}; {needs}"
    return f"{scores}; {needs} The last layer {'has no mean score' if last in means else 'was not scored'}."


def _said_of_scored(record: LayerRecord) -> str:
    """The tasks in words."""
    kind = "starter tasks" if all(dataset_of(result) in STARTER_DATASETS for result in record.results) else "tasks"
    tasks = f"the {_number(len(record.tasks))} {kind}" if len(record.tasks) > 1 else escaped(record.tasks[0])
    return tasks if record.limit is None else f"{record.limit} items of each split of {tasks}"


def _layers_section(record: LayerRecord, picture: str | None) -> str:
    layers = record.layers
    scored = layers.select("layer", "depth", "mean", *record.tasks)
    shown = f"![mean score over layers]({picture})\n\n" if picture else ""
    summary = record.board.summary(record.model, record.revision, **record.variant.recipe())
    summary_line = f"\n{str(summary)[0].upper()}{str(summary)[1:]}.\n" if summary is not None else ""
    return f"""## Scores of every layer

{shown}{layers_markdown(scored, record.layer)}
{summary_line}"""


def _recipes_sections(record: LayerRecord) -> Iterator[str]:
    lines = list(recipes_markdown(record.board, "available", record.model, record.revision))
    if lines:
        yield "\n".join(lines)


def _schemes_section(record: LayerRecord) -> str:
    # Everywhere in the card, the best layer is chosen among layers that have all tasks.
    rows_of_all = record.board.schemes(record.model, record.revision, complete_only=True).iter_rows(named=True)
    row = next(row for row in rows_of_all if variant_of(row) == record.variant)
    scored = [scheme for scheme in SCHEMES if row[scheme] is not None]
    rows = [SCHEME_COLUMNS, *(scheme_cells(row, scheme) for scheme in scored)]
    return f"""## Ways to pick a layer

A scheme is a rule that picks a layer. `best` picks one layer for all tasks by their scores; `last`, `middle` and
`depth_0_7` pick it by position. The others pick a layer for each task: `min_...` and `max_...` by a metric of the
task's texts, without labels; `random_layer` at random (the expected score); `oracle` by the score. Scores are in
points. Regret is the distance to the best single layer over the same tasks. The interval contains 95% of the means
over {N_RESAMPLES:,} resamples of the tasks. Schemes without a score are left out.

{table(rows, right=True, bold=1 + scored.index("best") if "best" in scored else None)}
"""


def _metrics_sections(record: LayerRecord) -> Iterator[str]:
    layers = record.layers
    measured = [name for name in layers.columns if name in METRICS]
    if measured:
        yield f"""## Representation metrics of every layer

Computed from raw states on the texts of each task, averaged over tasks.

{layers_markdown(layers.select("layer", "depth", *measured), record.layer)}
"""


def _usage_sections(record: LayerRecord) -> Iterator[str]:
    if record.origin.modality == "image":  # the card says it above: no stock form of a layer takes images
        return
    folder = folder_name(_base_name(record), record.layer)
    of_layer = (record.layer, record.origin.settings)
    yield f"""## Extract this layer from the base model

```python
{encoder_snippet(record.origin.loaded_from, *of_layer, record.variant.fitted_on)}
```

To save it as a folder that only needs sentence-transformers:

```
{export_command(record.origin.loaded_from, folder, *of_layer)}
```
"""


def _provenance_section(record: LayerRecord) -> str:
    rows: list[tuple[str, ...]] = [("task", "dataset", "revision", "SHA-256 of the files")]
    versions: dict[str, list[str]] = {}
    for result in record.results:
        provenance = provenance_of(result) or {}
        # Tasks that build their own data record a hash of the content.
        content = [entry["content_sha256"] for entry in entries_of(result) if "content_sha256" in entry]
        sha256 = provenance["dataset_files_sha256"] or ", ".join(content) or "-"
        rows.append(tuple(map(escaped, (result.task_name, dataset_of(result), result.dataset_revision, sha256))))
        for package, version in provenance["versions"].items():
            versions[package] = sorted({*versions.get(package, []), version})
    quantization = record.provenance.get("quantization")
    recipe = [("recipe", escaped(record.variant.words(whole=True)))] if not record.variant.is_plain else []
    facts = [
        ("", ""),
        ("model", escaped(record.model)),
        ("revision", escaped(record.revision)),
        *recipe,
        ("SHA-256 of the weights", escaped(record.provenance["weights_sha256"] or "-")),
        *([("weights read as", escaped(str(quantization)))] if quantization is not None else []),
        ("dtype of the weights", escaped(record.provenance["dtype"])),
        ("dtype of the stored vectors", escaped(record.provenance["store_dtype"])),
        ("seed", str(record.provenance["seed"])),
        *((escaped(package), escaped(", ".join(found))) for package, found in versions.items()),
    ]
    return f"""## Provenance

{table(facts)}

{table(rows)}
"""
