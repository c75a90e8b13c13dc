"""The models of `configs/models`: what they are called and made of. Loading them is done elsewhere."""

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from leaderboard.config_files import config_names, read_config
from midlayer_embed.errors import InputError

MAIN = "main"


@dataclass(frozen=True)
class KnownModel:
    """A model that has a name of ours.

    Attributes:
        name: "org/name". What is on the hub under it, unless there is a `base`.
        n_blocks: L.
        embed_dim: Width of a state.
        license: As mteb spells it, or None.
        max_tokens: The longest text the model was made for, or None.
        revisions: On the hub, beside "main"; such as checkpoints of its training.
        base: The model that the adapters belong to: a hub id or a folder.
        bidirectional: Whether its causal attention is made bidirectional.
        adapters: PEFT adapters that are merged into the weights, in order.
    """

    name: str
    n_blocks: int
    embed_dim: int
    license: str | None = None
    max_tokens: int | None = None
    revisions: tuple[str, ...] = ()
    base: str | None = None
    bidirectional: bool = False
    adapters: tuple[str, ...] = ()

    def check_revision(self, revision: str | None) -> None:
        """Sees to it that there is such a revision: "main", one that is listed, or a commit.

        Raises:
            InputError: (a ValueError) there is none; the message offers the nearest names.
        """
        names = (MAIN, *self.revisions)
        if revision is None or revision in names or re.fullmatch(r"[0-9a-f]{40}", revision):
            return
        near = ", ".join(difflib.get_close_matches(revision, names, n=3)) or MAIN
        raise InputError(f"revision: {self.name} has no {revision!r}; expected a commit or a name such as {near}")


@cache
def known_models() -> dict[str, KnownModel]:
    """The models of all files, by name.

    Example:
        >>> known_models()["EleutherAI/pythia-410m"].n_blocks
        24
    """
    found = {}
    for family in config_names("models"):
        config = read_config("models", family)
        for entries in config["models"]:
            model = {**config.get("shared", {}), **entries}
            lists = {key: tuple(model[key]) for key in ("revisions", "adapters") if key in model}
            found[model["name"]] = KnownModel(**{**model, **lists})
    return found


def made_of(
    model: str | Path, revision: str | None, bidirectional: bool, adapters: Sequence[str | Path]
) -> tuple[str | Path, bool, tuple[str | Path, ...]]:
    """What a model is loaded from, and how: of one that is known, what `configs/models` says, and then what is asked.

    Returns:
        The model, whether it is bidirectional, and the adapters.

    Raises:
        InputError: (a ValueError) a known model has no such revision.

    Example:
        >>> made_of("bert-base-uncased", None, False, ["mine"])
        ('bert-base-uncased', False, ('mine',))
        >>> name = "McGill-NLP/LLM2Vec-Meta-Llama-3-8B-Instruct-mntp"
        >>> base, is_bidirectional, adapters = made_of(name, None, False, [])
        >>> base, is_bidirectional, len(adapters)
        ('meta-llama/Meta-Llama-3-8B-Instruct', True, 1)
    """
    known = known_models().get(str(model))
    if known is None:
        return model, bidirectional, tuple(adapters)
    known.check_revision(revision)
    return known.base or known.name, known.bidirectional or bidirectional, (*known.adapters, *adapters)
