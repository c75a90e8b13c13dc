"""S_alpha over alpha: of power laws, which are known, and of the layers of tiny models, held against passes of old."""

import math
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import plain_metrics
from support.architectures import FAMILIES, SENTENCES
from transformers import AutoModel, AutoTokenizer

from leaderboard.experiments.alpha import ALPHAS, alpha_curves, draw_alpha_curves, summary_alpha_curves
from leaderboard.report.figures import save_figure
from midlayer_embed import LayerwiseEncoder, metrics, profile_layers
from midlayer_embed.errors import InputError

_QUICK = settings(max_examples=40, deadline=None)
_LLM2VEC = "llm2vec"


def _values(table: pl.DataFrame, **where: object) -> np.ndarray:
    return table.filter(**where).sort("alpha")["value"].to_numpy()


# --- Power laws


@_QUICK
@given(
    st.lists(st.floats(0, 5), min_size=1, max_size=4, unique=True),
    st.lists(st.floats(0.05, 30), min_size=1, max_size=5, unique=True),
    st.integers(1, 60),
)
def test_power_laws_are_those_of_the_plain_formula(betas: list[float], alphas: list[float], n: int) -> None:
    table = alpha_curves(betas=betas, alphas=alphas, n_eigenvalues=n)
    assert len(table) == len(betas) * len(alphas)
    for beta, alpha, value in table.select("beta", "alpha", "value").iter_rows():
        total = math.fsum(k**-beta for k in range(1, n + 1))
        shares = [k**-beta / total for k in range(1, n + 1)]
        near_one = abs(alpha - 1) < 1e-4  # where the plain formula cancels
        assert near_one or value == pytest.approx(plain_metrics.renyi(shares, alpha), rel=1e-8, abs=1e-8)


@_QUICK
@given(st.lists(st.floats(0.05, 30), min_size=2, max_size=6, unique=True), st.floats(0, 5), st.integers(1, 200))
def test_a_power_law_does_not_rise_with_alpha_and_not_with_beta(alphas: list[float], beta: float, n: int) -> None:
    table = alpha_curves(betas=[beta, beta + 0.5], alphas=alphas, n_eigenvalues=n)
    lower, steeper = _values(table, beta=beta), _values(table, beta=beta + 0.5)
    assert (np.diff(lower) <= 1e-9).all()
    assert (np.diff(steeper) <= 1e-9).all()
    assert (steeper <= lower + 1e-9).all()  # it majorises the other
    assert ((lower >= 0) & (lower <= math.log(n) + 1e-9)).all()


@pytest.mark.parametrize("n", [1, 2, 1000])
def test_a_flat_spectrum_has_the_log_of_its_number_at_every_order(n: int) -> None:
    np.testing.assert_allclose(alpha_curves(betas=[0], n_eigenvalues=n)["value"], math.log(n), atol=1e-12)


def test_a_number_stands_for_a_list_of_one() -> None:
    assert alpha_curves(alphas=2, betas=1).equals(alpha_curves(alphas=[2], betas=[1.0]))


@pytest.mark.parametrize("beta", [0.0, 1.0, 3.0])
def test_order_1_is_the_limit_from_both_sides(beta: float) -> None:
    below, at, above = _values(alpha_curves(betas=[beta], alphas=[1 - 1e-7, 1, 1 + 1e-7]))
    assert below == pytest.approx(at, abs=1e-6)
    assert above == pytest.approx(at, abs=1e-6)


def test_low_orders_count_the_eigenvalues_and_high_ones_see_the_largest() -> None:
    few, many = _values(alpha_curves(betas=[1], alphas=[1e-6, 1e6], n_eigenvalues=50))
    assert few == pytest.approx(math.log(50), abs=1e-4)
    assert many == pytest.approx(math.log(sum(1 / k for k in range(1, 51))), abs=1e-4)


# --- Layers


@pytest.fixture(params=[*FAMILIES, _LLM2VEC])
def encoder(
    request: pytest.FixtureRequest, tiny_model: Callable[[str], Path], make_adapter: Callable[..., Path]
) -> LayerwiseEncoder:
    """One tiny model after the other; the last one is bidirectional with an adapter, as LLM2Vec."""
    if request.param != _LLM2VEC:
        return LayerwiseEncoder(tiny_model(request.param), final_norm=False)
    folder = tiny_model("llama")
    return LayerwiseEncoder(folder, final_norm=False, bidirectional=True, adapters=[make_adapter(folder)])


_ALPHAS = (0.3, 0.5, 0.999, 1.0, 1.5, 2.0, 5.0)


def test_layers_are_measured_as_order_by_order(encoder: LayerwiseEncoder) -> None:
    """In one pass what `profile_layers` takes a pass each for."""
    table = alpha_curves(encoder, SENTENCES, alphas=_ALPHAS, betas=[])
    assert len(table) == 2 * len(_ALPHAS) * encoder.n_layers
    for alpha in _ALPHAS:
        profile = profile_layers(encoder, SENTENCES, ["prompt_entropy", "dataset_entropy"], alpha=alpha)
        for metric, expected in profile.values.items():
            found = table.filter(alpha=alpha, metric=metric).sort("layer")
            np.testing.assert_allclose(found["value"], expected, rtol=0, atol=1e-9)
            np.testing.assert_allclose(found["depth"], np.linspace(0, 1, encoder.n_layers))


def test_a_grid_takes_one_pass(encoder: LayerwiseEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths: list[int] = []
    forward = encoder.backbone.model.forward
    monkeypatch.setattr(
        encoder.backbone.model,
        "forward",
        lambda *args, **keywords: lengths.append(len(keywords["input_ids"])) or forward(*args, **keywords),
    )
    alpha_curves(encoder, [*SENTENCES, *SENTENCES], alphas=_ALPHAS)
    assert sum(lengths) == len(SENTENCES)  # each distinct text once


def test_prompt_entropy_is_the_matrix_entropy_of_the_states_that_transformers_gives(llama_folder: Path) -> None:
    """The whole way by hand, for one text: states of the stock model, centred, of length 1, in float64."""
    text = SENTENCES[4]
    ids = AutoTokenizer.from_pretrained(llama_folder)(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        states = AutoModel.from_pretrained(llama_folder)(ids, output_hidden_states=True).hidden_states[2][0]
    Z = plain_metrics.centred_unit(states.double().numpy())
    found = _values(alpha_curves(llama_folder, [text], alphas=_ALPHAS, betas=[]), layer=2, metric="prompt_entropy")
    np.testing.assert_allclose(found, [metrics.matrix_entropy(Z, alpha=alpha) for alpha in _ALPHAS], atol=1e-5)


def test_layers_do_not_rise_with_alpha(encoder: LayerwiseEncoder) -> None:
    table = alpha_curves(encoder, SENTENCES, betas=[])
    for layer in range(encoder.n_layers):
        for metric in ("prompt_entropy", "dataset_entropy"):
            found = _values(table, layer=layer, metric=metric)
            assert len(found) == len(ALPHAS)
            assert (np.diff(found) <= 1e-9).all()


def test_columns_settings_and_chosen_layers(llama_folder: Path) -> None:
    table = alpha_curves(llama_folder, SENTENCES, alphas=[2, 1], betas=[1], layers=[0.0, -1], seed=3, max_texts=5)
    assert table.columns == [
        "model", "revision", "beta", "alpha", "layer", "depth", "metric", "normalization", "value",
        "n_eigenvalues", "n_texts", "final_norm", "max_seq_length", "seed",
    ]  # fmt: skip
    laws, layers = table.filter(metric="power_law"), table.filter(pl.col("metric") != "power_law")
    assert laws.select("model", "beta", "alpha", "layer", "n_texts").rows() == [
        (None, 1.0, 2.0, None, None),
        (None, 1.0, 1.0, None, None),
    ]
    assert set(layers["layer"]) == {0, 3}
    assert layers["beta"].is_null().all()
    assert set(layers["model"]) == {LayerwiseEncoder(llama_folder).checkpoint.name}
    settings_ = layers.select("n_texts", "final_norm", "seed", "normalization").unique()
    assert settings_.rows() == [(5, False, 3, "raw")]


def test_the_order_of_texts_changes_nothing_and_short_ones_are_left_out(llama_folder: Path) -> None:
    first = alpha_curves(llama_folder, SENTENCES, betas=[])
    second = alpha_curves(llama_folder, [*reversed(SENTENCES), "", " "], betas=[])
    np.testing.assert_allclose(first["value"], second["value"], atol=1e-6)
    of_settings = alpha_curves(llama_folder, SENTENCES, betas=[], min_tokens=8)
    assert of_settings["n_texts"][0] < len(SENTENCES)


def test_a_text_of_one_token_counts_for_the_dataset_only(llama_raw: LayerwiseEncoder) -> None:
    one = next(text for text in ("word", "a", "A") if len(llama_raw.tokenized([text]).flat) == 1)
    alone = alpha_curves(llama_raw, [one], betas=[], alphas=[0.5, 2])
    assert alone.filter(metric="prompt_entropy")["value"].is_nan().all()
    assert (alone.filter(metric="dataset_entropy")["value"] == 0).all()
    with_others = alpha_curves(llama_raw, [one, *SENTENCES[:3]], betas=[])
    without = alpha_curves(llama_raw, SENTENCES[:3], betas=[])
    same = with_others.filter(metric="prompt_entropy")["value"] - without.filter(metric="prompt_entropy")["value"]
    assert same.abs().max() < 1e-6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alphas": [1, 0]}, "alphas: expected a finite number above 0, got 0"),
        ({"alphas": []}, "alphas: expected .*got none"),
        ({"alphas": [math.nan]}, "alphas: expected"),
        ({"alphas": "12"}, "alphas: expected"),
        ({"betas": [-1]}, r"betas: expected finite numbers of 0 or more, got \[-1\]"),
        ({"betas": ["1"]}, "betas: expected"),
        ({"betas": [[1, 2]]}, "betas: expected"),
        ({"betas": True}, "betas: expected"),
        ({"betas": [math.inf]}, "betas: expected"),
        ({"betas": []}, "betas: expected at least one exponent, or a model and texts"),
        ({"n_eigenvalues": 0}, "n_eigenvalues: expected an int of at least 1"),
        ({"texts": ["a text"]}, "texts: expected a model and texts, .*got texts without a model"),
        ({"layers": [0]}, r"layers: expected a model and texts, .*got \[0\]"),
        ({"model": "starter"}, "texts: expected a model and texts, .*got a model without texts"),
    ],
)
def test_mistakes_are_named_before_a_model_is_loaded(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        alpha_curves(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


# --- What is made of the table


@pytest.fixture(scope="module")
def table(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """Read back from its file: the table is all that the summary and the figure need."""
    path = tmp_path_factory.mktemp("alpha") / "alpha_curves.parquet"
    alpha_curves(tiny_model("gpt_neox"), SENTENCES).write_parquet(path)
    return pl.read_parquet(path)


def test_the_summary_tells_the_valley_and_the_order_of_layers() -> None:
    """Two layers change places from order 1 to order 2, and the valley moves."""
    curves = {1.0: [3.0, 1.0, 2.0, 2.5], 2.0: [2.0, 1.0, 0.5, 1.5]}
    rows = [("m", alpha, k, k / 3, "dataset_entropy", v) for alpha, of in curves.items() for k, v in enumerate(of)]
    schema = ["model", "alpha", "layer", "depth", "metric", "value"]
    given_ = pl.DataFrame(rows, schema=schema, orient="row").with_columns(beta=pl.lit(None, pl.Float64))
    found = summary_alpha_curves(given_)
    assert found.select("alpha", "lowest", "highest", "lowest_layer", "valley").rows() == [
        (1.0, 1.0, 3.0, 1, 1.5),
        (2.0, 0.5, 2.0, 2, 1.0),
    ]
    np.testing.assert_allclose(found["spearman"], [1.0, 0.8])


def test_the_summary_is_small(table: pl.DataFrame) -> None:
    found = summary_alpha_curves(table)
    assert len(found) == 12
    power_laws = found.filter(metric="power_law")
    assert (power_laws["spearman"] == 1).all()
    assert power_laws["lowest_layer"].is_null().all()
    assert found.filter(pl.col("metric") != "power_law")["valley"].is_not_null().all()


@pytest.mark.parametrize("alphas", [[2.0], [0.1, 1.0], [0.5, 2.0, 7.0], list(ALPHAS)])
def test_the_summary_takes_any_orders_and_one_layer(llama_raw: LayerwiseEncoder, alphas: list[float]) -> None:
    found = summary_alpha_curves(alpha_curves(llama_raw, SENTENCES, alphas=alphas, betas=[1], layers=[2]))
    assert set(found["alpha"]) <= set(alphas)
    assert found["spearman"].is_null().all()


def _lines(svg: str) -> int:
    return len(re.findall(r'aria-roledescription="line mark"', svg))


def test_the_figure_has_a_line_for_each_exponent_and_layer(table: pl.DataFrame, tmp_path: Path) -> None:
    save_figure(draw_alpha_curves(table), tmp_path / "figure.svg", tmp_path / "figure.png")
    svg = (tmp_path / "figure.svg").read_text("utf-8")
    assert _lines(svg) == 7 + 2 * 4
    for word in (
        "power laws (nats)",
        "prompt entropy (nats)",
        "dataset entropy (nats)",
        "order alpha",
        "beta",
        "layer",
    ):
        assert word in svg


@pytest.mark.parametrize(
    ("arguments", "n_lines"),
    [
        ({}, 7),
        ({"betas": [0.5, 1]}, 2),
        ({"betas": list(np.linspace(0, 3, 12))}, 12),
        ({"alphas": [1]}, None),
        ({"alphas": [1, 1.5]}, 7),
    ],
)
def test_the_figure_of_power_laws_only(arguments: dict[str, object], n_lines: int | None, tmp_path: Path) -> None:
    save_figure(draw_alpha_curves(alpha_curves(**arguments)), tmp_path / "figure.svg")  # type: ignore[arg-type]
    assert n_lines in (None, _lines((tmp_path / "figure.svg").read_text("utf-8")))
