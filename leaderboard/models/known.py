"""The models listed in `configs/models`, with their base models and adapters. Does not load them."""

import difflib
import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from leaderboard.config_files import config_names, read_config
from midlayer_embed.errors import InputError
from midlayer_embed.ground.paths import user_path
from midlayer_embed.options import Source

MAIN = "main"


@dataclass(frozen=True)
class KnownModel:
    """A model with a registered name.

    Attributes:
        name: Model name, "org/name". Also the hub id, unless `base` is set.
        n_blocks: Number of blocks, L.
        embed_dim: Dimension of the hidden states.
        license: License id in mteb's spelling, or None.
        max_tokens: Maximum sequence length of the model, or None.
        revisions: Revisions on the hub in addition to "main", such as training checkpoints.
        base: Base model of the adapters, a hub id or a folder.
        bidirectional: Whether causal attention is made bidirectional.
        adapters: PEFT adapters to merge into the weights, in order.
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
        """Reject revisions other than "main", the listed ones and commit hashes.

        Raises:
            InputError: (a ValueError) if there is no such revision; the message suggests similar names.
        """
        names = (MAIN, *self.revisions)
        if revision is None or revision in names or re.fullmatch(r"[0-9a-f]{40}", revision):
            return
        near = ", ".join(difflib.get_close_matches(revision, names, n=3)) or MAIN
        raise InputError(f"revision: expected a commit or a revision of {self.name} such as {near}, got {revision!r}")


@cache
def known_models() -> dict[str, KnownModel]:
    """Load the models of all files, by name.

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


def resolve_known_model(model: str | Path, source: Source) -> tuple[str | Path, Source]:
    """Combine the entry of a model in `configs/models`, if it has one, with the requested options.

    Args:
        model: A name in `configs/models`, or any other model.
        source: The requested options.

    Returns:
        The model to load, and its options.

    Raises:
        InputError: (a ValueError) the model is listed, but the revision is not.

    Example:
        >>> resolve_known_model("bert-base-uncased", Source())[0]
        'bert-base-uncased'
        >>> name = "McGill-NLP/LLM2Vec-Meta-Llama-3-8B-Instruct-mntp"
        >>> base, source = resolve_known_model(name, Source(adapters=["mine"]))
        >>> base, source.bidirectional, len(source.adapters)
        ('meta-llama/Meta-Llama-3-8B-Instruct', True, 2)
    """
    known = known_models().get(str(model))
    if known is None:
        return model, source
    known.check_revision(source.revision)
    bidirectional = known.bidirectional or source.bidirectional
    changed = replace(source, bidirectional=bidirectional, adapters=(*known.adapters, *source.adapters))
    return known.base or known.name, changed


def at_revision(model: str | Path, source: Source) -> tuple[str | Path, Source]:
    """A model and its options, where a revision may follow the name: several models of one command may have their own.

    Args:
        model: A model, or "name@revision" of a model on the Hub.
        source: The requested options.

    Raises:
        InputError: (a ValueError) two revisions are asked for.

    Example:
        >>> name, source = at_revision("EleutherAI/pythia-410m@step1000", Source())
        >>> name, source.revision
        ('EleutherAI/pythia-410m', 'step1000')
    """
    name, at, revision = str(model).rpartition("@")
    if not (at and name and revision) or user_path(model, "model").exists():
        return model, source
    if source.revision is not None:
        raise InputError(f"revision: {model} has one in its name, got {source.revision!r} besides")
    return name, replace(source, revision=revision)


def read_models(path: str | Path) -> list[str]:
    """The models of a file: one a line, "#" begins a comment.

    Raises:
        InputError: (a ValueError) there is no such file, it is no text, or it names no model.
    """
    file = user_path(path, "models")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"models: {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise InputError(f"models: {path} is no text in UTF-8; expected one model a line") from None
    found = [name for line in lines if (name := re.sub(r"(^|\s)#.*", "", line).strip())]
    if not found:
        raise InputError(f"models: {path} names no model; expected one a line")
    return found
