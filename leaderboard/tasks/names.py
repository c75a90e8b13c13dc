"""Names of our benchmarks, and checks of arguments about tasks that need no task. mteb is not imported here."""

import difflib
import re
from collections.abc import Collection, Iterable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from leaderboard.analysis.variants import VARIANT
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_optional_int
from midlayer_embed.ground.paths import user_path
from midlayer_embed.terms import METRICS
from midlayer_embed.texts.names import ON_HUB, SOTU

STARTER_BENCHMARK = "starter"
PAPER_BENCHMARK = "paper"
FAST_BENCHMARK = "paper-fast"
STARTER_VISION_BENCHMARK = "starter-vision"
VISION_BENCHMARK = "vision"
LARGE_VISION_BENCHMARK = "vision-large"
BENCHMARKS = (
    *(STARTER_BENCHMARK, PAPER_BENCHMARK, FAST_BENCHMARK),
    *(STARTER_VISION_BENCHMARK, VISION_BENCHMARK, LARGE_VISION_BENCHMARK),
)
# The benchmarks whose tasks build their own data, with the module of their tasks.
_OWN_DATA = {STARTER_BENCHMARK: "starter.py", STARTER_VISION_BENCHMARK: "images/starter.py"}
OWN_BENCHMARKS = tuple(_OWN_DATA)
# What a transform can be fitted on besides a corpus: the task's splits that are not evaluated, or the evaluated texts.
TRAIN, TASK = "train", "task"
# A file's name that can be part of the name of a result.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,39}", re.ASCII)
# The name in the metadata of a task; a starter task has the name of its class.
_NAME = re.compile(r'\bname\s*=\s*"([^"]+)"')
_CLASS = re.compile(r"^class ([A-Z]\w+)", flags=re.MULTILINE)
# Columns of a table of layers that are no tasks.
OTHER_COLUMNS = (*VARIANT, "layer", "depth", "mean", *METRICS)


def check_benchmark(name: str) -> None:
    """Reject what is no benchmark of ours.

    Raises:
        InputError: (a ValueError) the message lists the benchmarks.
    """
    if name not in BENCHMARKS:
        raise InputError(f"benchmark: expected one of {', '.join(BENCHMARKS)}, got {name!r}")


def check_task_names(names: Iterable[str]) -> None:
    """Reject names that no task has, before mteb is imported: they are read from its source files.

    Raises:
        InputError: (a ValueError) no such task; the message suggests similar names.
    """
    for name in names:
        if name not in _written_names():
            raise no_such_task(name, _written_names())


def no_such_task(name: str, names: Collection[str]) -> InputError:
    """The error for a name that is not among those of the tasks; it suggests similar ones."""
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return InputError(f"task: there is no task {name!r}{hint}")


@cache
def _written_names() -> frozenset[str]:
    """The names that stand in the source files of mteb's tasks, and in ours."""
    spec = find_spec("mteb")
    folders = [Path(folder, "tasks") for folder in (spec and spec.submodule_search_locations) or []]
    files = [file for folder in folders for file in folder.rglob("*.py")]
    found = {name for file in files for name in _NAME.findall(file.read_text(encoding="utf-8"))}
    return frozenset((*found, *(name for benchmark in _OWN_DATA for name in starter_tasks(benchmark))))


@cache
def starter_tasks(benchmark: str = STARTER_BENCHMARK) -> tuple[str, ...]:
    """The names of the starter tasks on texts, or of those of "starter-vision".

    Example:
        >>> starter_tasks()[0], len(starter_tasks()), starter_tasks("starter-vision")[-1]
        ('StarterClassification', 5, 'StarterVisualSTS')
    """
    return tuple(_CLASS.findall(Path(__file__).parent.joinpath(_OWN_DATA[benchmark]).read_text(encoding="utf-8")))


def check_corpora(names: Iterable[str]) -> None:
    """Reject corpora that `prefetch` does not know.

    Raises:
        InputError: (a ValueError) the message says how to fetch other datasets.
    """
    for name in names:
        if name == SOTU:
            raise InputError(f"dataset: {name!r} is on no hub: it is read from an installed package")
        if name not in ON_HUB:
            raise InputError(
                f"dataset: expected one of {', '.join(ON_HUB)}, got {name!r}; copy another one with: "
                "hf download ORG/NAME --repo-type dataset --local-dir FOLDER/ORG/NAME"
            )


def check_limit(limit: int | None) -> int | None:
    """Return the limit if it is valid. None means no limit.

    Raises:
        InputError: (a ValueError) neither an int of at least 2 nor None.
    """
    return check_optional_int("limit", limit, 2)


def check_data_dir(data_dir: str | Path) -> Path:
    """Return the folder as an absolute path, so that it does not depend on the working directory.

    Raises:
        InputError: (a ValueError) if the folder does not exist.
    """
    folder = user_path(data_dir, "data_dir")
    if not folder.is_dir():
        raise InputError(f"data_dir: there is no folder {str(data_dir)!r}")
    return folder


def corpus_name(file_name: str | None, sha256: str) -> str:
    """What a transform that was fitted on a corpus says of it: the name of its file, or the start of its hash.

    Example:
        >>> corpus_name("wiki.txt", "0123456789abcdef"), corpus_name(None, "0123456789abcdef")
        ('corpus:wiki.txt', 'corpus:0123456789ab')
    """
    return f"corpus:{file_name if file_name and _PLAIN_NAME.fullmatch(file_name) else sha256[:12]}"
