"""The starter model as it is in the cache of a user who has loaded it before: converting it takes many seconds."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support import forks

_ROOT = Path(__file__).parents[3]


class StarterCache:
    """The cache folder, made once for all workers of a session.

    Args:
        folder: A folder that all of them have.
        once: The fixture of that name.
    """

    _NAME = Path(".cache", "midlayer-embed")

    def __init__(self, folder: Path, once: Callable[[str, Callable[[], Any]], Any]) -> None:
        self._home = folder / "home of starter"
        self._once = once

    def give(self, home: Path) -> None:
        """Puts it into a home."""
        code = "from midlayer_embed import MidLayerEncoder; MidLayerEncoder('starter', layer=0)"
        environment = {**os.environ, "HOME": str(self._home), "PYTHONPATH": str(_ROOT)}
        self._once("starter-cache", lambda: forks.run_code(code, env=environment))
        self._link(self._home, home)

    def take(self, home: Path) -> None:
        """Takes that of a home, if there is none yet."""
        if (home / self._NAME).is_dir():
            self._once("starter-cache", lambda: self._link(home, self._home))

    def _link(self, source: Path, target: Path) -> None:
        shutil.copytree(source / self._NAME, target / self._NAME, copy_function=os.link)
