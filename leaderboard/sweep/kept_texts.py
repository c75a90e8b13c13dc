"""The texts or pictures of a task in a file, from the plan of a sweep until the task is run.

Of a picture only its key and its place in the data are written: the images are in the files of the data already.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaderboard.tasks.images.pictures import Shelf
from leaderboard.tasks.items import Item, item_from_json, item_to_json


@dataclass(frozen=True)
class KeptTexts:
    """The texts of a task, or its pictures.

    Attributes:
        all: Distinct texts that a score needs, under their prompts.
        sample: Texts that metrics are measured on, without prompts.
        fit: Distinct texts that transforms are fitted on, under their prompts; some may be among `all`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "texts.jsonl")
        >>> KeptTexts(["a", "two words"], ["two words"]).save(path)
        >>> KeptTexts.load(path, data={})
        KeptTexts(all=['a', 'two words'], sample=['two words'], fit=[])
    """

    all: Sequence[Item]
    sample: Sequence[Item]
    fit: Sequence[Item] = ()

    @property
    def to_encode(self) -> list[Item]:
        """The distinct texts whose vectors are stored, those that a score needs first."""
        return list(dict.fromkeys([*self.all, *self.fit]))

    def save(self, path: Path) -> None:
        """Writes JSON lines: sample and fit in a line each, then each text, as a pair if it has a prompt."""
        with path.open("w", encoding="ascii") as file:
            for items in (self.sample, self.fit):
                file.write(json.dumps([item_to_json(item) for item in items]) + "\n")
            for item in self.all:
                file.write(json.dumps(item_to_json(item)) + "\n")

    @classmethod
    def load(cls, path: Path, data: Any) -> "KeptTexts":
        """Reads what `save` wrote.

        Args:
            path: The file.
            data: The data of the task, in which pictures are found.
        """
        shelf = Shelf(data)
        with path.open(encoding="ascii") as file:
            sample, fit = ([item_from_json(item, shelf) for item in json.loads(next(file))] for _ in range(2))
            return cls([item_from_json(json.loads(line), shelf) for line in file], sample, fit)
