"""The model card of one layer: its scores for the Hub and for people, the curve over layers, how to get the encoder.

What every saved encoder's card says is `midlayer_embed.encoder.card`'s; files are written by `publish`.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData, eval_result_entries_to_yaml
from huggingface_hub.repocard_data import eval_results_to_model_index
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.results import TaskResult

from leaderboard.analysis.schemes import N_RESAMPLES, SCHEMES
from leaderboard.models.known import known_models
from leaderboard.report.cells import SCHEME_COLUMNS, format_cell, scheme_cells
from leaderboard.report.layer_record import LayerRecord, find_layer
from leaderboard.report.markdown import layers_markdown
from leaderboard.report.snippets import encoder_snippet, export_command, folder_name
from leaderboard.results.provenance import entries_of, provenance_of
from leaderboard.tasks.benchmarks import get_task
from midlayer_embed.encoder.card import NAME_TO_COME, CardFacts, base_card_of, card
from midlayer_embed.errors import InputError
from midlayer_embed.ground.markdown import escaped, table
from midlayer_embed.models.backbone import LOCAL
from midlayer_embed.models.starter import STARTER_HUB_ID, STARTER_LICENSE
from midlayer_embed.selection.representations import METRICS

# Where mteb sends those who ask what made a score.
_SOURCE = "https://github.com/embeddings-benchmark/mteb/"


def model_card(
    results_dir: str | Path,
    model: str | None = None,
    layer: int | float | None = None,
    *,
    revision: str | None = None,
) -> str:
    """The card of one layer as the text of a README.md, without a picture.

    Args:
        results_dir: What was given to `run_sweep`.
        model: The model's name in its tables; may be left out where there is only one.
        layer: A layer or depth that was scored. None: the best, by the mean over the tasks.
        revision: The model's; may be left out where there is only one.

    Raises:
        InputError: (a ValueError) no such folder, model or layer; the message names those there are.

    Example:
        >>> text = model_card("results/starter", layer=7)                               # doctest: +SKIP
    """
    return card_of(find_layer(results_dir, model, layer, revision=revision))


def card_of(
    record: LayerRecord, *, name: str = NAME_TO_COME, picture: str | None = None, base: str | None = None
) -> str:
    """The text of the card.

    Args:
        record: The layer, with its results.
        name: What people load the saved encoder by.
        picture: The file beside the card that shows the mean score over layers, if any.
        base: The folder of the base model, where it is no model of the hub and its licence shall be told.
    """
    location = base or record.origin.hub_id
    known = known_models().get(str(record.origin.hub_id))
    facts = CardFacts(
        base_name=_base_name(record),
        base_model=record.origin.hub_id,
        license=STARTER_LICENSE if record.origin.hub_id == STARTER_HUB_ID else known.license if known else None,
        base_card=base_card_of(location) if location else ModelCardData(),
        layer=record.layer,
        n_blocks=record.n_blocks,
        final_norm=record.provenance["final_norm"],
        pooling_mode=record.provenance["pooling_mode"],
        dim=record.dim,
        max_seq_length=record.provenance["max_seq_length"],
        how_chosen=_how_chosen(record),
        name=name,
        normalized=record.provenance["normalized"],
        bidirectional=record.provenance["bidirectional"],
        adapters=tuple(record.provenance["adapters"]),
    )
    of_layers = [_layers(record, picture), _schemes(record), *_metrics(record)]
    sections = [_scores(record), *of_layers, _how_to_make(record), _made_with(record)]
    return card(facts, sections, tags=["mteb"], **{"model-index": _model_index(record)})


def eval_results_files(record: LayerRecord) -> Iterator[tuple[str, str]]:
    """The files of `.eval_results`, by name, with the entries that `ModelMeta.push_eval_results` of mteb would push.

    Of whole results only: the Hub ranks what it finds there. Unlike mteb, which takes dataset and revision of the task
    as it knows it today, these are those that were measured.
    """
    for result in record.results:
        if record.limit is None:
            name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in result.task_name)
            entries = eval_result_entries_to_yaml(list(_eval_results(result)))
            yield f"{name}.yaml", yaml.safe_dump(entries, sort_keys=False, allow_unicode=True)


def _eval_results(result: TaskResult) -> Iterator[EvalResultEntry]:
    notes = f"Obtained using MTEB v{result.mteb_version}"
    shared: dict[str, Any] = {
        "dataset_id": _dataset(result),
        "dataset_revision": result.dataset_revision,
        "date": None if result.date is None else result.date.date().isoformat(),
        "source_url": _SOURCE,
        "source_name": notes,
        "notes": notes,
    }
    for split, entries in result.scores.items():
        for entry in entries:
            task_id = f"{result.task_name}_{entry['hf_subset']}_{split}"
            yield EvalResultEntry(task_id=task_id, value=round(entry["main_score"] * 100, 5), **shared)
    task = _task(result)
    evaluated = set(result.scores), {entry["hf_subset"] for entry in entries_of(result)}
    if task is not None and evaluated == (set(task.metadata.eval_splits), set(task.metadata.hf_subsets)):
        yield EvalResultEntry(task_id=result.task_name, value=round(float(result.get_score()) * 100, 5), **shared)


def _model_index(record: LayerRecord) -> list[dict[str, Any]]:
    name = f"{_base_name(record).rpartition('/')[2]}-layer-{record.layer}"
    found = [score for result in record.results for score in _scores_for_the_hub(result, record.limit)]
    # One by one: together, tasks of one type that share a dataset would become one, under the name of the first.
    results = [eval_results_to_model_index(name, [score])[0]["results"][0] for score in found]
    return [{"name": name, "results": results}]


def _scores_for_the_hub(result: TaskResult, limit: int | None) -> list[EvalResult]:
    """What mteb makes of a result for a model-index, of the dataset and revision that were measured."""
    task = _task(result)
    told = result.model_copy()
    metadata = TaskMetadata.model_construct(
        name=result.task_name,
        type=_type(result),
        modalities=["text"],
        dataset={"path": _dataset(result), "revision": result.dataset_revision},
        main_score="main_score" if task is None else task.metadata.main_score,
    )
    # Or mteb would look for one of its own, which it may not have.
    told.task = SimpleNamespace(metadata=metadata)  # type: ignore[assignment]
    scores = told.get_hf_eval_results()
    for score in scores:
        if limit is not None:
            score.dataset_name += f", {limit} items of each split"
    return scores


def _task(result: TaskResult) -> AbsTask | None:
    """The task by its name; None for one that only its author has."""
    try:
        return get_task(result.task_name)
    except InputError:
        return None


def _dataset(result: TaskResult) -> str:
    return str((provenance_of(result) or {})["dataset"])


def _type(result: TaskResult) -> str:
    return str((provenance_of(result) or {})["task_type"])


def _base_name(record: LayerRecord) -> str:
    return record.origin.hub_id or str(record.meta.name).removeprefix(LOCAL)


def _how_chosen(record: LayerRecord) -> str:
    n_layers = record.layers.height
    if record.layer == record.best:
        return f"by labels: the highest mean score over the tasks below, of {n_layers} layers that were scored"
    better = "" if record.best is None else f"; the highest mean score has layer {record.best}"
    return f"given by the author{better}"


def _scores(record: LayerRecord) -> str:
    warning = ""
    if record.limit is not None:
        warning = f"""> [!WARNING]
> These are results of a part: {record.limit} evaluated items of each split, for a first look. They are no MTEB scores
> and compare with nobody's.

"""
    rows = [("task", "type", "main score", "x100")]
    for result in record.results:
        task = _task(result)
        measure = "" if task is None else task.metadata.main_score
        rows.append(
            (escaped(result.task_name), escaped(_type(result)), measure, format_cell("score", result.get_score() * 100))
        )
    mean = record.layers.filter(layer=record.layer)["mean"][0]
    missing = [task for task in record.tasks if record.layers.filter(layer=record.layer)[task][0] is None]
    told = f"Their mean is {format_cell('mean', mean)}."
    if missing:
        told = f"They have no mean, for this layer misses {', '.join(map(escaped, missing))}."
    return f"""## Scores of layer {record.layer}

{warning}[MTEB](https://github.com/embeddings-benchmark/mteb)'s own scores. {told}

{table(rows)}
"""


def _layers(record: LayerRecord, picture: str | None) -> str:
    layers = record.layers
    scored = layers.select("layer", "depth", "mean", *record.tasks)
    shown = f"![mean score over layers]({picture})\n\n" if picture else ""
    summary = record.board.summary(record.model, record.revision)
    told = f"\n{str(summary)[0].upper()}{str(summary)[1:]}.\n" if summary is not None else ""
    return f"""## Scores of every layer

{shown}{layers_markdown(scored, record.layer)}
{told}"""


def _schemes(record: LayerRecord) -> str:
    # As everywhere in the card, the best layer is one that has all tasks.
    row = record.board.schemes(record.model, record.revision, complete_only=True).row(0, named=True)
    scored = [scheme for scheme in SCHEMES if row[scheme] is not None]
    rows = [SCHEME_COLUMNS, *(scheme_cells(row, scheme) for scheme in scored)]
    return f"""## Ways to pick a layer

A scheme is a rule that picks the layer: one for all tasks, by the scores (`best`) or by its place (`last`, `middle`,
`depth_0_7`), or one for each task, by a metric of the task's texts, without labels (`min_...`, `max_...`), at random
(`random_layer`, the expected score), or by the scores (`oracle`). Scores are in points; regret is how far a scheme is
below the best single layer over the same tasks, the interval where 95% of the means over {N_RESAMPLES:,} resamples of
the tasks lie. Schemes without a score are left out.

{table(rows, right=True, bold=1 + scored.index("best") if "best" in scored else None)}
"""


def _metrics(record: LayerRecord) -> Iterator[str]:
    layers = record.layers
    measured = [name for name in layers.columns if name in METRICS]
    if measured:
        yield f"""## Representation metrics of every layer

Of raw states on the texts of the tasks, means over the tasks.

{layers_markdown(layers.select("layer", "depth", *measured), record.layer)}
"""


def _how_to_make(record: LayerRecord) -> str:
    folder = folder_name(_base_name(record), record.layer)
    of_layer = (record.layer, record.origin.settings)
    return f"""## How this layer is taken out of the base model

```python
{encoder_snippet(record.origin.loaded_from, *of_layer)}
```

or, as a folder that needs nothing but sentence-transformers,

```
{export_command(record.origin.loaded_from, folder, *of_layer)}
```
"""


def _made_with(record: LayerRecord) -> str:
    rows: list[tuple[str, ...]] = [("task", "dataset", "revision", "SHA-256 of the files")]
    versions: dict[str, list[str]] = {}
    for result in record.results:
        made_of = provenance_of(result) or {}
        # Tasks that make their own data say what they made.
        content = [entry["content_sha256"] for entry in entries_of(result) if "content_sha256" in entry]
        sha256 = made_of["dataset_files_sha256"] or ", ".join(content) or "-"
        rows.append(tuple(map(escaped, (result.task_name, _dataset(result), result.dataset_revision, sha256))))
        for package, version in made_of["versions"].items():
            versions[package] = sorted({*versions.get(package, []), version})
    made_with = record.provenance
    facts = [
        ("", ""),
        ("model", escaped(record.model)),
        ("revision", escaped(record.revision)),
        ("SHA-256 of the weights", escaped(made_with["weights_sha256"] or "-")),
        ("weights in", escaped(made_with["dtype"])),
        ("vectors kept in", escaped(made_with["store_dtype"])),
        ("seed", str(made_with["seed"])),
        *((escaped(package), escaped(", ".join(found))) for package, found in versions.items()),
    ]
    return f"""## What was measured, and with what

{table(facts)}

{table(rows)}
"""
