"""A shard: the part of a sweep that one process does whole, with one forward pass."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields

# Folders of a results folder: records of shards, and a list of the shards of each sweep.
SHARDS, SWEEPS = "shards", "sweeps"
DESCRIPTION = "shard.json"
_NO_VARIANT = "default"


@dataclass(frozen=True)
class Shard:
    """One task of one model under one template: all layers and transforms.

    Attributes:
        model: Name of the model.
        revision: Revision of the model.
        variant: The settings that are not the default, as they are part of the names of results; "" for none.
        task: Name of the task.
        template: The template; None for plain texts.
        cost: Estimated seconds on some machine, the same one for all shards.
        asks: Short name of what is asked for: layers, transforms, metrics. Two processes may ask for different things.

    Example:
        >>> Shard("org/model", "main", "", "STS12", None, 3.5).folder
        'shards/org__model/main/default/STS12'
    """

    model: str
    revision: str
    variant: str
    task: str
    template: str | None
    cost: float
    asks: str = ""

    @property
    def folder(self) -> str:
        """Where the records of the shard are, in the results folder."""
        model = self.model.replace("/", "__").replace(" ", "_")
        return "/".join((SHARDS, model, self.revision, self.variant or _NO_VARIANT, self.task))

    @property
    def description(self) -> str:
        """Path of the file that says what the shard is."""
        return f"{self.folder}/{DESCRIPTION}"

    @property
    def label(self) -> str:
        """What the shard is called in messages."""
        template = "" if self.template is None else f" ({self.template})"
        return f"{self.model}: {self.task}{template}"

    def to_json(self) -> bytes:
        """The content of the file that says what the shard is."""
        return json.dumps(asdict(self), indent=1).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Shard":
        """A shard from its file.

        Raises:
            ValueError: The content is no shard.
        """
        found = json.loads(content)
        try:
            return cls(
                **{field.name: found[field.name] for field in fields(cls) if field.name != "asks"},
                asks=found.get("asks", ""),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"no shard: {error}") from None


def sweep_file(shards: Sequence[Shard]) -> bytes:
    """The content of the file of a sweep: its shards."""
    return json.dumps([asdict(shard) for shard in shards], indent=1).encode()


def shards_of_sweep(content: bytes) -> list[Shard]:
    """The shards in the file of a sweep.

    Raises:
        ValueError: The content is none.
    """
    return [Shard.from_json(json.dumps(entry).encode()) for entry in json.loads(content)]
