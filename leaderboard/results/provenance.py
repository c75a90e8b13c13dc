"""Provenance of scores and metrics: model, data, settings and versions, stored with each number in the results."""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol

from midlayer_embed import __version__
from midlayer_embed.options import Recipe, of_every_layer

if TYPE_CHECKING:
    from mteb.abstasks.abstask import AbsTask

    from midlayer_embed.forward.one_pass import OnePassEncoder

# Key of the provenance in each entry of mteb's result files.
PROVENANCE = "provenance"
# Key in the provenance of a result without a score: why there is none.
NO_SCORE = "no_score"
# What the tables need of it.
_NEEDED = {"layer": int, "n_blocks": int, "task_type": str, "dataset": str}
_PACKAGES = ("mteb", "sentence-transformers", "transformers", "torch", "scikit-learn", "numpy")
_PACKAGES_OF: dict[str, tuple[str, ...]] = {"text": (), "image": ("pillow", "kornia")}


class HasScores(Protocol):
    """A result: mteb's TaskResult, or `leaderboard.results.files.stored.StoredResult`."""

    @property
    def scores(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """The entries of each split, one per subset."""


def provenance(
    encoder: "OnePassEncoder",
    task: "AbsTask",
    settings: dict[str, Any],
    *,
    prompts: dict[str, str] | None,
    seed: int,
    dataset_files_sha256: str | None,
) -> dict[str, Any]:
    """The provenance of a result, without the layer.

    Args:
        encoder: The model, loaded.
        task: The task.
        settings: A value for each key of `leaderboard.models.labels.DEFAULT_SETTINGS`.
        prompts: The prompts in front of the texts, by kind of text; None for none.
        seed: Seed of the items that `limit` keeps, and of the texts and views of metrics.
        dataset_files_sha256: Hash of the files of the dataset; None if it was not read from a folder.
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
        "own": {
            "is_sentence_transformer": checkpoint.own.is_sentence_transformer,
            "recipe": of_every_layer(checkpoint.resolved(Recipe(template=settings["template"]))),
            "modules": [module.kind for module in checkpoint.own.modules],
            "for_the_last_layer": list(checkpoint.own.for_the_last_layer),
        },
        "prompt": prompts,
        "device": str(encoder.backbone.device),
        "seed": seed,
        "hub_id": checkpoint.hub_id,
        "model_revision": checkpoint.revision,
        "requested_revision": checkpoint.requested_revision or "main",
        "weights_sha256": checkpoint.weights_sha256,
        "quantization": checkpoint.quantization,
        **checkpoint.changes(),
        **_of_images(encoder),
        "versions": {
            "midlayer-embed": __version__,
            **{package: version(package) for package in (*_PACKAGES, *_PACKAGES_OF[encoder.inputs.kind])},
            **_attention(),
        },
    }


def _attention() -> dict[str, str]:
    """The package of fast attention, if it is installed: mteb records it."""
    try:
        return {"flash-attn": version("flash-attn")}
    except PackageNotFoundError:
        return {}


def _of_images(encoder: "OnePassEncoder") -> dict[str, Any]:
    """What a provenance says of an image encoder besides: what its processor does to an image, what "auto" takes."""
    from midlayer_embed.forward.inputs.images import ImageInputs

    if not isinstance(encoder.inputs, ImageInputs):
        return {}
    auto = encoder.checkpoint.family.auto
    settings = encoder.inputs.processor.settings
    return {"modality": "image", "image_processor": settings, "auto": None if auto is None else auto[0]}


def agrees(found: Mapping[str, Any], expected: Mapping[str, Any]) -> bool:
    """Whether a provenance says what is expected. What either does not know agrees with everything.

    Example:
        >>> agrees({"seed": 0, "max_seq_length": 256}, {"max_seq_length": 256, "dataset_files_sha256": None})
        True
        >>> agrees({"seed": 0, "max_seq_length": 256}, {"max_seq_length": 6})
        False
    """
    return all(None in (found.get(key), value) or found[key] == value for key, value in expected.items())


def entries_of(result: HasScores) -> list[Any]:
    """The score entries of a result, one per split and subset."""
    return [entry for split in result.scores.values() for entry in split]


def provenance_of(result: HasScores) -> dict[str, Any] | None:
    """The provenance of a result; None if it was not written by a sweep, so that the tables leave it out."""
    found = next((entry[PROVENANCE] for entry in entries_of(result) if PROVENANCE in entry), None)
    is_ours = isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in _NEEDED.items())
    return found if is_ours else None


def recipe_of(provenance: Mapping[str, Any]) -> tuple[str | None, str | None, str | None]:
    """Template, transform, and what the transform was fitted on."""
    return provenance.get("template"), provenance.get("transform"), provenance.get("transform_texts")
