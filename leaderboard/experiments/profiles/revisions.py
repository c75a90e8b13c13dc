"""The checkpoints of a training run: found by their names, and in the order of their steps, before any is loaded."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from leaderboard.experiments.encoders import find_model
from leaderboard.models.known import MAIN, known_models
from midlayer_embed.errors import InputError, InputTypeError
from midlayer_embed.ground.paths import user_path
from midlayer_embed.models.checkpoint import Checkpoint

_CONFIG = "config.json"
# "step512", "global_step1000", "checkpoint-500", "stage1-step1000-tokens5B", "iter_0001000", "512"
_STEP = re.compile(r"(?:step|checkpoint|iter(?:ation)?)s?[-_]?(\d+)|^(\d+)$", re.IGNORECASE)


@dataclass(frozen=True)
class Revision:
    """A checkpoint of a training run.

    Attributes:
        name: Its revision on the Hub, or the name of its folder.
        step: Its number of training steps; None if its name tells none, as "main".
        checkpoint: The model; no weights are read.
    """

    name: str
    step: int | None
    checkpoint: Checkpoint


def step_of(name: str) -> int | None:
    """The number of training steps that the name of a revision or folder tells.

    Example:
        >>> step_of("step512"), step_of("checkpoint-500"), step_of("stage1-step1000-tokens5B"), step_of("main")
        (512, 500, 1000, None)
    """
    found = _STEP.search(name)
    return None if found is None else int(found[1] or found[2])


def in_order(names: Sequence[str]) -> list[str]:
    """Names of revisions by their steps; those without a number last, and "main" behind them.

    Example:
        >>> in_order(["main", "step16", "final", "step2"])
        ['step2', 'step16', 'final', 'main']
    """

    def place(name: str) -> tuple[bool, bool, int]:
        step = step_of(name)
        return name == MAIN, step is None, step or 0

    return sorted(names, key=place)


def find_revisions(
    model: str | Path, revisions: Sequence[str | Path] | None, options: Mapping[str, Any]
) -> list[Revision]:
    """The checkpoints, in the order of their steps. All are found before this returns, and no weights are read.

    Args:
        model: A Hub id or a name of `configs/models`; or a folder, whose folders are checkpoints.
        revisions: Revisions of a model on the Hub, or names of folders in `model`; folders elsewhere by their paths.
            None: all checkpoints in the folder `model`.
        options: Fields of `Recipe` and `Source`, without a revision.

    Raises:
        InputError: (a ValueError) a revision or folder does not exist or cannot be loaded, is named twice, or is no
            checkpoint of the same model as the others.
    """
    if not isinstance(model, (str, Path)):
        raise InputTypeError(
            f"model: expected a folder or a Hub id, of which there are several checkpoints, got {type(model).__name__}"
        )
    if isinstance(revisions, (str, Path)):
        raise InputTypeError(f"revisions: expected a list of names, got {str(revisions)!r}")
    run = user_path(model, "model")
    if revisions is None:
        revisions = _checkpoints_in(run, str(model))
    if not revisions:
        raise InputError("revisions: expected at least one, got none")
    folders: dict[str, Path | None] = {}
    for given in revisions:
        folder = _folder_of(given, run)
        name = str(given) if folder is None else _name_of(folder, run)
        if name in folders:
            raise InputError(f"revisions: {name!r} is named twice")
        if folder is None and str(model) in known_models():  # a wrong name is told before the Hub is asked
            with _about(name):
                known_models()[str(model)].check_revision(name)
        folders[name] = folder
    found = {name: Revision(name, step_of(name), _find(model, name, folders[name], options)) for name in folders}
    first, *others = found.values()
    for other in others:
        if other.checkpoint.n_blocks != first.checkpoint.n_blocks:
            raise InputError(
                f"revisions: expected checkpoints of one model, but {first.name} has {first.checkpoint.n_blocks} "
                f"blocks and {other.name} has {other.checkpoint.n_blocks}"
            )
    return [found[name] for name in in_order(list(found))]


def _find(model: str | Path, name: str, folder: Path | None, options: Mapping[str, Any]) -> Checkpoint:
    with _about(name):
        if folder is None:
            return find_model(model, {**options, "revision": name})[0]
        return find_model(folder, options)[0]


@contextmanager
def _about(revision: str) -> Iterator[None]:
    """Have an error about a model name the revision."""
    try:
        yield
    except InputError as error:
        said = str(error).removeprefix("model: ").removeprefix("revision: ")
        raise InputError(f"revisions: {revision}: {said}") from error


def _folder_of(given: str | Path, run: Path) -> Path | None:
    """The folder that a revision is; None for a revision on the Hub.

    A folder beside the program, such as ./main, is not what the revision "main" on the Hub means: it takes a path with
    a separator, or a `Path`.
    """
    path = user_path(given, "revisions")
    is_path = isinstance(given, Path) or len(Path(given).parts) > 1
    if not run.is_dir():
        if isinstance(given, Path) and not path.is_dir():
            raise InputError(f"revisions: there is no folder {str(given)!r}")
        return path if is_path and path.is_dir() else None
    if (run / given).is_dir():
        return run / given
    if path.is_dir() and is_path:
        return path
    if str(given) == MAIN and (run / _CONFIG).is_file():  # a trainer leaves the last weights beside its checkpoints
        return run
    there = in_order([folder.name for folder in _folders(run)])
    what = f"it has {', '.join(there)}" if there else "a folder has no revisions, and this one no checkpoints in it"
    raise InputError(f"revisions: there is no checkpoint {str(given)!r} in the folder {run}; {what}")


def _name_of(folder: Path, run: Path) -> str:
    return (
        MAIN if folder == run else Path(os.path.normpath(folder)).name
    )  # a link is called as it is, not as its target


def _checkpoints_in(run: Path, model: str) -> list[str | Path]:
    if not run.is_dir():
        raise InputError(f"revisions: name those of {model}, such as step1, step512, {MAIN}")
    found: list[str | Path] = [folder.name for folder in _folders(run)]
    if not found:
        raise InputError(f"revisions: the folder {run} has no checkpoints in it")
    return [*found, *([MAIN] if MAIN not in found and (run / _CONFIG).is_file() else [])]


def _folders(run: Path) -> list[Path]:
    """The folders in a run that are models; a module of sentence-transformers has a config, too, but no model type."""
    return sorted(path for path in run.iterdir() if not path.name.startswith(".") and _is_model(path / _CONFIG))


def _is_model(config: Path) -> bool:
    return config.is_file() and b'"model_type"' in config.read_bytes()
