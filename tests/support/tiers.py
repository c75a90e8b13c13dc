"""Three tiers of tests, so that most of them can be run often. Every test is of one; `make test-fast` runs two.

- unit: no model is built or loaded.
- model: tiny models.
- process: processes of their own, fresh or forked, that may be killed; a browser; real models and data.

A mark on a test or a module says its tier. Without one, its fixtures do, and then its folder. What a test of a tier may
not do fails in it.
"""

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import pytest

from support.forks import Fork

TIERS = {
    "unit": "loads no model",
    "model": "loads tiny models",
    "process": "starts processes, fresh or forked, or a browser; or takes real models or data",
}
_FIXTURES = {
    "process": {"browser", "forked_stranger", "fresh_answers", "minilm", "mteb_mirror", "s3_bucket"},
    "model": {
        "any_folder",
        "any_image_folder",
        "every_folder",
        "every_image_folder",
        "llama",
        "llama_2",
        "llama_folder",
        "llama_raw",
        "make_adapter",
        "make_model",
        "spoilt_folder",
        "tiny_folder",
        "tiny_folders",
        "tiny_image_model",
        "tiny_model",
        "tiny_results",
    },
}
# The longest that a test's path begins with counts. The last two are doctests.
_FOLDERS = {
    "tests/architecture/": "unit",
    "tests/benchmarks/": "process",
    "tests/docs/": "unit",
    "tests/golden/": "model",
    "tests/leaderboard/": "unit",
    "tests/midlayer_embed/": "unit",
    "tests/midlayer_embed/models/": "model",
    "midlayer_embed/": "unit",
    "leaderboard/": "unit",
}


def set_tier(item: pytest.Item) -> None:
    """Marks a test with its tier.

    Raises:
        pytest.UsageError: it has none, or a mark contradicts its fixtures.
    """
    fixtures = set(getattr(item, "fixturenames", ()))
    by_fixture = next((tier for tier, names in _FIXTURES.items() if names & fixtures), None)
    marked = next((marker.name for marker in item.iter_markers() if marker.name in TIERS), None)
    if marked and by_fixture and list(TIERS).index(marked) < list(TIERS).index(by_fixture):
        names = ", ".join(sorted(_FIXTURES[by_fixture] & fixtures))
        raise pytest.UsageError(f"{item.nodeid} is marked {marked}; expected {by_fixture}, since it uses {names}")
    if marked:
        return
    folder = max((folder for folder in _FOLDERS if item.nodeid.startswith(folder)), key=len, default=None)
    if folder is None:
        raise pytest.UsageError(f"{item.nodeid} is of no tier: mark it {', '.join(TIERS)}, or give its folder one")
    item.add_marker(max(by_fixture or _FOLDERS[folder], _FOLDERS[folder], key=list(TIERS).index))


_running = "process"  # the tier of the test that runs


@contextmanager
def within_tier(item: pytest.Item) -> Iterator[None]:
    """Lets a test fail that does what its tier may not."""
    global _running
    _running = next(tier for tier in TIERS if item.get_closest_marker(tier))
    try:
        yield
    finally:  # of a test that fails or skips, too: the fixtures of the next one may load models
        _running = "process"


def watch() -> None:
    """Watches who starts processes or loads models, as far as it is imported. Libraries may start other programs."""

    def watched(kind: Any, tiers: set[str], what: str, is_meant: Callable[..., bool]) -> None:
        start = kind.__init__
        if hasattr(start, "is_watched"):
            return

        @wraps(start)  # transformers reads the signature
        def refuse_or_start(instance: Any, *args: Any, **options: Any) -> None:
            if _running in tiers and is_meant(*args):
                pytest.fail(f"a test that {what} is of another tier: mark it (see tests/support/tiers.py)")
            start(instance, *args, **options)

        refuse_or_start.is_watched = True  # type: ignore[attr-defined]
        kind.__init__ = refuse_or_start

    watched(Fork, {"unit", "model"}, "starts a process", lambda *_: True)
    watched(subprocess.Popen, {"unit", "model"}, "starts a process", lambda command, *_: command[0] == sys.executable)
    if models := sys.modules.get("transformers.modeling_utils"):
        watched(models.PreTrainedModel, {"unit"}, "loads a model", lambda *_: True)


def slow(*values: Any) -> list[Any]:
    """Parameters of a test that only `make test-all` tries: further ones of a kind that every run tries one of.

    Args:
        values: Parameters, a tuple for several of one case.
    """
    return [pytest.param(*(v if isinstance(v, tuple) else (v,)), marks=pytest.mark.slow) for v in values]


def sampled(values: Iterable[Any], *tried: Any) -> list[Any]:
    """Parameters of a test in their order, of which every run tries some, and `make test-all` the others, too."""
    return [value if value in tried else slow(value)[0] for value in values]
