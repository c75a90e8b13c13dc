"""One layer's results as mteb's own, and the trap that they are for."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mteb
import pytest
from mteb.cache import ResultCache
from support.tiny_tasks import TinyClustering, TinySTS, tiny_tasks

from leaderboard import get_benchmark, get_model, mteb_results, run_sweep

_OPTIONS: dict[str, Any] = {"metrics": "none", "show_progress": False}


@pytest.fixture(scope="module")
def swept(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("swept")
    run_sweep(llama_folder, tiny_tasks(), folder, **_OPTIONS)
    return folder


@pytest.mark.parametrize(("layer", "number"), [(0, 0), (2, 2), (-1, 3), (0.34, 1)])
def test_one_layer_equals_what_mteb_evaluates_directly(
    swept: Path, llama_folder: Path, layer: int | float, number: int
) -> None:
    options: dict[str, Any] = {"cache": None, "show_progress_bar": False, "co2_tracker": False}
    direct = mteb.evaluate(get_model(llama_folder, number), tiny_tasks(), **options)
    expected = {result.task_name: result.get_score() for result in direct.task_results}
    results = mteb_results(swept, layer=layer)
    (found,) = results.model_results
    assert (found.model_name, found.model_revision) == (direct.model_name, direct.model_revision)
    assert found.experiment_name == f"layer_{number}"
    table = results.to_dataframe()
    assert dict(zip(table["task_name"], table["local/tiny-llama"], strict=True)) == pytest.approx(expected, abs=1e-6)
    long = results.to_dataframe(include_model_revision=True, format="long")
    assert dict(zip(long["task_name"], long["score"], strict=True)) == pytest.approx(expected, abs=1e-6)


def test_mteb_itself_averages_over_the_layers(swept: Path) -> None:
    """If this fails, mteb has mended it, and the warning in the documentation can go."""
    everything = ResultCache(swept).load_results(load_experiments="match_name", validate_and_filter=False)
    averaged = dict(everything.to_dataframe()[["task_name", "local/tiny-llama"]].itertuples(index=False))
    layers = [mteb_results(swept, layer=layer).to_dataframe() for layer in range(4)]
    tables = [dict(zip(table["task_name"], table["local/tiny-llama"], strict=True)) for table in layers]
    mean = {task: sum(table[task] for table in tables) / 4 for task in averaged}
    assert averaged == pytest.approx(mean)


@pytest.mark.usefixtures("quiet_libraries")
def test_benchmarks_score_it(llama_folder: Path, tmp_path: Path) -> None:
    """mteb looks tasks up by name, and does not know ours."""
    names = ["StarterSTS", "StarterPairClassification"]
    board = run_sweep(llama_folder, names, tmp_path, limit=20, layers=[1, 3], **_OPTIONS)
    benchmark = get_benchmark("starter")
    benchmark.tasks = [task for task in benchmark.tasks if task.metadata.name in names]
    for layer in (1, 3):
        (scores,) = benchmark.get_score(mteb_results(tmp_path, layer=layer)).values()
        ours = board.scores.filter(layer=layer)["main_score"].to_list()
        assert scores["Mean(Task)"] == pytest.approx(sum(ours) / 2, abs=1e-6)


def test_models_and_settings_are_never_mixed(
    swept: Path, llama_folder: Path, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(swept, tmp_path / "results"))
    run_sweep(llama_folder, [TinySTS()], folder, pooling_mode="cls", layers=[1], **_OPTIONS)
    run_sweep(tiny_model("bert"), [TinySTS(), TinyClustering()], folder, layers=[1], **_OPTIONS)
    assert {found.model_name: len(found.task_results) for found in mteb_results(folder, layer=1).model_results} == {
        "local/tiny-bert": 2,
        "local/tiny-llama": 6,
        "local/tiny-llama (pooling_mode=cls)": 1,
    }
    assert [found.model_name for found in mteb_results(folder, layer=2).model_results] == ["local/tiny-llama"]
    for model in ("local/tiny-bert", "local/tiny-llama", "local/tiny-llama (pooling_mode=cls)"):
        (found,) = mteb_results(folder, layer=1, model=model).model_results
        assert found.model_name == model
    other = Path(shutil.copytree(tiny_model("gpt_neox"), tmp_path / "tiny-llama"))
    revisions = run_sweep(other, [TinySTS()], folder, layers=[1], **_OPTIONS).models()
    with pytest.raises(ValueError, match="^revision: .* several revisions of local/tiny-llama; expected one of "):
        mteb_results(folder, layer=1)
    for name, revision in revisions:
        (found,) = mteb_results(folder, layer=1, model=name, revision=revision).model_results
        assert (found.model_name, found.model_revision) == (name, revision)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 9}, "layer: .*9"),
        *(
            ({"layer": layer}, f"^layer: expected an int or a depth as a float, got {layer!r}$")
            for layer in (True, "2", None)
        ),
        ({"layer": 1, "model": "local/nobody"}, "model: .* has results of local/tiny-llama, got 'local/nobody'$"),
        ({"layer": 1, "revision": "0"}, "revision: .* got '0'$"),
        ({"results_dir": "/no/such/folder"}, "there is no folder '/no/such/folder'$"),
    ],
)
def test_what_is_not_there_is_named(swept: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mteb_results(**{"results_dir": swept, **options})


def test_a_folder_without_results_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="^results: there are no results of any layer in"):
        mteb_results(tmp_path, layer=1)


def test_results_that_mteb_wrote_are_read(llama_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"cache": ResultCache(tmp_path), "show_progress_bar": False, "co2_tracker": False}
    (alone,) = mteb.evaluate(get_model(llama_folder, 1), TinySTS(), **options).task_results
    (found,) = mteb_results(tmp_path, layer=1).model_results
    assert found.task_results[0].get_score() == pytest.approx(alone.get_score(), abs=1e-6)
    with pytest.raises(ValueError, match="do not say how many layers it has"):
        mteb_results(tmp_path, layer=-1)
