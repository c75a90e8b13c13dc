"""The last layer of a sentence-transformers folder in a sweep scores as mteb scores the folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mteb
import pytest
import torch
from mteb.models import SentenceTransformerEncoderWrapper
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize
from support.tiers import slow
from support.tiny_models import save_with_modules
from support.tiny_tasks import TinyPairClassification, TinyReranking, TinySTS, tiny_tasks

from leaderboard import Leaderboard, run_sweep
from leaderboard.models.layer import get_model
from leaderboard.report.card import model_card
from leaderboard.report.layer_record import find_layer
from leaderboard.scoring.score import score
from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.texts.tokens import Prompted

SAID: dict[str, tuple[list[Callable[[int], torch.nn.Module]], dict[str, Any]]] = {
    "cls": ([], {"pooling": "cls"}),
    "wide": ([lambda d: Dense(d, 80), lambda _: Normalize()], {"pooling": ("cls", "mean")}),
    "narrow": (
        [lambda d: Dense(d, 7)],
        {"transformer": {"do_lower_case": True, "max_seq_length": 12}, "truncate_dim": 5},
    ),
    "dot": ([], {"similarity_fn_name": "dot"}),
    "query": ([], {"prompts": {"query": "query: ", "passage": "passage: "}}),
    "names": (
        [],
        {
            "prompts": {"STS": "sts: ", "Reranking-query": "rank: ", "Classification": "sort: ", "other": "mine: "},
            "default_prompt_name": "other",
            "include_prompt": False,
            "pooling": "weightedmean",
        },
    ),
}


def _sweep(folder: Path, results: Path, tasks: Any = None, **options: Any) -> Leaderboard:
    keywords = {"metrics": "none", "layers": [1, -1], "show_progress": False, **options}
    return run_sweep(folder, tasks or tiny_tasks(), results, **keywords)


@pytest.mark.parametrize("said", ["names", *slow(*(said for said in SAID if said != "names"))])
@pytest.mark.filterwarnings("ignore")  # mteb warns about prompts for tasks that it does not know
def test_the_last_layer_scores_as_the_folder_does(tiny_model: Callable[[str], Path], tmp_path: Path, said: str) -> None:
    modules, keywords = SAID[said]
    folder = save_with_modules(tiny_model("bert"), tmp_path / said, *modules, **keywords)
    board = _sweep(folder, tmp_path / "results")
    found = dict(board.scores.filter(layer=3).select("task", "main_score").iter_rows())
    plain = SentenceTransformerEncoderWrapper(SentenceTransformer(str(folder), device="cpu"))
    expected = {}
    for task in tiny_tasks():
        task.load_data()
        expected[task.metadata.name] = score(task, plain).get_score()
    assert found == pytest.approx(expected, abs=1e-6)
    assert len(found) == 6
    # A lower layer is what mteb makes of that layer's MidLayerEncoder.
    below = dict(board.scores.filter(layer=1).select("task", "main_score").iter_rows())
    wrapped = get_model(folder, 1)
    for task in (TinySTS(), TinyReranking()):
        task.load_data()
        assert below[task.metadata.name] == pytest.approx(score(task, wrapped).get_score(), abs=1e-6)


@pytest.mark.process
@pytest.mark.slow
def test_processes_score_with_the_same_prompts_and_similarity(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    keywords = {"prompts": {"query": "query: ", "STS": "sts: "}, "similarity_fn_name": "euclidean"}
    folder = save_with_modules(tiny_model("bert"), tmp_path / "f", lambda d: Dense(d, 40), **keywords)
    tasks = [TinySTS, TinyReranking, TinyPairClassification]
    one = _sweep(folder, tmp_path / "one", [task() for task in tasks])
    two = _sweep(folder, tmp_path / "two", [task() for task in tasks], jobs=2)
    columns = ["task", "layer", "main_score"]
    assert one.scores.select(columns).sort(columns).equals(two.scores.select(columns).sort(columns))


def test_each_text_goes_through_the_model_once_under_each_prompt(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_with_modules(tiny_model("bert"), tmp_path / "f", prompts={"query": "query: ", "document": ""})
    passes: list[list[Any]] = []
    encode = LayerwiseEncoder.pooled_batches

    def spy(self: LayerwiseEncoder, texts: Any, *arguments: Any, **options: Any) -> Any:
        passes.append(list(texts))
        return encode(self, texts, *arguments, **options)

    monkeypatch.setattr(LayerwiseEncoder, "pooled_batches", spy)
    _sweep(folder, tmp_path / "results", [TinyReranking()], on_plan=lambda _: passes.clear() is None)
    (texts,) = passes
    assert len(texts) == len(set(texts)) == 48
    assert sum(isinstance(text, Prompted) and text.prompt == "query: " for text in texts) == 8


def test_metrics_are_measured_under_the_default_prompt(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    prompts = {"STS": "sts: ", "topic": "about it: "}
    named = save_with_modules(tiny_model("bert"), tmp_path / "a", prompts=prompts, default_prompt_name="topic")
    plain = save_with_modules(tiny_model("bert"), tmp_path / "b", prompts={"STS": "about it: "})
    alone = save_with_modules(tiny_model("bert"), tmp_path / "c", prompts={}, default_prompt_name=None)
    values = {}
    for folder in (named, plain, alone):
        board = _sweep(folder, tmp_path / folder.name / "r", [TinySTS()], metrics=["dataset_entropy", "infonce"])
        values[folder.name] = board.metrics.sort("metric", "normalization", "layer")["value"].to_list()
    assert values["b"] == pytest.approx(values["c"], rel=1e-5)  # without a default prompt
    assert values["a"] != pytest.approx(values["b"], rel=1e-3)


def test_names_settings_and_cards_have_the_values_in_force(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = save_with_modules(
        tiny_model("bert"), tmp_path / "f", lambda _: Normalize(), lambda d: Dense(d, 7), pooling="cls"
    )
    results = tmp_path / "results"
    _sweep(folder, results, [TinySTS()])
    own = _sweep(folder, results, [TinySTS()], pooling_mode="cls")  # the same, and finished
    assert [model for model, _ in own.models()] == ["local/f (pooling_mode=cls)"]
    both = _sweep(folder, results, [TinySTS()], pooling_mode="mean")
    assert sorted(model for model, _ in both.models()) == ["local/f", "local/f (pooling_mode=cls)"]
    for model, mode in (("local/f", "mean"), ("local/f (pooling_mode=cls)", "cls")):
        record = find_layer(results, model, -1)
        assert record.dim == 7 and record.provenance["pooling_mode"] == mode
        assert f"| pooling | {mode}, then scaled to length 1, then Dense |" in model_card(results, model, -1)
        card = model_card(results, model, 1)
        assert f"| pooling | {mode}, then scaled to length 1 |" in card and "Dense" in card
        assert record.origin.settings == ({} if mode == "cls" else {"pooling_mode": "mean"})
        again = MidLayerEncoder(folder, -1, **record.origin.settings)
        assert again.recipe.pooling_mode == mode
    found = get_model(folder, -1)
    assert found.mteb_model_meta.experiment_kwargs == {"layer": 3, "pooling_mode": "cls"}


def test_a_last_layer_that_cannot_be_given_is_refused_before_anything_is_written(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = save_with_modules(tiny_model("bert"), tmp_path / "f")
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Own", "type": "my_code.Whitening"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ValueError, match="the last layer of .* which has my_code.Whitening"):
        _sweep(folder, tmp_path / "results", [TinySTS()], layers="all")
    assert not (tmp_path / "results").exists()
    assert _sweep(folder, tmp_path / "results", [TinySTS()], layers=[0, 2]).scores.height == 2


def test_mteb_itself_gives_what_the_sweep_gives(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    folder = save_with_modules(tiny_model("bert"), tmp_path / "f", lambda d: Dense(d, 7), pooling="max")
    task = TinySTS()
    plain = SentenceTransformer(str(folder), device="cpu")
    result = mteb.evaluate(plain, task, cache=None, show_progress_bar=False, co2_tracker=False)
    (found,) = _sweep(folder, tmp_path / "results", [TinySTS()], layers=[-1]).scores["main_score"]
    assert found == pytest.approx(result.task_results[0].get_score(), abs=1e-6)
