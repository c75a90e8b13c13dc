"""Divides shards into parts of about the same cost, the same ones on every machine."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

from leaderboard.shards.shard import Shard
from midlayer_embed.sharing.parts import balanced

# What a part may cost, by the mean, to keep models together: each part with a shard of a model downloads and loads it.
_SLACK = 1.05
# Caps that are tried between the best and the slack.
_STEPS = 10
# Costs are added up as whole milliseconds: sums of floats depend on their order.
_UNITS = 1000

# A shard with its cost, and some of them.
_Sized: TypeAlias = tuple[int, Shard]
_Group: TypeAlias = list[_Sized]


def split(shards: Iterable[Shard], n: int) -> list[list[Shard]]:
    """Divides shards into n parts of about the same cost; few parts share a model.

    The parts depend on the shards alone, not on their order. None costs more than 1.05 times the mean, or than the
    largest does if each shard, the costliest first, goes to the part that costs least so far.

    Args:
        shards: Different shards.
        n: Number of parts, at least 1.

    Returns:
        For each part its shards: model by model, and the costliest first. A part is empty only if there are fewer
        shards than parts.

    Example:
        >>> costs = {("a", "x"): 6, ("a", "y"): 4, ("b", "x"): 5, ("b", "y"): 5}
        >>> shards = [Shard(model, "main", "", task, None, cost) for (model, task), cost in costs.items()]
        >>> [[shard.model + shard.task for shard in part] for part in split(shards, 2)]
        [['ax', 'ay'], ['bx', 'by']]
    """
    sized = sorted(((round(_UNITS * shard.cost), shard) for shard in shards), key=_order)
    parts = _spread(_divide(sized, n))
    return [[shard for group in _by_model(part) for _, shard in group] for part in parts]


def _divide(sized: Sequence[_Sized], n: int) -> list[_Group]:
    """Parts of about the same cost that load few models; some may be empty."""
    best = _longest_first(sized, n)
    total = _cost(sized)
    most = max(_largest(best), round(_SLACK * total / n))
    least = max(-(-total // n), sized[0][0] if sized else 0)
    caps = sorted({least + (most - least) * step // _STEPS for step in range(_STEPS + 1)})
    found = [best, *filter(None, (_kept_together(_by_model(sized), n, cap) for cap in caps))]
    return min(found, key=lambda parts: (_n_loaded(parts), _largest(parts)))


def _spread(parts: list[_Group]) -> list[_Group]:
    """Halves the costliest parts until none is empty: a shard that costs more than a part leaves others idle."""
    while [] in parts:
        number = max(range(len(parts)), key=lambda number: (len(parts[number]) > 1, _cost(parts[number]), -number))
        if len(parts[number]) < 2:
            break
        halves = _divide(sorted(parts[number], key=_order), 2)
        parts[number], parts[parts.index([])] = halves if all(halves) else _longest_first(parts[number], 2)
    return parts


def _order(sized: _Sized) -> tuple[int, str, str, str, str]:
    cost, shard = sized
    return (-cost, shard.model, shard.revision, shard.variant, shard.task)


def _cost(sized: Iterable[_Sized]) -> int:
    return sum(cost for cost, _ in sized)


def _largest(parts: Iterable[_Group]) -> int:
    return max(map(_cost, parts))


def _n_loaded(parts: Iterable[_Group]) -> int:
    """How often a model is loaded."""
    return sum(len({(shard.model, shard.revision) for _, shard in part}) for part in parts)


def _by_model(sized: Iterable[_Sized]) -> list[_Group]:
    """The shards of each model, the costliest first; models in order of their cost."""
    groups: dict[tuple[str, str], _Group] = {}
    for one in sorted(sized, key=_order):
        groups.setdefault((one[1].model, one[1].revision), []).append(one)
    return [groups[model] for model in sorted(groups, key=lambda model: (-_cost(groups[model]), model))]


def _longest_first(sized: Sequence[_Sized], n: int) -> list[_Group]:
    parts = [[sized[number] for number in part] for part in balanced([cost for cost, _ in sized], n)]
    return [*parts, *([] for _ in range(n - len(parts)))]


def _kept_together(groups: Iterable[_Group], n: int, cap: int) -> list[_Group] | None:
    """Parts of at most a cost, model by model: whole models where they fit, else cut. None if one fits nowhere."""
    parts: list[_Group] = [[] for _ in range(n)]
    loads = [0] * n
    for group in groups:
        left = group
        while left:
            cost = _cost(left)
            with_room = [number for number, load in enumerate(loads) if load + cost <= cap]
            if with_room:  # the fullest of them
                number = max(with_room, key=lambda number: (loads[number], -number))
                taken = left
            else:
                number = loads.index(min(loads))
                taken = _that_fit(left, cap - loads[number])
            if not taken:
                return None
            parts[number].extend(taken)
            loads[number] += _cost(taken)
            left = [one for one in left if one not in taken]
    return parts


def _that_fit(sized: Iterable[_Sized], room: int) -> _Group:
    """Shards that fit into a room, the costliest first."""
    taken = []
    for one in sized:
        if one[0] <= room:
            taken.append(one)
            room -= one[0]
    return taken
