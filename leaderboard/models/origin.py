"""How to load the model behind a row of the tables again. Imports neither mteb nor torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from leaderboard.analysis.variants import default_pooling


@dataclass(frozen=True)
class Origin:
    """Arguments of `MidLayerEncoder`, or of `ImageLayerwiseEncoder`, that reproduce the scored vectors.

    Attributes:
        hub_id: Hub id of the base model; None for a folder.
        loaded_from: The `model` argument. For a folder, a placeholder such as "path/to/model".
        settings: All other keywords, except the layer, that differ from the defaults.
        modality: What the model embeds: "text" or "image".
    """

    hub_id: str | None
    loaded_from: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    modality: str = "text"


def origin_by_name(model: str, revision: str, pooling: str | None = None) -> Origin:
    """The origin of a model that is only known from table files: its name in the table is loaded.

    Args:
        model: The name, without a pooling.
        revision: Its revision.
        pooling: The pooling that its label says.
    """
    settings = {} if pooling is None else {"pooling_mode": pooling}
    return Origin(None, model, settings if revision == "main" else {**settings, "revision": revision})


def with_recipe_of(origin: Origin, template: str | None, transform: str | None, pooling: str | None = None) -> Origin:
    """The origin of the same model with another recipe.

    Args:
        origin: Of any recipe with the same label.
        template: The template of the recipe.
        transform: The transform of the recipe.
        pooling: The pooling that the label says; None: what is the default of the template.

    Example:
        >>> with_recipe_of(Origin(None, "m", {"pooling_mode": "mean"}), "echo", "whiten:10", None).settings
        {'template': 'echo', 'transform': 'whiten:10'}
    """
    settings = {key: value for key, value in origin.settings.items() if key not in ("template", "transform")}
    before, now, plain = map(default_pooling, (origin.settings.get("template"), template, None))
    if before != now:  # what the model does without the keyword is another thing with this template
        settings.pop("pooling_mode", None)
    if template is not None or before != now:
        settings |= {"pooling_mode": pooling or plain} if pooling is not None or before != now == plain else {}
    settings |= {} if template is None else {"template": template}
    settings |= {} if transform is None else {"transform": transform}
    return replace(origin, settings=settings)
