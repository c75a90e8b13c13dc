"""The criteria that select_layer finds here: proxy and published."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
from support.tiers import slow
from support.tiny_tasks import tiny_tasks

from leaderboard import run_sweep
from leaderboard.config_files import config_names, read_config
from leaderboard.criteria import proxy, published
from leaderboard.models.known import known_models
from midlayer_embed import LayerwiseEncoder, MidLayerEncoder, select_layer
from midlayer_embed.models.checkpoint import Checkpoint, find_checkpoint
from midlayer_embed.selection.criteria import selection_summary
from midlayer_embed.selection.curves import curve_bars


@pytest.mark.parametrize("options", [{"template": "eol", "pooling_mode": "lasttoken"}, *slow({})])
def test_proxy_is_the_best_layer_of_the_tasks(llama_folder: Path, tmp_path: Path, options: dict[str, str]) -> None:
    every = LayerwiseEncoder(llama_folder, **options)  # type: ignore[arg-type]
    board = run_sweep(every, tiny_tasks(), tmp_path, metrics="none", show_progress=False)
    expected = np.zeros(4)
    kinds = sorted(set(board.scores["task_type"]))
    for kind in kinds:
        of_kind = board.scores.filter(task_type=kind)
        for layer in range(4):
            expected[layer] += 100 * np.mean(of_kind.filter(layer=layer)["main_score"].to_numpy()) / len(kinds)
    chosen = proxy(llama_folder, tasks=tiny_tasks(), **options)
    assert chosen.values is not None and chosen.runner_up is not None
    np.testing.assert_allclose(chosen.values, expected, atol=1e-6)
    assert chosen.layer == int(np.nanargmax(expected)) and chosen.criterion == "proxy"
    assert chosen.runner_up == int(np.argsort(-expected, kind="stable")[1])
    assert chosen.margin == pytest.approx(expected[chosen.layer] - expected[chosen.runner_up])
    assert proxy(every, tasks=tiny_tasks(), layer_zero=False).layer == 1 + int(np.nanargmax(expected[1:]))
    assert chosen.reason is not None and chosen.reason.startswith("by labels of other data, none of yours: Tiny")
    assert selection_summary(chosen)[1] == chosen.reason
    assert "points" in curve_bars(chosen).splitlines()[0]
    encoder = MidLayerEncoder(llama_folder, layer=chosen, **options)
    encoder.save_pretrained(str(tmp_path / "saved"))
    assert "proxy takes the layer with the highest mean score (points)" in (tmp_path / "saved/README.md").read_text()


def test_proxy_is_found_by_its_name(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {}

    def noted(model: object, **options: object) -> object:
        seen.update(options, model=model)
        return proxy(llama_folder, tasks=tiny_tasks()[:1])

    monkeypatch.setattr("leaderboard.criteria.proxy", noted)
    chosen = select_layer(llama_folder, criterion="proxy", proxy_tasks=["STSBenchmark"], data_dir="data", seed=3)
    assert chosen.criterion == "proxy"
    assert (seen["tasks"], seen["data_dir"], seen["seed"]) == (["STSBenchmark"], "data", 3)
    with pytest.raises(ValueError, match="proxy_tasks: only the criterion 'proxy' takes it, got criterion 'last'"):
        select_layer(llama_folder, criterion="last", proxy_tasks=["STSBenchmark"])
    with pytest.raises(ValueError, match="data_dir: only the criterion 'proxy' takes it"):
        select_layer(llama_folder, criterion="auto", data_dir="data")


def test_a_proxy_task_that_is_not_known_is_told(llama_folder: Path) -> None:
    with pytest.raises(ValueError, match="STSBenchmrak"):
        select_layer(llama_folder, criterion="proxy", proxy_tasks=["STSBenchmrak"])


def test_a_layer_without_a_score_on_every_type_of_task_is_not_chosen(
    llama: LayerwiseEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"A": "STS", "B": "STS", "C": "Clustering"}
    scored = {("A", 0): 0.1, ("B", 0): 0.3, ("C", 0): 0.2, ("A", 1): 0.9, ("C", 1): 0.9, ("A", 2): 0.9, ("B", 2): 0.9}
    rows = [(layer, task, kinds[task], scored.get((task, layer))) for layer in range(3) for task in kinds]
    found = pl.DataFrame(rows, schema=["layer", "task", "task_type", "main_score"], orient="row")
    monkeypatch.setattr("leaderboard.sweep.run.run_sweep", lambda *_, **__: SimpleNamespace(scores=found))
    chosen = proxy(llama, tasks=list(kinds))
    assert chosen.values is not None
    np.testing.assert_allclose(chosen.values, [20, np.nan, np.nan])
    assert (chosen.layer, chosen.runner_up, chosen.margin) == (0, None, None)
    with pytest.raises(ValueError, match="^criterion: 'proxy' has no layer with a score on every type of task$"):
        proxy(llama, tasks=list(kinds), layer_zero=False)


def _known_as(folder: Path, hub_id: str, revision: str | None = None) -> Checkpoint:
    from dataclasses import replace

    return replace(find_checkpoint(folder), hub_id=hub_id, name=hub_id, requested_revision=revision)


def test_published_knows_models_of_the_hub(llama_folder: Path) -> None:
    chosen = published(_known_as(llama_folder, "EleutherAI/pythia-410m"))
    assert (chosen.layer, chosen.n_layers, chosen.criterion) == (17, 25, "published")
    assert chosen.reason is not None and "51.9 against 46.8 points at the last layer" in chosen.reason
    assert published(_known_as(llama_folder, "EleutherAI/pythia-410m", "step64000")).layer == 19
    with pytest.raises(ValueError, match="'published' knows no scores of EleutherAI/pythia-410m, revision step3"):
        published(_known_as(llama_folder, "EleutherAI/pythia-410m", "step3"))
    with pytest.raises(ValueError, match="knows no scores of EleutherAI/pythia-14m"):
        published(_known_as(llama_folder, "EleutherAI/pythia-14m"), layer_zero=False)
    with pytest.raises(ValueError, match=f"criterion: 'published' knows no scores of local/{llama_folder.name}"):
        select_layer(llama_folder, criterion="published")


def test_published_layers_are_those_of_the_tables(paper_folder: Path) -> None:
    paper_scores = pl.read_csv(paper_folder / "scores.csv.gz")
    short = {"EleutherAI/" + name.lower(): name for name in paper_scores["model"].unique()}
    rows = [row for name in config_names("published") for row in read_config("published", name)["models"]]
    assert len({(row["name"], row["revision"]) for row in rows}) == len(rows) > 10
    for row in rows:
        assert known_models()[row["name"]].n_blocks == row["n_blocks"]
        some = paper_scores.filter(model=short[row["name"]], revision=row["revision"])
        layers = some.pivot("task", index="layer", values="main_score").sort("layer").drop("layer")
        whole = layers.select(column for column in layers if column.is_finite().all() and not column.null_count())
        means = whole.mean_horizontal().to_numpy() * 100
        assert (len(means), whole.width, int(means.argmax())) == (row["n_blocks"] + 1, row["n_tasks"], row["layer"])
        assert (means.max(), means[-1]) == (pytest.approx(row["best"], abs=0.06), pytest.approx(row["last"], abs=0.06))
