"""The texts of a task in a file, from the plan of a sweep until the task is run."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from midlayer_embed.texts.tokens import Prompted, Text


@dataclass(frozen=True)
class KeptTexts:
    """The texts of a task.

    Attributes:
        all: Distinct texts that a score needs, under their prompts.
        sample: Texts that metrics are measured on, without prompts.
        fit: Distinct texts that transforms are fitted on, under their prompts; some may be among `all`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp(), "texts.jsonl")
        >>> KeptTexts(["a", "two words"], ["two words"]).save(path)
        >>> KeptTexts.load(path)
        KeptTexts(all=['a', 'two words'], sample=['two words'], fit=[])
    """

    all: Sequence[Text]
    sample: Sequence[str]
    fit: Sequence[Text] = ()

    @property
    def to_encode(self) -> list[Text]:
        """The distinct texts whose vectors are stored, those that a score needs first."""
        return list(dict.fromkeys([*self.all, *self.fit]))

    def save(self, path: Path) -> None:
        """Writes JSON lines: sample and fit in a line each, then each text, as a pair if it has a prompt."""
        with path.open("w", encoding="ascii") as file:
            for line in (list(self.sample), list(self.fit), *self.all):
                file.write(json.dumps(line) + "\n")

    @classmethod
    def load(cls, path: Path) -> "KeptTexts":
        """Reads what `save` wrote."""
        with path.open(encoding="ascii") as file:
            sample, fit = json.loads(next(file)), [text_of(text) for text in json.loads(next(file))]
            return cls([text_of(json.loads(line)) for line in file], sample, fit)


def text_of(loaded: str | list[str]) -> Text:
    """A text that was written as JSON.

    Example:
        >>> text_of("a"), text_of(["query: ", "a"])
        ('a', Prompted(prompt='query: ', text='a'))
    """
    return loaded if isinstance(loaded, str) else Prompted(*loaded)
