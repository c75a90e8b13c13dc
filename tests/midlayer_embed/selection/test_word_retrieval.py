"""The criteria that search for one view of a text with the other: half-retrieval and drop-retrieval."""

from pathlib import Path

import numpy as np
import pytest

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder, profile_layers, select_layer
from midlayer_embed.cli import main
from midlayer_embed.texts.word_views import dropped, halves


@pytest.fixture(scope="module")
def texts(sentences: list[str]) -> list[str]:
    return [f"{first} {second}" for first in sentences for second in sentences[:5] if first != second]


def _rank(cosines: np.ndarray, own: int) -> float:
    nearer = np.sum(cosines > cosines[own] + 1e-6)
    return float(1 + nearer + (np.sum(np.abs(cosines - cosines[own]) <= 1e-6) - 1) / 2)


def _curve(every: LayerwiseEncoder, pairs: list[tuple[str, str]]) -> np.ndarray:
    """The mean reciprocal rank at every layer, one search at a time."""
    sides = [every.encode(list(side)).astype(np.float64) for side in zip(*pairs, strict=True)]
    units = [side / np.linalg.norm(side, axis=2, keepdims=True) for side in sides]
    found = []
    for layer in range(every.n_layers):
        first, second = (side[:, layer] for side in units)
        ranks = [
            _rank(others @ one[row], row)
            for one, others in ((first, second), (second, first))
            for row in range(len(one))
        ]
        found.append(np.mean(1 / np.array(ranks)))
    return np.array(found)


def _pairs(criterion: str, texts: list[str], seed: int = 0) -> list[tuple[str, str]]:
    found = []
    for text in texts:
        pair = halves(text) if criterion == "half-retrieval" else (dropped(text, 0, seed), dropped(text, 1, seed))
        assert pair is not None and None not in pair
        found.append(pair)
    return found  # type: ignore[return-value]


@pytest.mark.parametrize("criterion", ["half-retrieval", "drop-retrieval"])
@pytest.mark.parametrize("options", [{}, {"template": "eol"}, {"pooling_mode": "lasttoken", "final_norm": False}])
def test_the_curve_is_that_of_single_searches(
    llama_folder: Path, texts: list[str], criterion: str, options: dict[str, object]
) -> None:
    every = LayerwiseEncoder(llama_folder, **options)  # type: ignore[arg-type]
    expected = _curve(every, _pairs(criterion, texts, seed=3))
    chosen = select_layer(llama_folder, texts, criterion, seed=3, n_resamples=4, **options)
    np.testing.assert_allclose(chosen.values, expected, atol=1e-3)
    assert chosen.layer == int(np.argmax(chosen.values))
    assert chosen.profile is not None
    assert chosen.profile.states_of(str(chosen.metric)) == ("raw" if "final_norm" in options else "normed")
    of_encoder = select_layer(every, texts[::-1], criterion, seed=3, n_resamples=4)
    np.testing.assert_array_equal(of_encoder.values, chosen.values)
    encoder = MidLayerEncoder(llama_folder, layer=criterion, selection_texts=texts, seed=3, **options)
    assert encoder.selection is not None
    np.testing.assert_array_equal(encoder.selection.values, chosen.values)


def test_texts_of_one_word_have_no_halves(llama_folder: Path, texts: list[str]) -> None:
    chosen = select_layer(llama_folder, [*texts, "one", "two", " three "], "half-retrieval", n_resamples=0)
    without = select_layer(llama_folder, texts, "half-retrieval", n_resamples=0)
    np.testing.assert_allclose(chosen.values, without.values, atol=1e-3)
    with pytest.raises(ValueError, match="texts: none of 3 is long enough to measure its half_retrieval"):
        select_layer(llama_folder, ["one", "two", "three"], "half-retrieval")
    with pytest.raises(ValueError, match="texts: 1 of 3 is long enough to measure its drop_retrieval"):
        select_layer(llama_folder, ["one", "two", "three four"], "drop-retrieval")


def test_it_is_measured_beside_the_metrics_of_the_paper(llama_folder: Path, texts: list[str], tmp_path: Path) -> None:
    import polars as pl

    both = profile_layers(llama_folder, texts, ["dime", "half_retrieval", "drop_retrieval"])
    for metric, curve in both.values.items():
        alone = profile_layers(llama_folder, texts, [metric])
        np.testing.assert_allclose(curve, alone.values[metric], rtol=1e-3)
    both.to_parquet(tmp_path / "profile.parquet")
    said = pl.read_parquet(tmp_path / "profile.parquet").select("metric", "final_norm").unique()
    assert dict(said.iter_rows()) == {"dime": False, "half_retrieval": True, "drop_retrieval": True}


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("layer", ["half-retrieval"])
def test_the_export_says_how_it_was_chosen(
    llama_folder: Path, texts: list[str], tmp_path: Path, layer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    expected = select_layer(llama_folder, texts, layer).layer
    arguments = ["export", str(llama_folder), str(tmp_path / "out"), "--layer", layer]
    assert main([*arguments, "--texts", str(tmp_path / "texts.txt"), "--quiet"]) == 0
    assert f"layer {expected} of 3 (depth" in capsys.readouterr().out
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"Without labels: {layer} takes the layer where {layer} is highest" in card
    assert f"measured on the normed states of {len(texts)} texts" in card
