"""One record and one function make a metric."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midlayer_embed import LayerwiseEncoder, profile_layers, select_layer
from midlayer_embed.cli import main
from midlayer_embed.selection import criteria
from midlayer_embed.selection.curves import curve_bars, draw_profile, draw_selection, profile_table
from midlayer_embed.selection.measures import MEASURES
from midlayer_embed.terms import METRIC_TABLE, METRICS, Metric, check_metrics, n_views
from midlayer_embed.texts.corpora import sample_texts
from midlayer_embed.texts.views import augmented_views

Add = Callable[[Metric, Callable[..., Any]], None]


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Add:
    """Adds a metric, for one test: one record and one function."""

    def add_metric(metric: Metric, function: Callable[..., Any]) -> None:
        monkeypatch.setitem(METRIC_TABLE, metric.name, metric)
        monkeypatch.setitem(MEASURES, metric.name, function)
        monkeypatch.setattr(criteria, "CRITERIA", criteria.criteria_of(METRIC_TABLE.values()))

    return add_metric


def test_every_metric_has_a_function() -> None:
    assert list(MEASURES) == list(METRIC_TABLE) == list(METRICS)


def test_a_metric_of_vectors(llama_folder: Path, sentences: list[str], add: Add, tmp_path: Path) -> None:
    add(
        Metric("length", "mean length", "vectors", unit="", normalized_by="texts", criteria={"max-length": "max"}),
        lambda vectors, settings: np.linalg.norm(vectors, axis=1).mean(),
    )
    profile = profile_layers(llama_folder, sentences, ["length", "dataset_entropy"], normalizations=["logN"])
    expected = _lengths(llama_folder, sentences)
    np.testing.assert_allclose(profile.values["length"], expected, rtol=1e-5)
    np.testing.assert_allclose(profile.normalized["length", "logN"], expected / np.log(profile.n_texts), rtol=1e-5)
    frame = profile.to_frame().filter(metric="length", normalization="raw")
    assert frame["value"].to_list() == profile.values["length"].tolist()
    assert "length" in profile_table(profile).splitlines()[0]
    draw_profile(profile, tmp_path / "profile.svg")
    with pytest.raises(ValueError, match=r"expected some of prompt_entropy, .*, length, got 'lenght'"):
        check_metrics(["lenght"])

    chosen = select_layer(llama_folder, sentences, "max-length", n_resamples=2)
    assert chosen.layer == int(np.argmax(expected)) and chosen.metric == "length"
    assert "length" in curve_bars(chosen)
    draw_selection(chosen, tmp_path / "selection.svg")
    assert (tmp_path / "selection.svg").exists()


def test_a_metric_of_tokens(llama_folder: Path, sentences: list[str], add: Add) -> None:
    add(
        Metric("tokens", "number of tokens", "tokens", unit="", normalized_by="tokens"),
        lambda states, mask, settings: mask.sum(dim=1).double(),
    )
    every = LayerwiseEncoder(llama_folder, final_norm=False)
    counts = np.array([len(every.backbone.tokenizer(text)["input_ids"]) for text in sentences])
    profile = profile_layers(every, sentences, ["tokens"], normalizations=["logN"])
    np.testing.assert_allclose(profile.values["tokens"], [np.mean(counts)] * 4)
    several = counts[counts > 1]  # ln 1 divides nothing
    np.testing.assert_allclose(profile.normalized["tokens", "logN"], np.full(4, np.mean(several / np.log(several))))


def test_a_metric_of_views(llama_folder: Path, sentences: list[str], add: Add) -> None:
    seen: list[tuple[int, ...]] = []

    def third_view(views: np.ndarray, settings: object) -> float:
        seen.append(views.shape)
        return float(np.linalg.norm(views[2], axis=1).mean())

    add(Metric("third", "third view", "views", n_views=3, bounds_information=True), third_view)
    assert n_views(["third"]) == n_views(["third", "dime"]) == 3
    profile = profile_layers(llama_folder, sentences, ["third", "lidar"])
    every = LayerwiseEncoder(llama_folder, final_norm=False)
    texts = sample_texts(sentences, None, tokenizer=every.backbone.tokenizer)
    expected = _lengths(llama_folder, augmented_views(texts, 3)[2])
    np.testing.assert_allclose(profile.values["third"], expected, rtol=1e-5)
    assert set(seen) == {(3, len(texts), every.dim)}  # its own three of the sixteen views
    np.testing.assert_allclose(profile.normalized["third", "mi_lower_bound"], np.log(len(texts)) - expected, rtol=1e-5)


def test_the_command_line_lists_it(add: Add, capsys: pytest.CaptureFixture[str]) -> None:
    add(Metric("spread", "spread of the vectors", "vectors"), lambda vectors, settings: vectors.std())
    with pytest.raises(SystemExit):
        main(["profile", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert ", spread" in said and "spread of the vectors" in said


def _lengths(folder: Path, texts: Sequence[str]) -> np.ndarray:
    vectors = LayerwiseEncoder(folder, final_norm=False).encode(list(texts))
    return np.asarray(np.linalg.norm(vectors, axis=2).mean(axis=0))
