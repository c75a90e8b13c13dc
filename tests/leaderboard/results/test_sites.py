"""Sweeps of a site within blocks: scored, stored and shown beside the layers, as a model of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import polars as pl
import pytest
from mteb.cache import ResultCache
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.model_meta import ModelMeta
from support.oracles.blocks import PlainSites
from support.tiers import slow
from support.tiny_tasks import TinyClassification, TinySTS
from transformers import AutoTokenizer

from leaderboard import Leaderboard, get_model, load_results, run_sweep
from leaderboard.cli.program import main
from leaderboard.report.layer_record import find_layer
from leaderboard.scoring.columns import texts_in
from midlayer_embed import LayerwiseEncoder, profile_layers
from midlayer_embed.errors import InputError

_QUIET: dict[str, Any] = {"cache": None, "show_progress_bar": False, "co2_tracker": False}


def _sweep(model: Any, results: Path, tasks: Any = None, **options: Any) -> Leaderboard:
    given = {"metrics": ["dataset_entropy"], "show_progress": False, **options}
    return run_sweep(model, tasks or [TinySTS()], results, **given)


class _Plain(AbsEncoder):
    """The vectors of a site of one block, one text at a time, without any code of ours."""

    mteb_model_meta = ModelMeta.create_empty({"name": "tests/plain", "revision": "1"})

    def __init__(self, folder: Path, site: str, layer: int) -> None:
        self._plain, self._site, self._layer = PlainSites(folder), site, layer
        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(self, inputs: Any, **_kwargs: Any) -> np.ndarray:
        return np.concatenate([self._vector(text) for text in texts_in(inputs)])

    def _vector(self, text: str) -> np.ndarray:
        tokens = self._tokenizer(text, return_tensors="pt")
        blocks = self._plain.means(tokens["input_ids"], tokens["attention_mask"], final_norm=True)
        return blocks[self._layer - 1][self._site].numpy()


@pytest.mark.parametrize(
    ("name", "site"),
    [
        ("llama", "attn_out"),
        *slow(("llama", "resid_mid"), ("gpt_neox", "mlp_out"), ("bert", "attn_out"), ("mamba", "mixer_out")),
    ],
)
def test_scores_of_a_site_equal_mteb_on_its_plain_vectors(
    tiny_model: Callable[[str], Path], tmp_path: Path, name: str, site: str
) -> None:
    folder = tiny_model(name)
    classes = [TinySTS, TinyClassification] if name == "llama" else [TinySTS]
    board = _sweep(folder, tmp_path, [task() for task in classes], site=site, metrics="none")
    found = {(task, layer): score for task, layer, score in board.scores.select("task", "layer", "main_score").rows()}
    assert sorted({layer for _, layer in found}) == [1, 2, 3]
    for layer in (1, 2, 3):
        for task in (task() for task in classes):
            result = mteb.evaluate(_Plain(folder, site, layer), task, **_QUIET).task_results[0]
            assert found[task.metadata.name, layer] == pytest.approx(result.get_score(), abs=1e-6), layer
    assert len({round(score, 6) for score in found.values()}) == len(found)


@pytest.fixture(scope="module")
def both(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of the layers of a model, and of one of its sites."""
    results = tmp_path_factory.mktemp("results")
    _sweep(llama_folder, results)
    _sweep(llama_folder, results, site="mlp_out")
    return results


_LAYERS, _SITE = "local/tiny-llama", "local/tiny-llama (site=mlp_out)"


def test_a_site_lies_beside_the_layers_as_a_model_of_its_own(llama_folder: Path, both: Path) -> None:
    board = load_results(both)
    layers = {model: frame["layer"].to_list() for (model,), frame in board.scores.group_by("model")}
    assert layers == {_LAYERS: [0, 1, 2, 3], _SITE: [1, 2, 3]}
    experiments = sorted(path.name for path in both.rglob("experiments/*") if path.is_dir())
    assert [name for name in experiments if name.startswith("layer_") and "site" in name] == [
        f"layer_{k}__site_mlp_out" for k in (1, 2, 3)
    ]
    assert set(board.metrics["model"]) == {_LAYERS, _SITE}
    # depths are those of the layers: block 3 of 3 is the last
    depths = board.scores.filter(pl.col("layer") == 3).select("model", "depth")
    assert depths["depth"].to_list() == [1.0, 1.0]


def test_metrics_of_a_site_are_measured_there(llama_folder: Path, both: Path) -> None:
    task = TinySTS()
    task.load_data()
    data = task.dataset["default"]["test"] if "default" in task.dataset else task.dataset["test"]
    texts = sorted({text for column in ("sentence1", "sentence2") for text in data[column]})
    board = load_results(both)
    for model, site in ((_LAYERS, "resid_post"), (_SITE, "mlp_out")):
        expected = profile_layers(llama_folder, texts, ["dataset_entropy"], site=site).values["dataset_entropy"]
        rows = board.metrics.filter(model=model, metric="dataset_entropy", normalization="raw").sort("layer")
        np.testing.assert_allclose(rows["value"], expected[int(site == "mlp_out") :], rtol=1e-4)


def test_a_rerun_of_a_site_computes_nothing(llama_folder: Path, both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def must_not_run(*_args: Any, **_keywords: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("leaderboard.sweep.model.OnePassEncoder.from_checkpoint", must_not_run)
    monkeypatch.setattr("leaderboard.scoring.score.mteb.evaluate", must_not_run)
    before = {path: path.stat().st_mtime_ns for path in both.rglob("*")}
    _sweep(llama_folder, both, site="mlp_out")
    assert {path: path.stat().st_mtime_ns for path in both.rglob("*")} == before


def test_an_encoder_of_a_site_is_swept_at_its_site(llama_folder: Path, both: Path, tmp_path: Path) -> None:
    board = _sweep(LayerwiseEncoder(llama_folder, site="mlp_out"), tmp_path, layers=[-1])
    expected = load_results(both).scores.filter(pl.col("model") == _SITE, pl.col("layer") == 3)
    assert board.scores.equals(expected)


def test_transforms_and_templates_of_a_site(llama_folder: Path, tmp_path: Path) -> None:
    recipes: dict[str, Any] = {"templates": [None, "echo"], "transforms": ["none", "standardize"], "layers": [2]}
    board = _sweep(llama_folder, tmp_path, site="attn_out", transform_texts="task", metrics="none", **recipes)
    assert board.scores.height == 4
    assert set(board.scores["model"]) == {f"{_LAYERS} (site=attn_out)"}


def test_mteb_reads_and_writes_where_a_sweep_does(llama_folder: Path, both: Path, tmp_path: Path) -> None:
    model = get_model(llama_folder, layer=2, site="mlp_out")
    swept = load_results(both).scores.filter(pl.col("model") == _SITE, pl.col("layer") == 2)
    (result,) = mteb.evaluate(model, TinySTS(), **{**_QUIET, "cache": ResultCache(tmp_path)}).task_results
    assert result.get_score() == pytest.approx(swept["main_score"][0], abs=1e-6)
    (written,) = tmp_path.rglob("TinySTS.json")
    (there,) = both.rglob("layer_2__site_mlp_out/TinySTS.json")
    assert written.parent.name == there.parent.name


@pytest.mark.parametrize("layers", [[0], [1, 0], [-4], [0.0]])
def test_layer_0_has_no_site(llama_folder: Path, tmp_path: Path, layers: list[float]) -> None:
    with pytest.raises(
        InputError, match="^layer: 0 is what enters block 1 and has no mlp_out; expected a layer from 1"
    ):
        _sweep(llama_folder, tmp_path / "results", site="mlp_out", layers=layers)
    assert not list(tmp_path.iterdir())


def test_mistakes_on_the_command_line_are_one_line(
    llama_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["run", str(llama_folder), "--tasks", "StarterSTS", "--results", str(tmp_path / "results"), "--site"]
    for given, message in (
        (["mlp_out", "--layers", "0"], "layer: 0 is what enters block 1 and has no mlp_out"),
        (["mlp"], "site: expected one of resid_pre"),
        (["mixer_out"], "site: this llama model has no mixer_out"),
    ):
        assert main([*run, *given]) == 2
        err = capsys.readouterr().err
        assert message in err and len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_page_says_how_to_encode_at_a_site_and_nothing_of_an_export(both: Path, tmp_path: Path) -> None:
    board = load_results(both)
    board.to_html(tmp_path / "index.html")
    page = (tmp_path / "index.html").read_text()
    assert _SITE in page
    assert 'site=\\"mlp_out\\")' in page
    encode = "midlayer-embed encode path/to/tiny-llama --layer 2 --site mlp_out --input texts.txt --output vectors.npy"
    assert encode in page
    assert not any("--site" in line for line in page.split('"') if line.startswith("midlayer-embed export"))
    assert _SITE in board.to_markdown()


def test_regrets_are_those_of_layers(llama_folder: Path, both: Path, tmp_path: Path) -> None:
    _sweep(llama_folder, tmp_path)
    assert load_results(both).regret().equals(load_results(tmp_path).regret())
    assert load_results(both).regret(_SITE)["regret"].null_count() == load_results(both).regret(_SITE).height


def test_a_site_has_no_card(both: Path) -> None:
    assert find_layer(both, _LAYERS, 2).layer == 2
    with pytest.raises(InputError, match=r"^site: only a layer \(resid_post\) can be the subject of a card, because"):
        find_layer(both, _SITE, 2)
