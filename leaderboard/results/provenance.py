"""What a score or a metric was made of and with, as it stands beside the number in the results."""

from importlib.metadata import version
from typing import Any

from mteb.abstasks.abstask import AbsTask
from mteb.results import TaskResult

from midlayer_embed import __version__
from midlayer_embed.forward.layerwise import LayerwiseEncoder

# The key in each score of mteb's result files.
PROVENANCE = "provenance"
_PACKAGES = ("mteb", "sentence-transformers", "transformers", "torch", "scikit-learn", "numpy")


def provenance(
    encoder: LayerwiseEncoder,
    task: AbsTask,
    settings: dict[str, Any],
    *,
    seed: int,
    dataset_files_sha256: str | None,
) -> dict[str, Any]:
    """Everything but the layer.

    Args:
        encoder: The model, loaded.
        task: What it was scored or measured on.
        settings: As `model_meta.DEFAULT_SETTINGS`.
        seed: Of what is drawn: limited items, texts and views of metrics.
        dataset_files_sha256: Where the data were read from files of the user's.
    """
    checkpoint = encoder.checkpoint
    return {
        "n_blocks": checkpoint.n_blocks,
        "task_type": str(task.metadata.type),
        "dataset": task.metadata.dataset["path"],
        "dataset_revision": str(task.metadata.revision),
        "dataset_files_sha256": dataset_files_sha256,
        **settings,
        "max_seq_length": encoder.max_seq_length,
        "normalized": checkpoint.normalizes,
        "prompt": None,  # texts go in as they are
        "device": str(encoder.backbone.device),
        "seed": seed,
        "model_revision": checkpoint.revision,
        "weights_sha256": checkpoint.weights_sha256,
        **checkpoint.changes(),
        "versions": {"midlayer-embed": __version__, **{package: version(package) for package in _PACKAGES}},
    }


def entries_of(result: TaskResult) -> list[Any]:
    """The scores of a result, one a split and subset."""
    return [entry for split in result.scores.values() for entry in split]


def provenance_of(result: TaskResult) -> dict[str, Any] | None:
    """What the run was; None for a result that was not made by a sweep, which does not say enough for our tables."""
    return next((entry[PROVENANCE] for entry in entries_of(result) if PROVENANCE in entry), None)
