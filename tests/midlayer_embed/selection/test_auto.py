"""What "auto" takes: for the model and the texts at hand."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from leaderboard.config_files import read_config
from leaderboard.models.published import Published
from midlayer_embed import LayerwiseEncoder, MidLayerEncoder, select_layer
from midlayer_embed.cli import main
from midlayer_embed.encoder.card import selection_section
from midlayer_embed.models.checkpoint import find_checkpoint
from midlayer_embed.selection.auto import recommended
from midlayer_embed.selection.criteria import GUESS, LEAST_TEXTS, selection_summary
from midlayer_embed.selection.curves import curve_bars
from midlayer_embed.selection.outside import outside_criterion


@pytest.fixture(scope="module")
def texts(sentences: list[str]) -> list[str]:
    found = [f"{one} {two} {three}" for one in sentences for two in sentences for three in sentences[:4] if one != two]
    return found[: LEAST_TEXTS + 5]


def test_texts_enough_are_searched_for_by_halves_and_by_copies(llama_folder: Path, texts: list[str]) -> None:
    assert len(texts) >= LEAST_TEXTS
    chosen = select_layer(llama_folder, texts, n_resamples=4)
    expected = select_layer(llama_folder, texts, "half-and-drop", n_resamples=4)
    assert (chosen.layer, chosen.criterion) == (expected.layer, "half-and-drop")
    np.testing.assert_array_equal(chosen.values, expected.values)
    assert chosen.reason == f"auto: {len(texts)} texts of two words or more, which search for views of each other"
    assert selection_summary(chosen)[1] == chosen.reason
    encoder = MidLayerEncoder(llama_folder, layer="auto", selection_texts=texts)
    assert encoder.layer == expected.layer
    assert encoder.selection is not None and encoder.selection.reason == chosen.reason


def test_only_the_texts_that_are_measured_count(llama_folder: Path, texts: list[str]) -> None:
    chosen = select_layer(llama_folder, texts, max_texts=30)
    assert chosen.criterion == GUESS and chosen.reason is not None
    assert chosen.reason.startswith("auto: 30 different texts of two words or more are too few")


@pytest.mark.parametrize(
    ("few", "said"),
    [
        (None, "no texts were given"),
        (["two words", "two words", "one"], "1 different texts of two words or more are too few"),
    ],
)
def test_without_texts_it_takes_what_is_known_of_the_model(
    llama_folder: Path, few: list[str] | None, said: str
) -> None:
    found = find_checkpoint(llama_folder)
    unknown = f"'published' knows no scores of {found.name}, revision main"
    assert recommended(found, few) == (GUESS, f"auto: {said}, and {unknown}")
    known = replace(found, hub_id="EleutherAI/pythia-410m", name="EleutherAI/pythia-410m")
    assert recommended(known, few) == ("published", f"auto: {said}")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"template": "echo"}, "plain texts, not of template 'echo'"),
        ({"template": "a {text}", "pooling_mode": "mean"}, "plain texts, not of template 'a {text}'"),
        ({"pooling_mode": "lasttoken"}, "mean pooling, not of lasttoken pooling"),
        ({"final_norm": False}, "normed states, not of raw states"),
    ],
)
def test_published_scores_say_nothing_about_other_vectors(
    llama_folder: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str
) -> None:
    recipe = read_config("published", "layer-by-layer")["recipe"]
    scores = Published("org/tiny", "main", 1, n_blocks=3, n_tasks=2, best=50, last=40, source="a paper", recipe=recipe)
    monkeypatch.setattr("leaderboard.criteria.published_layers", lambda: {("org/tiny", "main"): scores})
    found = replace(find_checkpoint(llama_folder), hub_id="org/tiny", name="org/tiny")
    known = [MidLayerEncoder(found, layer="auto", pooling_mode="mean"), MidLayerEncoder(found, layer="auto")]
    other = MidLayerEncoder(found, layer="auto", **options)
    assert [encoder.selection.criterion for encoder in (*known, other) if encoder.selection is not None] == [
        *["published"] * 2,
        GUESS,
    ]
    assert other.selection is not None
    assert other.selection.reason == f"auto: no texts were given, and the published scores of org/tiny are of {said}"
    every = LayerwiseEncoder(found, **options)
    assert select_layer(every).reason == select_layer(found, **options).reason == other.selection.reason
    for model, given in ((found, options), (every, {})):
        with pytest.raises(ValueError, match="^criterion: the published scores of org/tiny are of"):
            select_layer(model, criterion="published", **given)


def test_a_published_layer_that_may_not_be_chosen_is_not_taken(llama_folder: Path) -> None:
    found = replace(find_checkpoint(llama_folder), hub_id="EleutherAI/pythia-14m", name="EleutherAI/pythia-14m")
    assert recommended(found, None)[0] == "published"  # layer 0
    assert select_layer(found, layer_zero=False).criterion == GUESS


def test_a_model_that_was_trained_to_embed_is_taken_as_it_is(llama_folder: Path, texts: list[str]) -> None:
    found = find_checkpoint(llama_folder)
    trained = replace(found, own=replace(found.own, is_sentence_transformer=True))
    for given in (None, texts):
        criterion, reason = recommended(trained, given)
        assert criterion == "last" and reason.startswith("auto: a sentence-transformers model")


def test_an_encoder_needs_no_texts_for_auto(llama_folder: Path) -> None:
    encoder = MidLayerEncoder(llama_folder, layer="auto")
    assert encoder.layer == select_layer(llama_folder).layer == select_layer(llama_folder, criterion=GUESS).layer
    assert encoder.selection is not None and encoder.selection.criterion == GUESS


def test_select_takes_auto_by_default(llama_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["select", str(llama_folder), "--quiet"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"layer 2 of 3 (depth 0.67), by {GUESS}"
    assert second == "auto: no texts were given, and 'published' knows no scores of local/tiny-llama, revision main"


@pytest.mark.parametrize("layer_zero", [True, False])
def test_half_and_drop_is_the_highest_geometric_mean(llama_folder: Path, texts: list[str], layer_zero: bool) -> None:
    chosen = select_layer(llama_folder, texts[:40], "half-and-drop", n_resamples=0, layer_zero=layer_zero)
    curves = []
    for criterion in ("half-retrieval", "drop-retrieval"):
        curve = select_layer(llama_folder, texts[:40], criterion, n_resamples=0).values
        assert curve is not None
        curves.append(curve.tolist())
    means = [math.sqrt(half * drop) for half, drop in zip(*curves, strict=True)]
    assert chosen.layer == max(range(0 if layer_zero else 1, len(means)), key=means.__getitem__)
    assert chosen.values is not None and chosen.margin is not None and chosen.margin >= 0
    np.testing.assert_allclose(chosen.values, means, rtol=1e-6)
    assert chosen.title == "geometric mean of half-retrieval and drop-retrieval" and chosen.metric is None
    assert "geometric mean" in curve_bars(chosen).splitlines()[0]
    encoder = MidLayerEncoder(llama_folder, layer=chosen)
    said = selection_section(chosen, None)
    assert "takes the layer where geometric mean of half-retrieval and drop-retrieval is highest" in said
    assert encoder.layer == chosen.layer


def test_a_choice_that_halves_do_not_repeat_is_called_unsure(llama_folder: Path, texts: list[str]) -> None:
    chosen = select_layer(llama_folder, texts, n_resamples=0)
    shaky = replace(chosen, stability=0.25, n_resamples=4, picks=(0, 3, 1, chosen.layer))
    assert selection_summary(shaky)[-1] == "unsure: the halves pick layers 0 to 3; these texts do not tell them apart"
    sure = replace(chosen, stability=0.75, n_resamples=4, picks=(0, *[chosen.layer] * 3))
    assert not any(line.startswith("unsure") for line in selection_summary(sure))


def test_a_criterion_of_a_package_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert outside_criterion("proxy").__module__ == "leaderboard.criteria"
    monkeypatch.setattr("midlayer_embed.selection.outside.entry_points", lambda **_: [])
    with pytest.raises(ValueError, match=r"'proxy' needs the leaderboard; run: pip install 'midlayer-embed"):
        outside_criterion("proxy")
