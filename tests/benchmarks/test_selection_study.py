import numpy as np
import polars as pl
import pytest

from benchmarks import selection_study as study

pytestmark = pytest.mark.unit


def test_every_task_is_in_one_half_and_every_type_in_both() -> None:
    halves = study.split()
    assert sorted(halves["deciding"] + halves["reporting"]) == sorted(study.ALL_TASKS)
    assert list(study.kinds_of(halves["deciding"])) == list(study.kinds_of(halves["reporting"])) == list(study.TASKS)
    assert study.split() == halves
    assert study.split(seed=1) != halves


def test_regrets_by_hand() -> None:
    score = np.array([50.0, 70.0, 60.0, 40.0])
    curves = {"half_retrieval": np.array([0.1, 0.2, 0.3, 0.15]), "drop_retrieval": np.array([0.1, 0.9, 0.8, 0.2])}
    found = {rule: (layer, regret) for rule, layer, regret in study.regrets(score, curves)}
    assert found["half-retrieval"] == (2, 10.0)
    assert found["drop-retrieval"] == (1, 0.0)
    assert found["auto"] == found["half-and-drop"] == (2, 10.0)  # 0.3 x 0.8 is more than 0.2 x 0.9
    assert found["last"] == (3, 30.0)
    assert study.regrets(score, curves, embeds=True)[1] == ("auto", 3, 30.0)  # an embedding model takes its last layer
    assert found["random"] == (None, 15.0)
    assert "proxy" not in found and "min-dime" not in found  # their curves are missing


def test_a_layer_without_a_score_is_not_taken() -> None:
    score = np.array([np.nan, 70.0, np.nan, 60.0, 50.0])
    curves = {"half_retrieval": np.array([0.1, 0.2, 0.9, 0.3, 0.1])}
    found = {rule: layer for rule, layer, _ in study.regrets(score, curves)}
    assert (found["half-retrieval"], found["first"], found["last"]) == (3, 1, 4)
    assert found["middle"] in (1, 3)


def test_the_corpora_are_the_texts_of_a_half_and_of_each_of_its_types() -> None:
    corpora = study.corpora_of({name: [f"a text of {name}"] for name in study.ALL_TASKS})
    for half, names in study.split().items():
        assert sorted(corpora[f"{half}, mixed"]) == sorted(f"a text of {name}" for name in names)
        assert sum(len(corpora[f"{half}, {kind}"]) for kind in study.TASKS) == len(names)


def test_the_summary_has_means_worst_and_layers() -> None:
    rows = [("a", "x", "last", 3, 1.0), ("a", "y", "last", 3, 2.0), ("b", "x", "last", 5, 6.0)]
    found = pl.DataFrame(rows, schema=["model", "type", "rule", "layer", "regret"], orient="row")
    assert study.summary(found).splitlines()[2] == "| last | 3.0 | 6.0 | 1.0, 2.0 (3) | 6.0 (5) |"


def test_a_model_on_the_command_line() -> None:
    assert study.named_model("gemma=models/gemma:model.gguf") == ("gemma", "models/gemma", "model.gguf")
    assert study.named_model("e5=models/e5") == ("e5", "models/e5", None)
    assert study.named_model("starter") == ("starter", "starter", None)
