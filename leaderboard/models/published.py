"""The best layers of models whose layers have published scores: the tables of `configs/published`."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from leaderboard.config_files import config_names, read_config


@dataclass(frozen=True)
class Published:
    """The best layer of a model.

    Attributes:
        name: Hub id of the model.
        revision: Its revision on the Hub.
        layer: The best layer.
        n_blocks: Number of blocks, L.
        n_tasks: Number of tasks behind the scores.
        best: Mean score of the best layer, in points.
        last: Mean score of the last layer, in points.
        source: Where the scores are from.
        recipe: The parts of a recipe that the scores are of, by their names in `Recipe`.
    """

    name: str
    revision: str
    layer: int
    n_blocks: int
    n_tasks: int
    best: float
    last: float
    source: str
    recipe: Mapping[str, Any]

    def scores(self, settings: Mapping[str, Any]) -> bool:
        """Whether the scores are of vectors with these settings; one that is not told agrees."""
        return all(settings.get(part, value) == value for part, value in self.recipe.items())


@cache
def published_layers() -> dict[tuple[str, str], Published]:
    """The best layers by Hub id and revision.

    Example:
        >>> published_layers()["EleutherAI/pythia-410m", "main"].layer
        17
    """
    tables = [read_config("published", name) for name in config_names("published")]
    rows = [
        Published(**{**row, "revision": str(row["revision"]), "source": table["source"], "recipe": table["recipe"]})
        for table in tables
        for row in table["models"]
    ]
    return {(row.name, row.revision): row for row in reversed(rows)}  # the first one counts
