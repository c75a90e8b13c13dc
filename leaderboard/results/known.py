"""What results say, besides scores and metrics, that the rules of a table of regrets go by."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from leaderboard.analysis.rules import Known
from leaderboard.models.published import published_layers
from midlayer_embed.selection.criteria import metrics_of

# Key in the provenance of metrics: how many different texts of two words or more they were measured on.
N_TEXTS = "n_texts"


def known_by_name(models: Iterable[tuple[str, str]]) -> Known:
    """What is known of models of table files: whether their names are those of published scores.

    Args:
        models: Name and revision of each.

    Example:
        >>> known_by_name([("EleutherAI/pythia-410m", "main"), ("mine", "main")]).published
        {('EleutherAI/pythia-410m', 'main'): 17}
    """
    return Known(published={key: published_layers()[key].layer for key in models if key in published_layers()})


def known_by_provenance(
    provenances: Mapping[tuple[str, str], tuple[str | None, Mapping[str, Any]]], metrics: pl.DataFrame
) -> Known:
    """What is known of the models of a results folder.

    Results of earlier versions do not say whether a model is a sentence-transformers model, nor which revision was
    asked for, nor how many texts a task has: one with modules after the pooling is one, the revision is that of the
    results, and there are as many texts as there may be.

    Args:
        provenances: The Hub id and the provenance of one result of each model, by name and revision in the tables; one
            without a template if there is any.
        metrics: From `ResultsFolder.metrics`.
    """
    published, trained, autos = {}, [], {}
    for (model, revision), (hub_id, provenance) in provenances.items():
        own = provenance.get("own", {})
        if own.get("is_sentence_transformer", bool(own.get("modules"))):
            trained.append((model, revision))
        found = published_layers().get((str(hub_id), str(provenance.get("requested_revision", revision))))
        if provenance.get("auto") is not None:
            autos[model, revision] = str(provenance["auto"])
        changed = provenance.get("bidirectional") or provenance.get("adapters")
        if found and not changed and found.scores(provenance):
            published[model, revision] = found.layer
    n_texts: dict[tuple[str, str, str], int] = {}
    columns = ("model", "revision", "task", "max_texts", "provenance")
    of_views = metrics.filter(pl.col("metric").is_in(metrics_of("half-and-drop")))
    for *key, most, text in of_views.select(columns).unique(maintain_order=True).iter_rows():
        of_task, n = (key[0], key[1], key[2]), int(json.loads(text).get(N_TEXTS, most))
        n_texts[of_task] = min(n, n_texts.get(of_task, n))
    return Known(published, tuple(trained), n_texts, autos=autos)


def joined_known(known: Sequence[Known]) -> Known:
    """What several results say together; of a contradiction the first one counts."""
    last_first = list(reversed(known))
    return Known(
        {key: layer for one in last_first for key, layer in one.published.items()},
        tuple(dict.fromkeys(model for one in known for model in one.sentence_transformers)),
        {key: n for one in last_first for key, n in one.n_texts.items()},
        autos={key: auto for one in last_first for key, auto in one.autos.items()},
    )
