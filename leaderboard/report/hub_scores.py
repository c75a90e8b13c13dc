"""The scores of a layer as the Hub reads them: `model-index` in the card's metadata, and the `.eval_results` files.

Both are in points (x100), hold every score once, name where it comes from, and leave out what is not a number.
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import yaml
from huggingface_hub import EvalResult, EvalResultEntry, eval_result_entries_to_yaml
from huggingface_hub.repocard_data import eval_results_to_model_index
from mteb.abstasks.abstask import AbsTask
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.results import TaskResult

from leaderboard.report.layer_record import LayerRecord
from leaderboard.results.provenance import entries_of, provenance_of
from leaderboard.results.scores import finite, score_of
from leaderboard.tasks.benchmarks import get_task
from leaderboard.tasks.own_data import STARTER_DATASETS
from midlayer_embed.errors import InputError

# What mteb and this package call themselves as sources of scores.
_MTEB = "https://github.com/embeddings-benchmark/mteb/"
_STARTER_SOURCE = "https://github.com/midlayer-embed/midlayer-embed"


def eval_results_files(record: LayerRecord) -> Iterator[tuple[str, str]]:
    """Yield name and content of the `.eval_results` files, with the task ids and units of mteb.

    A score over one split and one subset is written once, under the name of the whole task; mteb writes it twice.
    Results of a limited task and of a transform that has seen the evaluated texts are skipped, because the Hub ranks
    all files, and so are scores that are not numbers.
    Dataset and revision are those that were measured; mteb takes them from its current version of the task.
    """
    for result in record.results:
        entries = list(_eval_results(result)) if record.is_comparable else []
        if entries:
            name = "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in result.task_name)
            content = eval_result_entries_to_yaml(entries)
            yield f"{name}.yaml", yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _eval_results(result: TaskResult) -> Iterator[EvalResultEntry]:
    source, url = _source(result)
    obtained = f"Obtained using MTEB v{result.mteb_version}"
    notes = obtained if is_of_mteb(result) else f"{source}, scored with mteb v{result.mteb_version}"
    shared: dict[str, Any] = {
        "dataset_id": dataset_of(result),
        "dataset_revision": result.dataset_revision,
        "date": None if result.date is None else result.date.date().isoformat(),
        "source_url": url,
        "source_name": notes,
        "notes": notes,
    }
    task = task_of(result)
    parts = [(f"{result.task_name}_{entry['hf_subset']}_{split}", entry) for split, entry in _parts(result)]
    values = [(task_id, finite(entry["main_score"])) for task_id, entry in parts]
    evaluated = set(result.scores), {entry["hf_subset"] for entry in entries_of(result)}
    if task is not None and evaluated == (set(task.metadata.eval_splits), set(task.metadata.hf_subsets)):
        values = [*(values if len(values) > 1 else []), (result.task_name, score_of(result))]
    for task_id, value in values:
        if value is not None:
            yield EvalResultEntry(task_id=task_id, value=_in_points(value), **shared)


def _parts(result: TaskResult) -> Iterator[tuple[str, Any]]:
    """Each score entry with its split."""
    for split, entries in result.scores.items():
        for entry in entries:
            yield split, entry


def _in_points(score: float) -> float:
    """A score as the Hub's pages show those of MTEB, x100."""
    return round(score * 100, 5)


def model_index(record: LayerRecord, base_name: str) -> dict[str, Any]:
    """The `model-index` of the card's metadata; empty if no score is a number.

    Args:
        record: The layer with its results.
        base_name: Name of the base model.
    """
    name = f"{base_name.rpartition('/')[2]}-layer-{record.layer}"
    scores = [score for result in record.results for score in _hub_eval_results(result, record)]
    # One call per score: a common call would merge tasks of one type that share a dataset.
    results = [eval_results_to_model_index(name, [score])[0]["results"][0] for score in scores]
    return {"model-index": [{"name": name, "results": results}]} if results else {}


def _hub_eval_results(result: TaskResult, record: LayerRecord) -> list[EvalResult]:
    """Convert a result for the model-index with mteb, with the dataset and revision that were measured."""
    task = task_of(result)
    measured = result.model_copy()
    metadata = TaskMetadata.model_construct(
        name=result.task_name,
        type=task_type_of(result),
        modalities=["text"],
        dataset={"path": dataset_of(result), "revision": result.dataset_revision},
        main_score="main_score" if task is None else task.metadata.main_score,
    )
    # Otherwise mteb would look up the task by name, and fail for a custom task.
    measured.task = SimpleNamespace(metadata=metadata)  # type: ignore[assignment]
    scores = [score for score in measured.get_hf_eval_results() if finite(score.metric_value) is not None]
    for score in scores:
        score.metric_value = _in_points(score.metric_value)  # mteb leaves a fraction, unlike in `.eval_results`
        score.source_name, score.source_url = _source(result)
        if record.limit is not None:
            score.dataset_name += f", {record.limit} items of each split"
        if record.variant.is_transductive:
            score.dataset_name += ", its texts seen by the transform"
    return scores


def _source(result: TaskResult) -> tuple[str, str]:
    """Name and URL of where a score comes from."""
    if dataset_of(result) in STARTER_DATASETS:
        return "starter benchmark of midlayer-embed, not MTEB", _STARTER_SOURCE
    return ("MTEB" if is_of_mteb(result) else "a task that is not part of MTEB"), _MTEB


def is_of_mteb(result: TaskResult) -> bool:
    """Whether mteb has a task of this name."""
    task = task_of(result)
    return task is not None and dataset_of(result) not in STARTER_DATASETS


def task_of(result: TaskResult) -> AbsTask | None:
    """Look up the task by name; None for a custom task."""
    try:
        return get_task(result.task_name)
    except InputError:
        return None


def dataset_of(result: TaskResult) -> str:
    """The dataset that was measured."""
    return str((provenance_of(result) or {})["dataset"])


def task_type_of(result: TaskResult) -> str:
    """The type of the task."""
    return str((provenance_of(result) or {})["task_type"])
