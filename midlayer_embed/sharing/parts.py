"""Which part of the work a process does when the same command runs on many machines: part i of n.

Nobody hands out the work: each process splits all of it in the same way, and takes the part with its number.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapreplace

from midlayer_embed.errors import InputError, InputTypeError

AUTO = "auto"

_SLURM, _KUBERNETES = "SLURM_ARRAY_TASK_ID", "JOB_COMPLETION_INDEX"
_EXPECTED = f'expected "i/n" with 1 <= i <= n, such as "2/8", "{AUTO}" or "{AUTO}/8"'


@dataclass(frozen=True)
class Part:
    """Part `index` of `count`, counted from 1.

    Raises:
        InputError: (a ValueError) not 1 <= index <= count.

    Example:
        >>> str(Part(2, 8))
        '2/8'
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise InputError(f"shard: {_EXPECTED}, got {f'{self.index}/{self.count}'!r}")

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def parse_part(text: str, environment: Mapping[str, str] | None = None) -> Part:
    """The part that a user asks for.

    The environment is looked at only if the text says so: a command without it may run in an array job for another
    reason, such as one file for each task of the array.

    Args:
        text: "2/8"; "auto": as `part_of_environment`; "auto/8": as well, where only i can be known, of 8.
        environment: Environment variables; None: those of the process.

    Raises:
        InputTypeError: (a ValueError and a TypeError) not a string.
        InputError: (a ValueError) another text, or nothing in the environment says which part it is.

    Example:
        >>> parse_part("2/8")
        Part(index=2, count=8)
        >>> parse_part("auto/8", {"JOB_COMPLETION_INDEX": "0"})
        Part(index=1, count=8)
        >>> parse_part("0/8")
        Traceback (most recent call last):
        midlayer_embed.errors.InputError: shard: expected "i/n" with 1 <= i <= n, such as "2/8", "auto" or "auto/8", \
got '0/8'
    """
    if not isinstance(text, str):
        raise InputTypeError(f"shard: {_EXPECTED}, got {text!r}")
    found = re.fullmatch(rf"({AUTO}|\d+)(?:/(\d+))?", text.strip(), re.ASCII)
    if found is None or (found[2] is None and found[1] != AUTO) or (found[2] is not None and not int(found[2])):
        raise InputError(f"shard: {_EXPECTED}, got {text!r}")
    count = None if found[2] is None else int(found[2])
    if found[1] == AUTO:
        return part_of_environment(environment, count)
    assert count is not None
    return Part(int(found[1]), count)


def part_of_environment(environment: Mapping[str, str] | None = None, count: int | None = None) -> Part:
    """The part of a task of a SLURM array, or of a pod of an indexed Kubernetes job.

    SLURM numbers the tasks of an array as the user asks (`--array=0-7`, `1-8`, `0-14:2`), so i is the place of the task
    among them. An array with gaps has no such place. Kubernetes numbers pods from 0 and does not tell them how many
    there are: pass `count`, or set JOB_COMPLETION_COUNT.

    Args:
        environment: Environment variables; None: those of the process.
        count: n, if the user named it.

    Raises:
        InputError: (a ValueError) the process is in neither, or in both; or i and n are not known for sure.

    Example:
        >>> array = {"SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "7"}
        >>> part_of_environment({**array, "SLURM_ARRAY_TASK_ID": "5"})
        Part(index=3, count=4)
    """
    variables = os.environ if environment is None else environment
    set_ = [name for name in (_SLURM, _KUBERNETES) if variables.get(name)]
    if len(set_) != 1:
        what = f"neither {_SLURM} nor {_KUBERNETES} is set" if not set_ else f"both {' and '.join(set_)} are set"
        raise InputError(f'shard: {what}; expected one of them for "{AUTO}", or "i/n", such as "2/8"')
    if set_ == [_KUBERNETES]:
        return _pod(variables, count)
    part = _array_task(variables)
    if count not in (None, part.count):
        raise InputError(
            f'shard: this is task {part} of a SLURM array, got "{AUTO}/{count}"; expected "{AUTO}", which knows n'
        )
    return part


def _array_task(variables: Mapping[str, str]) -> Part:
    number = _number(variables, _SLURM)
    count = _number(variables, "SLURM_ARRAY_TASK_COUNT", at_least=1)
    first = _number(variables, "SLURM_ARRAY_TASK_MIN", 0)
    last = _number(variables, "SLURM_ARRAY_TASK_MAX", first + count - 1)
    # the step that an array of so many tasks has if it has no gaps, whether it was given as 3-5:2 or as 3,5
    step = max((last - first) // max(count - 1, 1), 1)
    place, rest = divmod(number - first, step)
    if rest or last != first + step * (count - 1) or not 0 <= place < count:
        raise InputError(
            f"shard: task {number} has no place in an array of {count} tasks from {first} to {last}; "
            f'expected an array without gaps, such as --array=1-{count}, or "i/n" for each task'
        )
    return Part(place + 1, count)


def _pod(variables: Mapping[str, str], count: int | None) -> Part:
    number = _number(variables, _KUBERNETES)
    if count is None and not variables.get("JOB_COMPLETION_COUNT"):
        raise InputError(
            f"shard: Kubernetes sets {_KUBERNETES} and not how many there are; expected the job's completions too: "
            f'"{AUTO}/8", or JOB_COMPLETION_COUNT'
        )
    count = _number(variables, "JOB_COMPLETION_COUNT", at_least=1) if count is None else count
    if number >= count:
        raise InputError(f"shard: {_KUBERNETES} is {number}, expected one from 0 to {count - 1} for {count} parts")
    return Part(number + 1, count)


def _number(variables: Mapping[str, str], name: str, default: int | None = None, at_least: int = 0) -> int:
    text = variables.get(name) or ("" if default is None else str(default))
    if not re.fullmatch(r"\d+", text, re.ASCII) or int(text) < at_least:
        raise InputError(f"shard: expected a whole number of at least {at_least} in {name}, got {text!r}")
    return int(text)


def own(sizes: Sequence[int], part: Part) -> list[int]:
    """The things that are a part's own, if parts are to be of about the same size. See `balanced`.

    Args:
        sizes: Size of each thing, the same in every process.
        part: The part.

    Returns:
        The numbers of its things, rising; none for some parts, if there are more parts than things.

    Example:
        >>> own([5, 1, 4, 2], Part(2, 2)), own([5], Part(2, 2))
        ([2, 3], [])
    """
    parts = balanced(sizes, part.count)
    return parts[part.index - 1] if part.index <= len(parts) else []


def balanced(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Split things into parts of about the same size: the largest first, each to the part that has least so far.

    It depends on the sizes and their order alone, so every process finds the same split.

    Args:
        sizes: Size of each thing.
        count: Number of parts.

    Returns:
        For each part the numbers of its things, rising. Parts that stay empty, the last ones, are left out.

    Example:
        >>> balanced([5, 1, 4, 2], 2)
        [[0, 1], [2, 3]]
    """
    parts: list[list[int]] = [[] for _ in range(min(count, len(sizes)))]
    least = [(0, 0, part) for part in range(len(parts))]  # a heap: of parts with the same load, that of fewer things
    for number in sorted(range(len(sizes)), key=lambda number: -sizes[number]):
        load, n_things, part = least[0]
        heapreplace(least, (load + sizes[number], n_things + 1, part))
        parts[part].append(number)
    return [sorted(part) for part in parts]
