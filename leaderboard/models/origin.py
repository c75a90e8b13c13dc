"""How to load the model behind a row of the tables again. Imports neither mteb nor torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Origin:
    """Arguments of `MidLayerEncoder` that reproduce the scored vectors.

    Attributes:
        hub_id: Hub id of the base model; None for a folder.
        loaded_from: The `model` argument. For a folder, a placeholder such as "path/to/model".
        settings: All other keywords, except the layer, that differ from the defaults.
    """

    hub_id: str | None
    loaded_from: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def origin_by_name(model: str, revision: str) -> Origin:
    """The origin of a model that is only known from table files: its name in the table is loaded."""
    return Origin(None, model, {} if revision == "main" else {"revision": revision})
