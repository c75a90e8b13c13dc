"""A shard: the part of a sweep that one process does whole, with one forward pass."""

import json
from dataclasses import asdict, dataclass, fields

# Folder of the records of shards in a results folder.
SHARDS = "shards"
_DESCRIPTION = "shard.json"
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

    @property
    def folder(self) -> str:
        """Where the records of the shard are, in the results folder."""
        model = self.model.replace("/", "__").replace(" ", "_")
        return "/".join((SHARDS, model, self.revision, self.variant or _NO_VARIANT, self.task))

    @property
    def description(self) -> str:
        """Path of the file that says what the shard is."""
        return f"{self.folder}/{_DESCRIPTION}"

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
            return cls(**{field.name: found[field.name] for field in fields(cls)})
        except (KeyError, TypeError) as error:
            raise ValueError(f"no shard: {error}") from None
