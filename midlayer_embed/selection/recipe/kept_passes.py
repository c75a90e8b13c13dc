"""What a search for a recipe has finished: the vectors of a forward pass, and then the values of a template.

In a folder they outlive the process, so that a search that was interrupted resumes. Names and files tell which model,
texts and settings they are of.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from midlayer_embed.ground.atomic import PARTIAL_MARK, atomic_file, only_process_in
from midlayer_embed.ground.whole_files import write_json
from midlayer_embed.recipes.names import NONE, template_name
from midlayer_embed.selection.recipe.choice import TABLES
from midlayer_embed.selection.scratch import array_in, scratch_array

logger = logging.getLogger(__name__)

_SUBFOLDER = "passes"


class KeptPasses:
    """Finished work, by template; a context manager, which only one process may be in.

    Args:
        folder: Where it is kept, in a folder of its own, "passes"; None: nowhere, vectors are in scratch files.

    Raises:
        InputError: (a ValueError) another process uses the folder, or it cannot be written.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = None if folder is None else folder / _SUBFOLDER
        self._lock: FileLock | None = None

    def __enter__(self) -> "KeptPasses":
        if self._folder is not None:
            self._lock = only_process_in(self._folder, "searching")
            # what a kill left, of the tables as well
            for folder, name in ((self._folder, ""), (self._folder.parent, TABLES)):
                for left in folder.glob(f".{name}*{PARTIAL_MARK}*"):
                    left.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()

    def values_of(self, template: str | None, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """What was measured under a template with these settings; None if that was not finished."""
        if self._folder is None:
            return None
        try:
            found = dict(json.loads(self._values_file(template).read_text(encoding="utf-8")))
            earlier = dict(found.pop("settings"))
        except (OSError, ValueError, TypeError, KeyError):
            return None
        wanted = _as_json(settings)
        if earlier != wanted:
            changed = [key for key in {**wanted, **earlier} if earlier.get(key) != wanted.get(key)]
            logger.warning("starting over: what was measured earlier differs in %s", ", ".join(changed))
            return None
        return found

    def keep_values(self, template: str | None, settings: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Keep what was measured under a template, and drop the vectors that it was measured on."""
        if self._folder is None:
            return
        with atomic_file(self._values_file(template)) as partial:
            write_json(partial, {"settings": _as_json(settings), **values})
        self._drop_vectors(template)

    def has_vectors(self, template: str | None, view: int, settings: Mapping[str, Any]) -> bool:
        """Whether the pass over a view under a template is finished."""
        return self._folder is not None and self._vectors_file(template, view, settings).exists()

    @contextmanager
    def vectors(
        self,
        template: str | None,
        view: int,
        settings: Mapping[str, Any],
        shape: tuple[int, ...],
        fill: Callable[[np.ndarray], object],
    ) -> Iterator[np.ndarray]:
        """The vectors of a pass, float32.

        Args:
            template: The template.
            view: Number of the view.
            settings: All that the vectors depend on.
            shape: Their shape.
            fill: Runs the pass: it is called with an array of zeros, unless the pass is finished.
        """
        if self._folder is None:
            with scratch_array(shape, None, "texts") as scratch:
                fill(scratch)
                yield scratch
            return
        path = self._vectors_file(template, view, settings)
        if not path.exists():
            with atomic_file(path) as partial, partial.open("w+b") as file:
                array = array_in(file, shape, self._folder, "texts")
                fill(array)
                if isinstance(array, np.memmap):
                    array.flush()
        yield np.memmap(path, dtype=np.float32, mode="r", shape=shape) if path.stat().st_size else np.zeros(shape, "f4")

    def what_is_kept(self) -> str:
        """What an interrupt leaves behind, in words."""
        if self._folder is None:
            return "nothing is kept; with a folder (--out) a search can be resumed"
        n_templates, n_passes = (len(list(self._folder.glob(f"[!.]*.{kind}"))) for kind in ("json", "f4"))
        templates, passes = "template" + "s" * (n_templates != 1), "pass" + "es" * (n_passes != 1)
        return f"{n_templates} {templates} and {n_passes} {passes} more are kept; run the same command again to resume"

    def _values_file(self, template: str | None) -> Path:
        assert self._folder is not None
        return self._folder / f"{template_name(template) or NONE}.json"

    def _vectors_file(self, template: str | None, view: int, settings: Mapping[str, Any]) -> Path:
        assert self._folder is not None
        digest = hashlib.sha256(json.dumps(_as_json(settings), sort_keys=True).encode()).hexdigest()[:16]
        return self._folder / f"{template_name(template) or NONE}.{view}.{digest}.f4"

    def _drop_vectors(self, template: str | None) -> None:
        assert self._folder is not None
        for path in self._folder.glob(f"{template_name(template) or NONE}.*.f4"):
            with suppress(OSError):
                path.unlink()


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they are after they were written and read."""
    found: dict[str, Any] = json.loads(json.dumps(settings))
    return found
