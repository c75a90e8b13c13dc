"""What results say of their models for the rules of regrets: published scores, kind of model, number of texts."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from support.tiny_models import save_with_modules
from support.tiny_tasks import TinySTS
from support.web.boards import board_of

from leaderboard import load_results, load_tables, run_sweep
from leaderboard.analysis.rules import Known
from leaderboard.results.joined import joined
from leaderboard.results.known import known_by_provenance
from leaderboard.tasks.benchmarks import get_benchmark
from leaderboard.tasks.names import starter_tasks

_HUB = "EleutherAI/pythia-410m"


def _metrics(*rows: tuple[str, int, dict[str, Any]], metric: str = "half_retrieval") -> pl.DataFrame:
    found = [("m", "r", task, metric, most, json.dumps(provenance)) for task, most, provenance in rows]
    names = ["model", "revision", "task", "metric", "max_texts", "provenance"]
    return pl.DataFrame(found, schema=names, orient="row")


@pytest.mark.parametrize(
    ("hub_id", "provenance", "published"),
    [
        (_HUB, {"requested_revision": "main"}, {("m", "r"): 17}),
        (_HUB, {"requested_revision": "step64"}, {("m", "r"): 0}),
        (_HUB, {"requested_revision": "0123"}, {}),
        (_HUB, {}, {}),  # of an earlier version: a commit, which may be any
        (_HUB, {"requested_revision": "main", "bidirectional": True}, {}),
        (_HUB, {"requested_revision": "main", "adapters": ["a"]}, {}),
        (_HUB, {"requested_revision": "main", "pooling_mode": "mean", "final_norm": True}, {("m", "r"): 17}),
        (_HUB, {"requested_revision": "main", "pooling_mode": "cls"}, {}),
        (_HUB, {"requested_revision": "main", "final_norm": False}, {}),
        (None, {"requested_revision": "main"}, {}),
        ("org/other", {"requested_revision": "main"}, {}),
    ],
)
def test_published_is_of_the_model_and_the_revision_that_was_asked_for(
    hub_id: str | None, provenance: dict[str, Any], published: dict[tuple[str, str], int]
) -> None:
    found = known_by_provenance({("m", "r"): (hub_id, provenance)}, _metrics())
    assert found.published == published


@pytest.mark.parametrize(
    ("own", "is_one"),
    [
        ({"is_sentence_transformer": True, "modules": []}, True),
        ({"is_sentence_transformer": False, "modules": []}, False),
        ({"modules": ["Normalize"]}, True),
        ({"modules": []}, False),
        ({}, False),
    ],
)
def test_the_kind_of_model_is_read_also_from_results_of_earlier_versions(own: dict[str, Any], is_one: bool) -> None:
    found = known_by_provenance({("m", "r"): (None, {"own": own})}, _metrics())
    assert (("m", "r") in found.sentence_transformers) is is_one


def test_texts_are_those_measured_or_at_most_those_that_may_be() -> None:
    rows = (("A", 1000, {"n_texts": 40}), ("B", 150, {}), ("A", 1000, {"n_texts": 30}))
    assert known_by_provenance({}, _metrics(*rows)).n_texts == {("m", "r", "A"): 30, ("m", "r", "B"): 150}
    assert known_by_provenance({}, _metrics(*rows, metric="dime")).n_texts == {}


@pytest.mark.slow
def test_a_sweep_says_it(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    plain = tiny_model("bert")
    trained = save_with_modules(plain, tmp_path / "trained")
    for folder in (plain, trained):
        run_sweep(
            folder, [TinySTS()], tmp_path / "r", metrics=["half_retrieval", "drop_retrieval"], show_progress=False
        )
    board = load_results(tmp_path / "r")
    assert [name for name, _ in board.known.sentence_transformers] == ["local/trained"]
    columns = TinySTS().make()["test"]
    n_texts = len({*columns["sentence1"], *columns["sentence2"]})
    assert len(board.known.n_texts) == 2 and set(board.known.n_texts.values()) == {n_texts}
    row = board.regret(criteria=["auto", "half-and-drop"]).filter(reading="model", criterion="auto").row(0, named=True)
    assert row["choice"] in ("last, depth:0.8", "depth:0.8, last")


def test_table_files_are_known_by_the_names_of_their_models(tmp_path: Path) -> None:
    board = board_of([_HUB, "mine"], ["A"], 25, ("dime",))
    board.scores.write_csv(tmp_path / "s.csv")
    read = load_tables(tmp_path / "s.csv")
    assert read.known == Known(published={(_HUB, "main"): 17})
    assert read.regret(_HUB, criteria=["published"]).filter(criterion="published")["n"].to_list() == [1, 1, 1]


def test_folders_know_together_what_each_knows() -> None:
    board = board_of(["m"], ["A"], 4, ("dime",))
    one = replace(board, known=Known({("m", "r"): 1}, (("m", "r"),), {("m", "r", "A"): 1}))
    two = replace(board, known=Known({("n", "r"): 2, ("m", "r"): 3}, (("n", "r"),), {("m", "r", "B"): 2}))
    found = joined([one, two], ["one", "two"]).known
    assert found.published == {("m", "r"): 1, ("n", "r"): 2}
    assert found.sentence_transformers == (("m", "r"), ("n", "r"))
    assert found.n_texts == {("m", "r", "A"): 1, ("m", "r", "B"): 2}


def test_the_proxy_tasks_are_those_of_the_starter_benchmark() -> None:
    assert sorted(starter_tasks()) == sorted(task.metadata.name for task in get_benchmark("starter").tasks)
    tasks = [*starter_tasks(), "Other"]
    found = board_of(["m", "n"], tasks, 4, ("dime",)).regret()
    assert "proxy" in set(found["criterion"]) and set(found["n_tasks"]) == {1}
