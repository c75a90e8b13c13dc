"""Whether files of one name say the same, and the file that they make together.

Numbers that differ by no more than `ROUNDING` are the same: two machines differ in the last digits. What is kept does
not depend on the order of the files. mteb is not imported here.
"""

import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from leaderboard.results.files.run_settings import Row, read_rows, rows_of
from leaderboard.results.schemas import METRICS_FILE_SCHEMA, METRICS_SCHEMA, OF_TEXTS, ROUNDING
from midlayer_embed.errors import first_line

# What a provenance says of the machine and the way to the files, not of the numbers.
_OF_THE_MACHINE = {"device", "versions", "hub_id", "requested_revision"}
# What a score entry says besides its scores, for the same reason.
_NOT_COMPARED = {"provenance", "mteb_version", "evaluation_time"}
_KEY = [name for name in METRICS_SCHEMA if name != "value"]
# Names of folders, each with the content of the file.
Files = Sequence[tuple[str, bytes]]


class Conflict(Exception):
    """Two folders contradict each other; the message says which and in what."""


class Unreadable(Exception):
    """A file cannot be read; the message says why."""


def united_result(files: Files) -> bytes:
    """The first of several results of a task at a layer, by their dates.

    Args:
        files: mteb's result files, at least one.

    Raises:
        Conflict: they have different scores, splits, data or provenance.
        Unreadable: one is no JSON object.

    Example:
        >>> united_result([("a", b'{"scores": {}}'), ("b", b'{"scores": {}, "date": 1.5}')])
        b'{"scores": {}, "date": 1.5}'
        >>> entry = '{"dataset_revision": "%s", "scores": {}}'
        >>> united_result([(name, (entry % name).encode()) for name in "ab"])
        Traceback (most recent call last):
        leaderboard.results.files.agreement.Conflict: a has dataset_revision 'a', b has 'b'
    """
    found = [(name, content, read_object(content)) for name, content in files]
    found.sort(key=lambda one: (*_date(one[2].get("date")), one[1]))
    (name, kept, first), *others = found
    for other, _, result in others:
        if difference := _between_results(first, result):
            raise Conflict(_said((name, other), difference))
    return kept


def united_meta(files: Files) -> bytes:
    """The model_meta.json that says most.

    Raises:
        Conflict: they are of different models, revisions or experiments.
        Unreadable: one is no JSON object.
    """
    return _most_telling(files, only=("name", "revision", "experiment_kwargs"))


def united_shard(files: Files) -> bytes:
    """The shard.json that says most. What was asked for may differ, and so may the cost, which is an estimate.

    Raises:
        Conflict: they are of different shards.
        Unreadable: one is no JSON object.
    """
    return _most_telling(files, but=("cost", "asks"))


def united_worker(files: Files) -> bytes:
    """The file of a worker that says most.

    Raises:
        Unreadable: one is no JSON object.
    """
    return _most_telling(files, only=())


def united_settings(files: Files) -> list[Row]:
    """The rows of several run_settings.jsonl, each split of a task once, sorted."""
    rows: dict[tuple[str, str], set[str]] = {}
    for _, content in files:
        for row in read_rows(content):
            for split in row.get("splits") or [""]:
                of_split = json.dumps({**row, "splits": [split]})
                rows.setdefault((str(row.get("task")), str(split)), set()).add(of_split)
    kept: dict[tuple[str, str], Row] = {}
    for (task, split), said in sorted(rows.items()):
        row = {**json.loads(min(said)), "splits": []}
        kept.setdefault((task, json.dumps(row)), row)["splits"].append(split)
    return list(kept.values())


def united_metrics(files: Files) -> bytes:
    """The rows of several files of metrics of a task, as `ResultsFolder.save_metrics` would have written them.

    Raises:
        Conflict: they were measured on different texts or with another provenance, or have other values.
        Unreadable: one is no such parquet file.
    """
    frames = [_read_metrics(content) for _, content in files]
    if len({content for _, content in files}) == 1:
        return files[0][1]
    whole = pl.concat([frame.with_columns(source=pl.lit(place)) for place, frame in enumerate(frames)])
    names = [name for name, _ in files]
    _check_texts(whole, names)
    value = pl.col("value").fill_nan(None)
    highest, lowest = value.max(), value.min()
    far = ((highest != lowest) & (highest - lowest > ROUNDING)).fill_null(value=False)
    far |= value.null_count().is_between(1, pl.len() - 1)
    wrong = whole.group_by(_KEY).agg(far.alias("far")).filter("far").sort(_KEY)
    if not wrong.is_empty():
        row = wrong.row(0, named=True)
        rows = whole.filter(pl.all_horizontal(pl.col(key).eq_missing(row[key]) for key in _KEY)).sort(value)
        two = [(names[one["source"]], one["value"]) for one in (rows.row(0, named=True), rows.row(-1, named=True))]
        of = f"{row['metric']} ({row['normalization']}) of layer {row['layer']}"
        more = f"; {wrong.height - 1} more rows differ" if wrong.height > 1 else ""
        raise Conflict(f"{two[0][0]} has {two[0][1]!r} as {of}, {two[1][0]} has {two[1][1]!r}{more}")
    kept = whole.sort([*_KEY, "provenance", "value"]).unique(_KEY, keep="first", maintain_order=True)
    written = io.BytesIO()
    kept.select(list(METRICS_FILE_SCHEMA)).sort(_KEY).write_parquet(written)
    return written.getvalue()


def settings_of(result: bytes) -> tuple[str, list[Row]] | None:
    """The task of a result that a sweep wrote, with the run settings that its provenance tells; None of another one."""
    found = read_object(result)
    told = (entry.get("provenance") for entry in (_parts(found) or {}).values())
    provenance = next((one for one in told if isinstance(one, dict)), None)
    if provenance is None:
        return None
    task = str(found.get("task_name"))
    return task, rows_of(task, found["scores"], provenance)


def same_bytes(files: Files) -> bytes:
    """The content of a file of another kind.

    Raises:
        Conflict: there are two contents.
    """
    (name, content), *others = files
    for other, its in others:
        if its != content:
            raise Conflict(f"{name} and {other} have different files of this name")
    return content


def read_object(content: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        Unreadable: it is none.
    """
    found = _loads(content)
    if not isinstance(found, dict):
        raise Unreadable("it is not a JSON object" if content.strip() else "it is empty")
    return found


def _loads(content: bytes | str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # also what is no UTF-8
        return None


def _date(date: Any) -> tuple[int, float, str]:
    """A key to sort by: numbers, then texts, then what has no date."""
    if isinstance(date, int | float) and math.isfinite(date):
        return 0, float(date), ""
    return (1, 0.0, date) if isinstance(date, str) else (2, 0.0, "")


def _most_telling(files: Files, *, only: Sequence[str] | None = None, but: Sequence[str] = ()) -> bytes:
    found = [(name, content, read_object(content)) for name, content in files]
    found.sort(key=lambda one: (-len(one[2]), one[1]))
    (name, kept, first), *others = found
    for other, _, its in others:
        keys = [key for key in first if key in its and key not in but] if only is None else only
        for key in keys:
            if first.get(key) != its.get(key):
                raise Conflict(_said((name, other), (key, first.get(key), its.get(key))))
    return kept


# What differs, and the two values.
_Difference = tuple[str, Any, Any]


def _said(names: tuple[str, str], difference: _Difference) -> str:
    what, *values = difference
    one, other = (repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..." for value in values)
    return f"{names[0]} has {what} {one}, {names[1]} has {other}"


def _between_results(one: Mapping[str, Any], other: Mapping[str, Any]) -> _Difference | None:
    if one.get("dataset_revision") != other.get("dataset_revision"):
        return "dataset_revision", one.get("dataset_revision"), other.get("dataset_revision")
    first, second = _parts(one), _parts(other)
    if first is None or second is None:  # of another version of mteb
        return next(_differences("", one, other, but={"date", *_NOT_COMPARED}), None)
    if first.keys() != second.keys():
        return "the splits and subsets", sorted(first), sorted(second)
    for (split, subset), entry in sorted(first.items()):
        its = second[split, subset]
        for (what, a), (_, b) in _known_in_both(entry.get("provenance"), its.get("provenance")):
            if a != b:
                return what, a, b
        where = "" if len(first) == 1 else f" of {split} {subset}"
        for what, a, b in _differences("", entry, its, but=_NOT_COMPARED):
            return f"{what}{where}", a, b
        if ("main_score" in entry) != ("main_score" in its):
            return f"main_score{where}", entry.get("main_score"), its.get("main_score")
    return None


def _parts(result: Mapping[str, Any]) -> dict[tuple[str, str], Mapping[str, Any]] | None:
    """The score entries, by split and subset; None if the file is not of today's layout."""
    scores = result.get("scores")
    if not isinstance(scores, dict) or not all(isinstance(entries, list) for entries in scores.values()):
        return None
    if not all(isinstance(entry, dict) for entries in scores.values() for entry in entries):
        return None
    return {(split, str(entry.get("hf_subset"))): entry for split, entries in scores.items() for entry in entries}


def _differences(
    where: str, one: Any, other: Any, but: set[str] | frozenset[str] = frozenset()
) -> Iterator[_Difference]:
    """Where two values differ by more than rounding; keys that only one has are of another version."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = sorted((one.keys() & other.keys()) - but, key=lambda key: (key != "main_score", key))
        for key in keys:
            yield from _differences(f"{where}.{key}" if where else key, one[key], other[key])
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for place, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from _differences(f"{where}[{place}]", a, b)
    elif not _same(one, other):
        yield where, one, other


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, int | float) and isinstance(other, int | float):
        return (math.isnan(one) and math.isnan(other)) or one == other or abs(one - other) <= ROUNDING
    return bool(one == other)


def _known_in_both(one: Any, other: Any) -> Iterator[tuple[tuple[str, Any], tuple[str, Any]]]:
    known = [dict(_leaves(provenance)) for provenance in (one, other)]
    for key in known[0].keys() & known[1].keys():
        yield (key, known[0][key]), (key, known[1][key])


def _leaves(provenance: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """What a provenance knows, by the way to it; nothing of the machine."""
    if not isinstance(provenance, dict):
        return
    for key, value in provenance.items():
        if not above and key in _OF_THE_MACHINE:
            continue
        way = f"{above}.{key}" if above else key
        if isinstance(value, dict):
            yield from _leaves(value, way)
        elif value is not None:
            yield way, value


def _check_texts(whole: pl.DataFrame, names: Sequence[str]) -> None:
    """Rows of different texts are never mixed.

    Raises:
        Conflict: there are some.
    """
    known: dict[str, tuple[str, Any]] = {}
    columns = [*OF_TEXTS, "provenance"]
    for row in whole.select("source", *columns).unique().sort("source", *columns).iter_rows(named=True):
        own = {name: row[name] for name in OF_TEXTS} | dict(_leaves(_loads(row["provenance"] or "")))
        for key, value in own.items():
            name, first = known.setdefault(key, (names[row["source"]], value))
            if first != value:
                two = _said((name, names[row["source"]]), (key, first, value))
                raise Conflict(f"the metrics are of different texts or settings: {two}")


def _read_metrics(content: bytes) -> pl.DataFrame:
    try:
        frame = pl.read_parquet(io.BytesIO(content))
        return frame.select(list(METRICS_FILE_SCHEMA)).cast(METRICS_FILE_SCHEMA)  # type: ignore[arg-type]
    except Exception as error:  # polars has many for what is no parquet file
        raise Unreadable(first_line(error)) from None


# How files of each kind are united, by the kinds of `merging`.
UNITE: dict[str, Callable[[Files], bytes]] = {
    "result": united_result,
    "model_meta": united_meta,
    "metrics": united_metrics,
    "worker": united_worker,
    "shard": united_shard,
    "other": same_bytes,
}
