"""What mteb finds by name once `leaderboard` is imported."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mteb
import pytest
from mteb.cache import ResultCache
from mteb.models.model_implementations import MODEL_REGISTRY, get_all_model_meta_objects
from mteb.models.model_meta import ModelMeta
from support.forks import WITHOUT_MTEB, run_code
from support.tiers import slow
from support.tiny_tasks import TinySTS, tiny_tasks

from leaderboard import get_benchmark, run_sweep
from leaderboard.models.known import KnownModel, known_models
from leaderboard.registry import LayerModelMeta, register_models
from leaderboard.tasks.names import BENCHMARKS
from midlayer_embed import MidLayerEncoder

PYTHIA = "EleutherAI/pythia-410m"

_FOUND = """
names = ("paper", "paper-fast", "starter", "starter-vision", "vision", "vision-large")
assert [len(mteb.get_benchmark(name).tasks) for name in names] == [32, 32, 5, 3, 5, 49]
assert "paper" in [benchmark.name for benchmark in mteb.get_benchmarks()]
assert mteb.get_model_meta("EleutherAI/pythia-410m").embed_dim == 1024
"""
_ORDERS = {
    "leaderboard first": "import sys, leaderboard; assert 'mteb' not in sys.modules; import mteb",
    "mteb first": "import mteb; mteb.get_benchmark('MTEB(eng, v1)'); import leaderboard",
    "by the way": "from leaderboard.tasks.benchmarks import get_benchmark; import mteb",
    "registry first": "import leaderboard.registry; import mteb",
    "a task first": "from leaderboard.tasks.starter import StarterSTS; import mteb; mteb.get_task('StarterSTS')",
    "a list of tasks first": "from leaderboard import PAPER_TASKS; import mteb",
    "an image task first": "import leaderboard.tasks.images.starter, mteb; mteb.get_task('StarterVisualSTS')",
}


@pytest.mark.process
@pytest.mark.parametrize("name", ["registry first", *slow(*(name for name in _ORDERS if name != "registry first"))])
def test_benchmarks_and_models_are_found_in_whatever_order_the_packages_are_imported(name: str) -> None:
    order = _ORDERS[name]
    run_code("\n".join([order if order.startswith("import mteb") else WITHOUT_MTEB + order, _FOUND]))


def test_importing_leaderboard_does_not_import_mteb(fresh_answers: dict[str, Any]) -> None:
    assert fresh_answers["leaderboard"] == []


def test_a_registered_benchmark_has_tasks_of_its_own() -> None:
    for name in BENCHMARKS:
        found, ours = mteb.get_benchmark(name), get_benchmark(name)
        assert [task.metadata for task in found.tasks] == [task.metadata for task in ours.tasks]
        assert found.tasks[0] is mteb.get_benchmark(name).tasks[0]  # as for any benchmark of mteb's
        theirs = mteb.get_benchmark("MTEB(eng, v1)").tasks
        assert not {id(task) for task in found.tasks} & {id(task) for task in (*ours.tasks, *theirs)}


def test_the_papers_models_are_registered_and_none_of_mtebs_is_replaced() -> None:
    families = ["pythia", "Llama-3", "mamba", "bert-base", "bert-large", "Qwen2.5", "Cerebras-GPT", "LLM2Vec"]
    assert all(any(family in name for name in known_models()) for family in families)
    mtebs = {meta.name: meta for meta in get_all_model_meta_objects()}
    assert {name for name in known_models() if name in mtebs} == {
        "McGill-NLP/LLM2Vec-Meta-Llama-3-8B-Instruct-mntp-supervised",
        "McGill-NLP/LLM2Vec-Meta-Llama-3-8B-Instruct-mntp-unsup-simcse",
    }
    for name, model in known_models().items():
        meta = mteb.get_model_meta(name)
        if name in mtebs:
            assert meta == mtebs[name]
            continue
        assert isinstance(meta, LayerModelMeta)
        assert meta.experiment_name == f"layer_{model.n_blocks}"
        LayerModelMeta.model_validate(meta.model_dump())  # what is filled in is what mteb takes


def test_checkpoints_of_a_training_are_revisions() -> None:
    steps = known_models()[PYTHIA].revisions
    assert (len(steps), steps[0], steps[11], steps[-1]) == (154, "step0", "step1000", "step143000")
    assert mteb.get_model_meta(PYTHIA).revision == "main"
    assert [mteb.get_model_meta(PYTHIA, revision=step).revision for step in steps] == list(steps)
    assert mteb.get_model_meta(PYTHIA, "a" * 40).revision == "a" * 40
    assert mteb.get_model_meta(PYTHIA).revision == "main"
    with pytest.raises(ValueError, match="^revision: expected .*/pythia-410m such as step1000, .* got 'step1001'$"):
        mteb.get_model_meta(PYTHIA, revision="step1001")
    with pytest.raises(
        ValueError, match="^Model revision step1000 not found for model sentence-transformers/all-MiniLM"
    ):
        mteb.get_model_meta("sentence-transformers/all-MiniLM-L6-v2", revision="step1000")


def test_get_model_passes_revision_and_settings_on(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, object]] = []

    def recorded(name: str, **kwargs: object) -> None:
        asked.append({"name": name, **kwargs})

    monkeypatch.setattr("leaderboard.models.layer.get_model", recorded)
    mteb.get_model(PYTHIA, revision="step1000", layer=17, final_norm=False, device="cpu")
    mteb.get_model(PYTHIA)
    assert asked == [
        {"name": PYTHIA, "revision": "step1000", "device": "cpu", "layer": 17, "final_norm": False},
        {"name": PYTHIA, "revision": "main", "device": None, "layer": 24},
    ]
    with pytest.raises(ValueError, match=f"^embed_dim: {PYTHIA} has 1024, got 8$"):
        mteb.get_model(PYTHIA, embed_dim=8)


@pytest.fixture
def tiny_name(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a known model, whose weights are the tiny Llama's."""
    name = "tests/tiny"
    models = {name: KnownModel(name, n_blocks=3, embed_dim=32, base=str(llama_folder))}
    monkeypatch.setattr("leaderboard.models.known.known_models", lambda: models)
    register_models(models)
    yield name
    del MODEL_REGISTRY[name]


def test_mteb_evaluates_a_layer_by_name_as_a_sweep_does_and_keeps_it_in_the_same_place(
    tiny_name: str, llama_folder: Path, tmp_path: Path
) -> None:
    board = run_sweep(
        llama_folder, tiny_tasks(), tmp_path / "sweep", layers=[1, -1], metrics="none", show_progress=False
    )
    cache = ResultCache(tmp_path / "mteb")
    scores: dict[tuple[str, int], float] = {}
    for layer in (1, 3):
        model: Any = mteb.get_model(tiny_name, layer=1) if layer == 1 else mteb.get_model(tiny_name)
        assert isinstance(model.model, MidLayerEncoder)
        assert isinstance(model.mteb_model_meta, ModelMeta)
        found = mteb.evaluate(model, tiny_tasks(), cache=cache, show_progress_bar=False, co2_tracker=False)
        scores |= {(result.task_name, layer): result.get_score() for result in found.task_results}
    swept = {(task, layer): score for task, layer, score in board.scores.select("task", "layer", "main_score").rows()}
    assert scores == pytest.approx(swept, abs=1e-6)
    assert len({round(score, 6) for score in scores.values()}) > 6
    assert _results(tmp_path / "mteb") == _results(tmp_path / "sweep")


def test_mteb_evaluates_a_model_by_name_that_is_not_loaded_yet(tiny_name: str, tmp_path: Path) -> None:
    meta = mteb.get_model_meta(tiny_name)
    (by_meta,) = mteb.evaluate(meta, TinySTS(), cache=ResultCache(tmp_path), co2_tracker=False).task_results
    (by_model,) = mteb.evaluate(mteb.get_model(tiny_name), TinySTS(), cache=None, co2_tracker=False).task_results
    assert by_meta.get_score() == by_model.get_score()
    assert _results(tmp_path) == {"results/tests__tiny/main/experiments/layer_3/TinySTS.json"}


def _results(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in (folder / "results").rglob("Tiny*.json")}


def test_a_criterion_chooses_by_texts_or_is_refused(tiny_name: str, sentences: list[str]) -> None:
    for name in (tiny_name, PYTHIA):  # neither asks a hub for it
        with pytest.raises(ValueError, match="^selection_texts: layer 'min-dime' needs texts"):
            mteb.get_model(name, layer="min-dime")
    model: Any = mteb.get_model(tiny_name, layer="min-entropy", selection_texts=sentences)
    assert model.mteb_model_meta.experiment_name == f"layer_{model.model.layer}"
