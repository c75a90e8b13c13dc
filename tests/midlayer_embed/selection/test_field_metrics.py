"""Metrics of other papers over every layer, and what counts if the first token of a text does not."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from support.tiny_models import plain_token_states

from midlayer_embed import LayerwiseEncoder, metrics, profile_layers, select_layer
from midlayer_embed.cli import main
from midlayer_embed.selection.measures import MetricSettings
from midlayer_embed.selection.representations import MetricRequest, PassOptions, build_representations
from midlayer_embed.terms import METRIC_TABLE, METRICS
from midlayer_embed.texts.corpora import sample_texts
from midlayer_embed.texts.views import augmented_views

_OF_VECTORS = ["two_nn", "isotropy", "alpha_req", "uniformity"]
_FIELD = [*_OF_VECTORS, "agreement", "sink"]


@pytest.fixture(scope="module")
def corpus(sentences: list[str]) -> list[str]:
    return [f"{first} {second}" for first in sentences for second in sentences[:3]]


def _token_states(folder: Path, texts: list[str], first: int = 0) -> list[list[np.ndarray]]:
    """The raw token states of each text at each layer, without the first ones."""
    return [[states[first:].numpy() for states in plain_token_states(folder, text)] for text in texts]


def test_they_are_the_metrics_of_the_pooled_vectors(llama_folder: Path, corpus: list[str]) -> None:
    found = profile_layers(llama_folder, corpus, _FIELD).values
    states = _token_states(llama_folder, corpus)
    vectors = np.array([[tokens.mean(axis=0) for tokens in of_text] for of_text in states]).swapaxes(0, 1)
    for name in _OF_VECTORS:
        np.testing.assert_allclose(found[name], getattr(metrics, name)(vectors), rtol=1e-3, err_msg=name)
    sinks = np.mean([[float(metrics.sink(tokens)) for tokens in of_text] for of_text in states], axis=0)
    np.testing.assert_allclose(found["sink"], sinks, rtol=1e-4)
    low, middle, high = (float(metrics.neighbour_agreement(vectors[k], vectors[k + 1])) for k in range(3))
    expected = [low, (low + middle) / 2, (middle + high) / 2, high]
    np.testing.assert_allclose(found["agreement"], expected, rtol=1e-3)


@pytest.mark.parametrize("layers", [[0, 3], [2], [3, 1]], ids=str)
def test_some_layers_have_the_values_that_they_have_among_all(
    llama_raw: LayerwiseEncoder, corpus: list[str], layers: list[int]
) -> None:
    expected = profile_layers(llama_raw, corpus, _FIELD).values
    texts = sample_texts(corpus, None, tokenizer=llama_raw.backbone.tokenizer)
    request = MetricRequest(_FIELD, layers, False, MetricSettings())
    with build_representations(llama_raw, texts, request, PassOptions()) as representations:
        for name in _FIELD:
            np.testing.assert_allclose(representations.measure(name), expected[name][layers], rtol=1e-6, err_msg=name)
        half = np.arange(0, len(texts), 2)
        assert representations.measure("agreement", half).shape == (len(layers),)


@pytest.mark.parametrize("texts", [["one text alone"], ["the same text"] * 3, ["a b c"] * 2 + ["d e f"]], ids=str)
def test_few_and_equal_texts_are_no_crash(llama_folder: Path, texts: list[str]) -> None:
    found = profile_layers(llama_folder, texts, METRICS).values
    assert list(found) == list(METRICS)
    for name in ("isotropy", "uniformity"):
        assert np.isfinite(found[name]).all(), name
    if len(set(texts)) == 1:
        assert (found["isotropy"] == 0).all() and np.isnan(found["alpha_req"]).all()
        np.testing.assert_allclose(found["uniformity"], 0, atol=1e-9)
    assert np.isnan(found["two_nn"]).all()


def test_states_that_are_not_finite_are_told_with_both_layers(llama_folder: Path, corpus: list[str]) -> None:
    import torch

    every = LayerwiseEncoder(llama_folder)
    with torch.no_grad():
        every.backbone.blocks[1].mlp.down_proj.weight.fill_(float("nan"))
    with pytest.raises(ValueError, match="agreement of layers 1 and 2: B: holds NaN or infinity"):
        profile_layers(every, corpus, ["agreement"])


def test_without_the_first_token(llama_folder: Path, corpus: list[str]) -> None:
    names = ["prompt_entropy", "curvature", "dataset_entropy", "infonce", "half_retrieval", "two_nn", "sink"]
    found = profile_layers(llama_folder, corpus, names, first_token=False)
    plain = profile_layers(llama_folder, corpus, names)
    states = _token_states(llama_folder, corpus, first=1)
    for name in ("prompt_entropy", "curvature"):
        function = getattr(metrics, name)
        expected = np.mean([[float(function(tokens)) for tokens in of_text] for of_text in states], axis=0)
        np.testing.assert_allclose(found.values[name], expected, rtol=1e-4, err_msg=name)
    shares = [float(metrics.prompt_entropy(of_text[1], normalization="logN")) for of_text in states]
    assert found.normalized["prompt_entropy", "logN"][1] == pytest.approx(np.mean(shares), rel=1e-4)

    def pooled(texts: list[str]) -> np.ndarray:
        of_texts = _token_states(llama_folder, texts, first=1)
        return np.array([[tokens.mean(axis=0) for tokens in of_text] for of_text in of_texts]).swapaxes(0, 1)

    vectors = pooled(corpus)
    np.testing.assert_allclose(found.values["dataset_entropy"], metrics.dataset_entropy(vectors), rtol=1e-4)
    np.testing.assert_allclose(found.values["two_nn"], metrics.two_nn(vectors), rtol=1e-3)
    every = LayerwiseEncoder(llama_folder, final_norm=False)
    texts = sample_texts(corpus, None, tokenizer=every.backbone.tokenizer)
    first, second = (pooled(view) for view in augmented_views(texts, 2))
    np.testing.assert_allclose(found.values["infonce"], metrics.infonce(first, second), rtol=1e-3)

    np.testing.assert_array_equal(found.values["sink"], plain.values["sink"])  # which is about the first token
    for name in names[:-1]:
        assert np.abs(found.values[name] - plain.values[name]).max() > 1e-4, name


def test_texts_of_one_token_are_left_out_without_the_first(llama_folder: Path, corpus: list[str]) -> None:
    found = profile_layers(llama_folder, [*corpus, "a", "b"], ["dataset_entropy"], first_token=False)
    expected = profile_layers(llama_folder, corpus, ["dataset_entropy"], first_token=False)
    assert found.n_texts == len(corpus)
    np.testing.assert_array_equal(found.values["dataset_entropy"], expected.values["dataset_entropy"])
    with pytest.raises(ValueError, match="usable text, got 2, all blank or shorter than 2 tokens"):
        profile_layers(llama_folder, ["a", "b"], ["dataset_entropy"], first_token=False)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [({"first_token": "no"}, "^first_token: "), ({"first_token": False, "min_tokens": "x"}, "^min_tokens: ")],
)
def test_mistakes_are_named(llama_folder: Path, corpus: list[str], keywords: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        profile_layers(llama_folder, corpus, ["sink"], **keywords)


def test_a_choice_without_the_first_token(llama_folder: Path, corpus: list[str]) -> None:
    chosen = select_layer(llama_folder, corpus, "max-rankme", n_resamples=2, first_token=False)
    curve = profile_layers(llama_folder, corpus, ["effective_rank"], first_token=False).values["effective_rank"]
    assert chosen.layer == int(np.argmax(curve))
    assert chosen.profile is not None and not chosen.profile.settings.first_token


@pytest.mark.parametrize(("criterion", "metric"), [("min-id", "two_nn"), ("max-id", "two_nn")])
def test_too_few_texts_for_a_criterion_are_told(llama_folder: Path, criterion: str, metric: str) -> None:
    with pytest.raises(ValueError, match=f"texts: expected more different texts to measure {metric}, got 2"):
        select_layer(llama_folder, ["one text", "another text"] * 3, criterion)


def test_the_command_says_and_writes_it(
    llama_folder: Path, corpus: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(corpus))
    command = ["profile", str(llama_folder), "--texts", str(tmp_path / "texts.txt"), "--metrics", *_FIELD]
    assert main([*command, "--no-first-token", "--out", str(tmp_path / "out"), "--quiet"]) == 0
    capsys.readouterr()
    frame = pl.read_parquet(tmp_path / "out/profile.parquet")
    assert frame["first_token"].unique().to_list() == [False]
    expected = profile_layers(llama_folder, corpus, ["isotropy"], first_token=False).values["isotropy"]
    np.testing.assert_allclose(frame.filter(metric="isotropy")["value"].to_numpy(), expected)
    assert set(frame["metric"]) == set(_FIELD)
    with pytest.raises(SystemExit):
        main(["profile", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert all(METRIC_TABLE[name].label in said for name in _FIELD)
    assert "Of models that add no BOS token it is the text's first word" in said
