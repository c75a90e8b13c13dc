"""Checks of the arguments of a sweep that need neither the model nor a task. Nothing slow is imported here."""

import re
from collections.abc import Sequence
from pathlib import Path

from leaderboard.storage.opening import open_storage
from leaderboard.tasks.names import TASK, TRAIN, check_limit
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_int
from midlayer_embed.ground.paths import user_path
from midlayer_embed.recipes.names import NONE, check_templates, check_transforms
from midlayer_embed.terms import METRICS, check_metrics

# dtypes of the vectors on disk.
STORE_DTYPES = ("float32", "float16")
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


def check_sweep(
    *,
    jobs: int,
    limit: int | None,
    metrics: str | Sequence[str],
    metric_texts: int,
    seed: int,
    store_budget: int | str | None,
    store_dtype: str,
    templates: Sequence[str | None] | None = None,
    transforms: Sequence[str | None] = (NONE,),
    transform_texts: str | Path | Sequence[str] = TRAIN,
    fit_texts: int = 2,
) -> None:
    """Check the arguments of `run_sweep` with these names.

    Raises:
        InputError: (a ValueError) the message names the argument, what came and what was expected.
    """
    check_seed(seed)
    check_metric_texts(metric_texts)
    metric_names(metrics)
    check_limit(limit)
    check_jobs(jobs)
    check_store_dtype(store_dtype)
    if store_budget is not None:
        parse_bytes(store_budget)
    if templates is not None:
        check_templates(templates)
    check_transforms(transforms)
    check_transform_texts(transform_texts)
    check_fit_texts(fit_texts)


def check_transform_texts(transform_texts: str | Path | Sequence[str]) -> None:
    """Checks what transforms are fitted on; of a file its head is read.

    Raises:
        InputError: (a ValueError) neither "train" nor "task", and no such file, or not one of texts.
    """
    if not isinstance(transform_texts, (str, Path)) or transform_texts in (TRAIN, TASK):
        return
    if not user_path(transform_texts, "transform_texts").exists():
        raise InputError(
            f"transform_texts: expected {TRAIN}, {TASK} or a file of texts; there is no file {transform_texts}"
        )
    from midlayer_embed.texts.files import errors_about, find_texts

    with errors_about("transform_texts"):
        find_texts(transform_texts)


def check_fit_texts(fit_texts: int) -> int:
    """Checks the number of texts that transforms are fitted on.

    Raises:
        InputError: (a ValueError) not an int of at least 2.
    """
    return check_int("fit_texts", fit_texts, 2)


def check_seed(seed: int) -> int:
    """Checks a seed.

    Raises:
        InputError: (a ValueError) not an int of at least 0.
    """
    return check_int("seed", seed, 0)


def check_metric_texts(metric_texts: int) -> int:
    """Checks the number of texts that metrics are measured on.

    Raises:
        InputError: (a ValueError) not an int of at least 2.
    """
    return check_int("metric_texts", metric_texts, 2)


def check_jobs(jobs: int) -> int:
    """Checks a number of processes.

    Raises:
        InputError: (a ValueError) not an int of at least 1.
    """
    return check_int("jobs", jobs, 1)


def check_store_dtype(dtype: str) -> str:
    """Checks the dtype of a store.

    Raises:
        InputError: (a ValueError) not one of `STORE_DTYPES`.
    """
    if dtype not in STORE_DTYPES:
        raise InputError(f"store_dtype: expected one of {', '.join(STORE_DTYPES)}, got {dtype!r}")
    return dtype


def metric_names(metrics: str | Sequence[str]) -> list[str]:
    """The metrics that "all", "none" or a list of names asks for.

    Raises:
        InputError: (a ValueError) an unknown name, or an empty list.

    Example:
        >>> metric_names("none"), metric_names(["dime", "dime"])
        ([], ['dime'])
    """
    if isinstance(metrics, str) and metrics in ("all", "none"):
        return list(METRICS) if metrics == "all" else []
    return check_metrics(metrics)


def parse_bytes(size: str | int) -> int:
    """Parses a number of bytes, such as "20GB".

    Raises:
        InputError: (a ValueError) not a size, or zero.

    Example:
        >>> parse_bytes("20GB"), parse_bytes("1.5 M"), parse_bytes(1024)
        (20000000000, 1500000, 1024)
    """
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*([KMGT]?)(?:i?B)?", str(size).strip(), flags=re.IGNORECASE)
    number = int(float(found[1]) * _UNITS[found[2].upper()]) if found and not isinstance(size, bool) else 0
    if number < 1:
        raise InputError(f"store_budget: expected bytes such as 20GB, got {size!r}")
    return number


def check_results_folder(results_dir: str | Path) -> None:
    """Check that results can be written, by making the folder and a file in it. Both are removed again.

    Raises:
        InputError: (a ValueError) the message says why they cannot.
    """
    open_storage(results_dir).check_writable()
