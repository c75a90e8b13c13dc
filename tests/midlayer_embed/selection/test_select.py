from pathlib import Path

import numpy as np
import pytest

from midlayer_embed import LayerSelection, LayerwiseEncoder, MidLayerEncoder, profile_layers, select_layer
from midlayer_embed.encoder.card import how_chosen
from midlayer_embed.selection.criteria import CRITERIA, selection_summary
from midlayer_embed.selection.curves import curve_bars


@pytest.fixture(scope="module")
def corpus(sentences: list[str]) -> list[str]:
    return [f"{first} {second}" for first in sentences for second in sentences[:3]]


@pytest.mark.parametrize("criterion", CRITERIA)
def test_a_criterion_takes_its_end_of_the_curve(llama_folder: Path, corpus: list[str], criterion: str) -> None:
    found = select_layer(llama_folder, corpus, criterion, n_resamples=3)
    metric, end = CRITERIA[criterion]
    curve = profile_layers(llama_folder, corpus, [metric]).values[metric]
    np.testing.assert_array_equal(found.values, curve)
    worse = {"min": curve, "max": -curve}[end] if isinstance(end, str) else np.abs(curve - end)
    ordered = np.argsort(worse)
    assert (found.layer, found.runner_up) == tuple(ordered[:2])
    assert found.margin == pytest.approx(worse[ordered[1]] - worse[ordered[0]])
    assert found.depth == found.layer / 3
    assert found.profile is not None and found.profile.n_texts == len(corpus)
    assert (found.criterion, found.metric) == (criterion, metric)


def test_a_coin_toss_between_layers_is_not_called_stable(
    llama_folder: Path, corpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from midlayer_embed.selection.layer_states import Representations

    rng = np.random.default_rng(0)

    def noise(self: Representations, metric: str, rows: np.ndarray | None = None, **_: object) -> np.ndarray:
        return rng.standard_normal(len(self.layers))

    monkeypatch.setattr(Representations, "measure", noise)
    found = select_layer(llama_folder, corpus, "min-entropy", n_resamples=200)
    assert found.stability == pytest.approx(1 / 4, abs=0.12)


def test_halves_are_measured_on_half_of_the_texts(
    llama_folder: Path, corpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from midlayer_embed.selection.layer_states import Representations

    seen = []
    measure = Representations.measure

    def recorded(self: Representations, metric: str, rows: np.ndarray | None = None, **_: object) -> np.ndarray:
        seen.append(None if rows is None else tuple(rows))
        return measure(self, metric, rows)

    monkeypatch.setattr(Representations, "measure", recorded)
    select_layer(llama_folder, corpus, "min-dime", n_resamples=4)
    whole, *halves = seen
    assert whole is None
    assert len(set(halves)) == 4
    assert all(len(set(rows)) == len(rows) == len(corpus) // 2 for rows in halves)


def test_the_same_seed_gives_the_same_choice_in_any_order(llama_folder: Path, corpus: list[str]) -> None:
    first = select_layer(llama_folder, corpus, "min-dime", seed=1, n_resamples=3)
    second = select_layer(
        LayerwiseEncoder(llama_folder, final_norm=False), corpus[::-1], "min-dime", seed=1, n_resamples=3
    )
    np.testing.assert_array_equal(first.values, second.values)
    assert (first.layer, first.stability) == (second.layer, second.stability)


def test_the_embeddings_can_be_left_out(make_tied: Path, corpus: list[str]) -> None:
    assert select_layer(make_tied, corpus, "min-entropy", n_resamples=0).layer == 0
    without = select_layer(make_tied, corpus, "min-entropy", layer_zero=False, n_resamples=2)
    assert without.layer == 1
    assert without.runner_up == 2
    assert without.stability == 1.0


@pytest.fixture
def make_tied(monkeypatch: pytest.MonkeyPatch, llama_folder: Path) -> Path:
    """A model whose dataset entropy rises with each layer."""
    from midlayer_embed.selection.layer_states import Representations

    monkeypatch.setattr(Representations, "measure", lambda self, metric, rows=None, **_: np.arange(4.0))
    return llama_folder


@pytest.mark.parametrize(("criterion", "layer"), [("last", 3), ("middle", 2), ("depth:0.3", 1), ("depth:0", 0)])
def test_layers_that_need_no_texts(llama_folder: Path, criterion: str, layer: int) -> None:
    found = select_layer(llama_folder, criterion=criterion)
    assert found == LayerSelection(layer, 4, criterion)
    assert found.values is None and found.profile is None and found.stability is None
    assert select_layer(LayerwiseEncoder(llama_folder), criterion=criterion).layer == layer
    assert MidLayerEncoder(llama_folder, criterion).layer == layer


@pytest.mark.parametrize("criterion", ["min-foo", "depth:1.5", "depth:x", "", "dime", None, 3])
def test_what_is_no_criterion_is_refused_with_those_there_are(llama_folder: Path, criterion: object) -> None:
    with pytest.raises(ValueError, match=r"criterion: expected one of auto, min-dime, .* depth:0.7, got"):
        select_layer(llama_folder, ["a", "b"], criterion)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("texts", "criterion", "message"),
    [
        (None, "min-dime", "texts: criterion 'min-dime' needs texts, got None"),
        (["one"], "min-dime", "texts: .* needs at least two different texts, got 1"),
        (["the same text"] * 30, "min-dime", "texts: .* needs at least two different texts, got 1"),
        (["a first text", "and a second one"], "min-dime", "cannot tell the layers apart: dime is .* at all 4 layers"),
        (["a first text", "and a second one"], "min-entropy", "cannot tell the layers apart: dataset_entropy is 0 at"),
        (["a b", "and a second one"] * 20, "min-entropy", "apart: .* got 2 different texts, pass more"),
        (["a", "b", "c"], "max-curvature", "texts: none of 3 is long enough to measure its curvature"),
        (["a longer text", *"bcde"], "max-curvature", "texts: 1 of 5 is long enough to measure its curvature"),
    ],
)
def test_texts_that_cannot_choose_are_refused(
    llama_folder: Path, texts: list[str] | None, criterion: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        select_layer(llama_folder, texts, criterion)


def test_few_texts_have_no_stability(llama_folder: Path) -> None:
    assert select_layer(llama_folder, ["a text", "another one", "a third"], "min-entropy").stability is None


def test_an_encoder_of_a_criterion_is_that_of_its_layer(
    llama_folder: Path, corpus: list[str], sentences: list[str]
) -> None:
    encoder = MidLayerEncoder(llama_folder, "min-entropy", selection_texts=corpus, seed=2)
    chosen = select_layer(llama_folder, corpus, "min-entropy", seed=2)
    assert encoder.layer == chosen.layer
    assert encoder.selection is not None
    np.testing.assert_allclose(encoder.selection.values, chosen.values, rtol=1e-5)
    np.testing.assert_array_equal(
        encoder.encode(sentences), MidLayerEncoder(llama_folder, chosen.layer).encode(sentences)
    )
    assert MidLayerEncoder(llama_folder, 1).selection is None
    assert MidLayerEncoder(llama_folder, chosen).selection is chosen


def test_an_encoder_of_a_bad_criterion_is_refused(llama_folder: Path) -> None:
    with pytest.raises(
        ValueError, match=r"layer: expected a layer \(17, -1\), a depth \(0.7\) or one of auto, min-dime.*got 'min-foo'"
    ):
        MidLayerEncoder(llama_folder, "min-foo")
    with pytest.raises(ValueError, match="selection_texts: layer 'min-dime' needs texts, got None"):
        MidLayerEncoder(llama_folder, "min-dime")
    with pytest.raises(ValueError, match="layer: chosen for a model of 9 layers; this model has 4"):
        MidLayerEncoder(llama_folder, LayerSelection(4, 9, "middle"))


def test_a_half_that_measures_nothing_picks_nothing(llama_folder: Path) -> None:
    found = select_layer(llama_folder, ["a longer text", "and a text of more words", *"bcde"], "max-curvature")
    assert 0 < found.n_resamples < 20
    assert found.stability == 1.0  # each half that picks has both of the texts that are long enough


def test_a_half_that_cannot_tell_layers_apart_picks_nothing(llama_folder: Path) -> None:
    """Halves of two texts: centred, they are opposite at every layer."""
    found = select_layer(llama_folder, ["a first text", "and a second", "a third", "one more"], "min-entropy")
    assert (found.stability, found.n_resamples) == (None, 0)


def test_a_layer_without_a_value_is_not_chosen(llama_folder: Path, corpus: list[str], make_gap: None) -> None:
    found = select_layer(llama_folder, corpus, "min-entropy", n_resamples=2)
    assert (found.layer, found.runner_up, found.margin) == (2, 1, 1.0)
    assert curve_bars(found).splitlines()[1].split() == ["0", "0.00", "-"]
    assert "nan" not in " ".join(selection_summary(found))


@pytest.fixture
def make_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Metrics that have no value at layer 0."""
    from midlayer_embed.selection.layer_states import Representations

    curve = np.array([np.nan, 2.0, 1.0, 3.0])
    monkeypatch.setattr(Representations, "measure", lambda self, metric, rows=None, **_: curve)


def test_layers_that_tie_for_the_best_are_told(llama_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from midlayer_embed.selection.layer_states import Representations

    curve = np.array([2.0, 1.0, 3.0, 1.0])
    monkeypatch.setattr(Representations, "measure", lambda self, metric, rows=None, **_: curve)
    found = select_layer(llama_folder, ["one text", "two texts", "three"], "min-entropy")
    _, second, _ = selection_summary(found)
    assert second == "runner-up: layer 3, of the same value; the lower one was taken"


@pytest.mark.parametrize(("n_texts", "is_few"), [(5, True), (60, False)])
def test_a_choice_over_few_texts_says_so_on_the_card_too(llama_folder: Path, n_texts: int, is_few: bool) -> None:
    texts = [f"text number {number} of {number % 7}" for number in range(n_texts)] * 2
    encoder = MidLayerEncoder(llama_folder, "min-entropy", selection_texts=texts)
    assert encoder.selection is not None
    told = how_chosen(encoder.selection)
    assert ("few texts: 5 different ones" in told) is is_few
    assert f"over {2 * n_texts} texts, {n_texts} of them different" in told
