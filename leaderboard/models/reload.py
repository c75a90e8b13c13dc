"""Derives from a result how to load its model again."""

from collections.abc import Mapping
from typing import Any

from leaderboard.models.labels import Described, default_of
from leaderboard.models.origin import Origin
from midlayer_embed.models.starter import STARTER, hub_id_of, weights_revision

# Settings that the model may have of its own, so that its default is not that of `DEFAULT_SETTINGS`.
_OWN = ("final_norm", "pooling_mode", "max_seq_length")


def origin_of(meta: Described, provenance: Mapping[str, Any]) -> Origin:
    """The origin of the model behind a result. It has the template, not the transform: its texts are not stored.

    Args:
        meta: The model's meta in the results folder.
        provenance: Provenance of the result, see `leaderboard.results.provenance.provenance_of`.
    """
    name, own = str(meta.name), meta.experiment_kwargs or {}
    hub_id = provenance.get("hub_id", hub_id_of(name))  # a folder may be called like a model of the Hub
    loaded_from = STARTER if name.startswith(f"{STARTER}/") else hub_id or f"path/to/{name.rpartition('/')[2]}"
    template = provenance.get("template")
    without = provenance.get("own", {}).get("recipe", {})  # what the model is without the keyword, under the template
    settings = {} if template is None else {"template": template}
    for key in (*_OWN, "dtype", "site"):
        default = default_of(key, template)
        scored = own.get(key, default)
        settings |= {key: scored} if scored != without.get(key, default) else {}
    if hub_id == loaded_from:
        settings["revision"] = weights_revision(str(meta.revision))
    if provenance.get("bidirectional"):
        settings["bidirectional"] = True
    if provenance.get("adapters"):  # a folder's own name has no slash, a hub id has one
        settings["adapters"] = [label if "/" in label else f"path/to/{label}" for label in provenance["adapters"]]
    return Origin(hub_id, loaded_from, settings, provenance.get("modality", "text"))
