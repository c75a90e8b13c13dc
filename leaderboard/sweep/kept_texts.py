"""The texts of a task in a file, from the plan of a sweep until the task is run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KeptTexts:
    """The texts of a task.

    Attributes:
        all: Distinct texts that a score needs.
        sample: The texts among them that metrics are measured on.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "texts.jsonl")
        >>> KeptTexts(["a", "two words"], ["two words"]).save(path)
        >>> KeptTexts.load(path)
        KeptTexts(all=['a', 'two words'], sample=['two words'])
    """

    all: Sequence[str]
    sample: Sequence[str]

    def save(self, path: Path) -> None:
        """Writes JSON lines: the numbers of the sampled texts, then each text."""
        number = {text: number for number, text in enumerate(self.all)}
        with path.open("w", encoding="ascii") as file:
            for line in ([number[text] for text in self.sample], *self.all):
                file.write(json.dumps(line) + "\n")

    @classmethod
    def load(cls, path: Path) -> "KeptTexts":
        """Reads what `save` wrote."""
        with path.open(encoding="ascii") as file:
            sample = json.loads(next(file))
            texts = [json.loads(line) for line in file]
        return cls(texts, [texts[number] for number in sample])
