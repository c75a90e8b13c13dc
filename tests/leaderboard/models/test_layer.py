"""A layer of a model for mteb, by name or folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mteb
import pytest
from mteb.cache import ResultCache
from support.tiny_tasks import TinySTS

from leaderboard import get_model, load_results, run_sweep
from leaderboard.models.known import KnownModel
from leaderboard.models.labels import DEFAULT_SETTINGS
from leaderboard.models.meta import layer_meta
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.options import Source

LLM2VEC = "McGill-NLP/LLM2Vec-Meta-Llama-3-8B-Instruct-mntp"


def test_a_folder_has_a_name_a_revision_and_an_experiment(llama_folder: Path) -> None:
    expected = layer_meta(find_checkpoint(llama_folder), 2, DEFAULT_SETTINGS)
    for layer in (2, -2, 0.67):
        meta = get_model(llama_folder, layer=layer).mteb_model_meta
        assert meta == expected
        assert (meta.name, meta.experiment_name) == ("local/tiny-llama", "layer_2")
    assert get_model(llama_folder).mteb_model_meta.experiment_name == "layer_3"


def test_settings_that_are_not_the_default_are_an_experiment_of_their_own(llama_folder: Path) -> None:
    settings = {"final_norm": False, "pooling_mode": "cls", "max_seq_length": 7, "dtype": "float64"}
    plain, other = get_model(llama_folder, 1), get_model(llama_folder, 1, **settings)  # type: ignore[arg-type]
    assert other.mteb_model_meta == layer_meta(find_checkpoint(llama_folder), 1, settings)
    assert other.mteb_model_meta.experiment_name != plain.mteb_model_meta.experiment_name
    assert other.model.max_seq_length == 7


def test_what_the_config_says_of_a_model_holds(
    llama_folder: Path, make_adapter: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapters = (str(make_adapter(llama_folder, seed=1)), str(make_adapter(llama_folder, seed=2)))
    known = KnownModel(LLM2VEC, 3, 32, base=str(llama_folder), bidirectional=True, adapters=adapters)
    monkeypatch.setattr("leaderboard.models.known.known_models", lambda: {LLM2VEC: known})
    found = get_model(LLM2VEC, layer=1).mteb_model_meta
    expected = find_checkpoint(llama_folder, Source(bidirectional=True, adapters=adapters))
    assert (found.name, found.revision) == (expected.name, expected.revision)
    board = run_sweep(LLM2VEC, [TinySTS()], tmp_path, layers=[1], metrics="none", show_progress=False)
    assert board.models() == [(expected.name, expected.revision)]
    with pytest.raises(ValueError, match="expected a commit or a revision of .* such as main, got 'step1'$"):
        get_model(LLM2VEC, revision="step1")


def test_what_mteb_left_in_a_folder_does_not_keep_a_sweep_from_its_work(llama_folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"cache": ResultCache(tmp_path), "show_progress_bar": False, "co2_tracker": False}
    (alone,) = mteb.evaluate(get_model(llama_folder, 1), TinySTS(), **options).task_results
    assert load_results(tmp_path).scores.is_empty()
    board = run_sweep(llama_folder, [TinySTS()], tmp_path, metrics="none", show_progress=False)
    assert board.scores["layer"].to_list() == [0, 1, 2, 3]
    assert board.scores["main_score"][1] == pytest.approx(alone.get_score(), abs=1e-6)
