"""How the model behind a row of the tables is loaded again: by which name, with which keywords."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mteb.models.model_meta import ModelMeta

from leaderboard.models.meta import DEFAULT_SETTINGS
from midlayer_embed.models.backbone import LOCAL, hub_id_of, weights_revision
from midlayer_embed.models.starter import STARTER

# Of the settings that results stand apart by, those of a sweep that an encoder has none of.
_OF_THE_SWEEP = ("limit", "store_dtype")


@dataclass(frozen=True)
class Origin:
    """What makes `MidLayerEncoder` give the vectors that were scored.

    Attributes:
        hub_id: The base model on the hub, or None for a folder's.
        loaded_from: What is given as its model; for a folder, a path that is yet to be filled in.
        settings: The keywords besides the layer that are not its defaults.
    """

    hub_id: str | None
    loaded_from: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def origin_of(meta: ModelMeta, provenance: Mapping[str, Any]) -> Origin:
    """What a result says of it.

    Args:
        meta: What mteb was told of the model.
        provenance: As `leaderboard.results.provenance.provenance_of`.
    """
    name, own = str(meta.name), meta.experiment_kwargs or {}
    hub_id = hub_id_of(name)
    loaded_from = STARTER if name.startswith(f"{STARTER}/") else hub_id or f"path/to/{name.removeprefix(LOCAL)}"
    settings = {key: own[key] for key in DEFAULT_SETTINGS if key in own and key not in _OF_THE_SWEEP}
    if hub_id == loaded_from:
        settings["revision"] = weights_revision(str(meta.revision))
    if provenance.get("bidirectional"):
        settings["bidirectional"] = True
    if provenance.get("adapters"):  # a folder's own name has no slash, a hub id has one
        settings["adapters"] = [label if "/" in label else f"path/to/{label}" for label in provenance["adapters"]]
    return Origin(hub_id, loaded_from, settings)


def origin_by_name(model: str, revision: str) -> Origin:
    """What can be said of a model whose name in a table is all that is known: that it is called so."""
    return Origin(None, model, {} if revision == "main" else {"revision": revision})
