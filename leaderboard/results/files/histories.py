"""The numbered tries of a shard, from several results folders."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_NUMBERED = re.compile(r"(\d{4,})\.(claim|json|log)")
RECORD = re.compile(r"shards/.+/\d{4,}\.json")


@dataclass(frozen=True)
class Try:
    """One try of a shard.

    Attributes:
        path: Its files without their ending: shards/<model>/<revision>/<variant>/<task>/0001.
        record: How it ended; None if it has not.
        has_log: Whether there is a log of it.
    """

    path: str
    record: bytes | None
    has_log: bool

    @property
    def is_finished(self) -> bool:
        """Whether it ended well."""
        return self.said.get("state") == "finished"

    @property
    def said(self) -> dict[str, Any]:
        """What the record says; nothing if it cannot be read."""
        try:
            found = json.loads(self.record or b"")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}


def history(names: Sequence[str], records: Mapping[str, bytes], folder: str) -> list[Try]:
    """The claimed tries of a shard in one results folder, in their order.

    Args:
        names: Names of the files in the folder of the shard.
        records: The readable records of the results folder, by their paths.
        folder: Path of the shard's folder.
    """
    found: dict[str, set[str]] = {}
    for name in names:
        if numbered := _NUMBERED.fullmatch(name):
            found.setdefault(numbered[1], set()).add(numbered[2])
    tries = []
    for number, kinds in sorted(found.items(), key=lambda item: int(item[0])):
        if "claim" in kinds:
            path = f"{folder}/{number}"
            tries.append(Try(path, records.get(f"{path}.json"), "log" in kinds))
    return tries


def added(there: Sequence[Try], others: Sequence[Sequence[Try]]) -> list[tuple[int, Try]]:
    """The tries that the target lacks, as (place of the folder among the others, try), in the order to add them.

    The state of a shard is that of its last try, so what did not finish comes first, and is not added behind a try
    that finished or that is still open. A try that has not ended stays in its own folder: nobody goes on with it here.

    Args:
        there: The tries in the target.
        others: The tries in each other folder.

    Example:
        >>> states = ("failed", "finished")
        >>> failed, finished = (Try("a/0001", json.dumps({"state": one}).encode(), False) for one in states)
        >>> added([], [[finished], [failed]]) == [(1, failed), (0, finished)]
        True
        >>> added([finished], [[failed], [finished]])
        []
    """
    known = {one.record for one in there if one.record is not None}
    new: dict[bytes, tuple[int, Try]] = {}
    for place, tries in enumerate(others):
        for one in tries:
            if one.record is not None and one.record not in known:
                new.setdefault(one.record, (place, one))
    is_settled = bool(there) and (there[-1].is_finished or there[-1].record is None)
    ordered = sorted(
        new.values(), key=lambda found: (found[1].is_finished, str(found[1].said.get("ended")), found[1].record)
    )
    return [found for found in ordered if found[1].is_finished or not is_settled]
