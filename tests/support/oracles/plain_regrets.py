"""Regrets in plain loops, for comparison with `leaderboard.analysis.regret`. Every model has four blocks."""

from math import isfinite, nan
from statistics import mean
from typing import Any, NamedTuple

from leaderboard.analysis.rules import Known
from midlayer_embed.selection.criteria import CRITERIA

L = 4
TYPES = {"A": "STS", "B": "STS", "C": "Clustering"}
# Tasks that `proxy` may go by.
PROXIES = {"P": "STS", "Q": "Classification"}
DEPTHS = {f"{step / 20:.2f}": round(step / 20 * L) for step in range(21)}
_PLACES = {"first": 0, "middle": 2, "depth:0.7": 3, "depth:0.8": 3, "last": L}
KINDS = TYPES | PROXIES
# Two names of one model: its poolings.
LABELS = ["m", "m (pooling_mode=cls)", "n", "o"]
MEASURED = ("dime", "curvature", "lidar")
_OF_HALVES, _OF_DROPS = "half_retrieval", "drop_retrieval"


class Which(NamedTuple):
    """A model and revision with one recipe."""

    model: str
    revision: str
    template: str | None

    @property
    def base(self) -> str:
        return self.model.removesuffix(" (pooling_mode=cls)")


Scores = dict[tuple[Which, str, int], float]
Metrics = dict[tuple[str, str, str, str, int], float]
Curve = dict[int, float]


def _nearest(curve: Curve, wanted: int) -> int:
    return min(curve, key=lambda layer: (abs(layer - wanted), layer))


def _best(curve: Curve) -> int:
    return max(curve, key=lambda layer: (curve[layer], -layer))


def _by_criterion(name: str, values: Curve) -> int | None:
    _, end = CRITERIA[name]
    sign = -1 if end == "max" else 1
    costs = {layer: sign * v if isinstance(end, str) else abs(v - end) for layer, v in values.items()}
    return min(costs, key=lambda layer: (costs[layer], layer)) if costs else None


def _highest_mean(halves: Curve, drops: Curve) -> int | None:
    means = {layer: (halves[layer] * drops[layer]) ** 0.5 for layer in halves if layer in drops}
    return _best(means) if means else None


def _picked(
    name: str, curve: Curve, values: dict[str, Curve], which: Which, known: Known, n_texts: int | None, proxy: Curve
) -> int | None:
    """The layer that a criterion picks among those of `curve`; None if it cannot.

    Args:
        name: The criterion.
        curve: Scores.
        values: The values of each metric at these layers.
        which: What they are of.
        known: What else is known.
        n_texts: Texts behind the values; None if that is not known.
        proxy: Mean scores of the proxy tasks; empty where these are judged on themselves.
    """
    half_and_drop = _highest_mean(values.get(_OF_HALVES, {}), values.get(_OF_DROPS, {}))
    published = None if which.template else known.published.get(which[:2])
    if name == "half-and-drop":
        return half_and_drop
    if name == "proxy":
        found = {layer: proxy[layer] for layer in curve if layer in proxy}
        return _best(found) if found else None
    if name == "published":
        return None if published is None else _nearest(curve, published)
    if name != "auto":
        return _by_criterion(name, values.get(CRITERIA[name][0], {}))
    if which[:2] in known.sentence_transformers:
        return _nearest(curve, L)
    if half_and_drop is not None and (n_texts is None or n_texts >= 200):
        return half_and_drop
    return _nearest(curve, round(0.8 * L) if published is None else published)


def _rectangle(cells: dict[tuple[str, int], float]) -> dict[tuple[str, int], float]:
    """The cells of the tasks and layers without holes."""
    while cells:
        tasks, layers = sorted({task for task, _ in cells}), sorted({layer for _, layer in cells})
        of_task = {task: sum((task, layer) not in cells for layer in layers) * len(tasks) for task in tasks}
        of_layer = {layer: sum((task, layer) not in cells for task in tasks) * len(layers) for layer in layers}
        task = max(tasks, key=lambda one: of_task[one])
        layer = max(layers, key=lambda one: of_layer[one])
        if not of_task[task]:
            return cells
        out = task if of_task[task] > of_layer[layer] else layer
        cells = {key: value for key, value in cells.items() if out not in key}
    return cells


def _of_type(cells: dict[tuple[str, int], float], kind: str) -> Curve:
    tasks = sorted({task for task, _ in cells if KINDS[task] == kind})
    return {layer: mean(cells[task, layer] for task in tasks) for _, layer in cells} if tasks else {}


def _whole(cells: dict[tuple[str, int], float]) -> Curve:
    curves = [curve for curve in (_of_type(cells, kind) for kind in sorted(set(KINDS.values()))) if curve]
    return {layer: mean(curve[layer] for curve in curves) for layer in {layer for _, layer in cells}}


def _rules(curve: Curve, picked: dict[str, int | None]) -> dict[str, float | None]:
    """The layer of every rule; None for a random one."""
    fixed = {name: _nearest(curve, wanted) for name, wanted in (_PLACES | DEPTHS).items()}
    return {**fixed, **picked, "best": _best(curve), "random": None}


def _loss(curve: Curve, layer: int | None) -> float:
    return max(curve.values()) - (mean(curve.values()) if layer is None else curve[layer])


# By reading, rule and variant: the regret on each task or type.
Regrets = dict[tuple[str, str], dict[Which, dict[str | None, float]]]


def _plain_regrets(scores: Scores, metrics: Metrics, names: list[str], known: Known) -> Regrets:
    found: Regrets = {}

    def add(reading: str, rule: str, which: Which, on: str | None, value: float) -> None:
        found.setdefault((reading, rule), {}).setdefault(which, {})[on] = value

    for which in sorted({which for which, _, _ in scores}, key=str):
        curves = {
            task: {k: v for k in range(L + 1) if isfinite(v := 100 * scores.get((which, task, k), nan))}
            for task in KINDS
        }
        curves = {task: curve for task, curve in curves.items() if len(curve) > 1}
        proxy: Curve = {}
        if known.proxies and set(known.proxies) <= set(curves):
            proxy = _whole(_rectangle({(task, k): v for task in known.proxies for k, v in curves[task].items()}))
        names_of_metrics = sorted({metric for *_, metric, _ in metrics})
        shared, measured = {}, {}
        for task, curve in curves.items():
            values = {
                name: {
                    k: v for k in curve if isfinite(v := metrics.get((which.model, which.revision, task, name, k), nan))
                }
                for name in names_of_metrics
            }
            n_texts = known.n_texts.get((*which[:2], task))
            of_others = {} if task in known.proxies else proxy
            picked = {name: _picked(name, curve, values, which, known, n_texts, of_others) for name in names}
            if None in picked.values():
                continue
            shared |= {(task, k): v for k, v in curve.items()}
            measured |= {(name, task, k): v for name, of in values.items() for k, v in of.items()}
            for rule, layer in _rules(curve, picked).items():
                add("task", rule, which, task, _loss(curve, layer))
        whole = _rectangle(shared)
        curve = _whole(whole)
        if len(curve) < 2:
            continue
        cells = {
            name: {(task, k): v for (one, task, k), v in measured.items() if one == name and (task, k) in whole}
            for name in names_of_metrics
        }
        texts = [known.n_texts.get((*which[:2], task)) for task in {task for task, _ in cells.get(_OF_HALVES, {})}]
        n_texts = None if None in texts else sum(n for n in texts if n is not None)
        values = {name: _whole(_rectangle(of)) for name, of in cells.items()}
        picked = {name: _picked(name, curve, values, which, known, n_texts, proxy) for name in names}
        if None in picked.values():
            continue
        for rule, layer in _rules(curve, picked).items():
            add("model", rule, which, None, _loss(curve, layer))
            for kind in sorted(set(KINDS.values())):
                if of_type := _of_type(whole, kind):
                    add("type", rule, which, kind, _loss(of_type, layer))
    return found


def _of_models(of_rule: dict[Which, dict[str | None, float]]) -> dict[str, float]:
    bases = sorted({which.base for which in of_rule})
    return {base: mean(mean(of_rule[w].values()) for w in of_rule if w.base == base) for base in bases}


def _tune(regrets: Regrets, rule: str, candidates: list[str]) -> None:
    """Add the rule that takes, for each model, the candidate with the lowest regret on the others."""
    for reading, measured_on in (("model", "model"), ("type", "model"), ("task", "task")):
        means = {name: _of_models(regrets.get((measured_on, name), {})) for name in candidates}
        bases = sorted(means[candidates[0]]) if candidates else []
        if len(bases) < 2 or len(candidates) < 2:
            continue
        tuned = regrets.setdefault((reading, rule), {})
        for base in bases:
            others = {name: round(mean(v for one, v in means[name].items() if one != base), 9) for name in candidates}
            best = min(candidates, key=lambda name: others[name])
            tuned |= {which: of for which, of in regrets[reading, best].items() if which.base == base}


def expected_regrets(
    scores: Scores, metrics: Metrics, names: list[str], known: Known | None = None
) -> dict[tuple[str, str], dict[str, Any]]:
    regrets = _plain_regrets(scores, metrics, names, known or Known())
    _tune(regrets, "tuned-depth", list(DEPTHS))
    _tune(regrets, "tuned-criterion", [name for name in names if name not in ("auto", "proxy", "published")])
    return {
        (reading, rule): {
            "regret": mean(_of_models(of_rule).values()),
            "worst": max(value for of in of_rule.values() for value in of.values()),
            "n_models": len(_of_models(of_rule)),
            "n": sum(map(len, of_rule.values())),
        }
        for (reading, rule), of_rule in regrets.items()
        if rule not in DEPTHS
    }
