import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import plain_metrics

from midlayer_embed import metrics
from midlayer_embed.metrics.trajectory import without_first
from midlayer_embed.terms import NORMALIZATIONS

_SEEDS = st.integers(0, 2**32 - 1)
_QUICK = settings(max_examples=40, deadline=None)
_METRICS = [metrics.prompt_entropy, metrics.curvature, metrics.sink]
# Those that do not depend on where the origin is.
_OF_SHAPE = _METRICS[:2]


def path(rng: np.random.Generator, n_tokens: int, d: int = 5) -> np.ndarray:
    """Tokens, some of them equal to the one before."""
    tokens = rng.normal(size=(n_tokens, d)) + 2
    for k in np.flatnonzero(rng.random(n_tokens) < 0.2):
        tokens[k] = tokens[max(0, k - 1)]
    return tokens


def padded(rng: np.random.Generator, texts: list[np.ndarray], where: str) -> tuple[np.ndarray, np.ndarray]:
    """Texts in one array, what is no token being anything; and the mask of the tokens."""
    longest = max(len(text) for text in texts) + int(rng.integers(0, 3))
    Z = rng.choice([np.nan, np.inf, 0, 1e300], size=(len(texts), longest, texts[0].shape[1]))
    mask = np.zeros((len(texts), longest), dtype=np.int64)
    for k, text in enumerate(texts):
        if where == "anywhere":
            places = np.sort(rng.choice(longest, size=len(text), replace=False))
        else:
            places = np.arange(len(text)) + (longest - len(text) if where == "left" else 0)
        Z[k, places] = text
        mask[k, places] = 1
    return Z, mask


@_QUICK
@given(_SEEDS, st.sampled_from(["right", "left", "anywhere"]))
def test_padding_changes_nothing(seed: int, where: str) -> None:
    rng = np.random.default_rng(seed)
    texts = [path(rng, int(n)) for n in rng.integers(4, 12, size=4)]
    texts = [text if len(np.unique(text, axis=0)) > 2 else rng.normal(size=(4, 5)) for text in texts]
    Z, mask = padded(rng, texts, where)
    for metric in _METRICS:
        alone = [float(metric(text)) for text in texts]
        np.testing.assert_allclose(metric(Z, mask), alone, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(
            metric(torch.from_numpy(Z), torch.from_numpy(mask) > 0), alone, rtol=1e-10, atol=1e-12
        )


@pytest.mark.parametrize("kind", [np.bool_, np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(300, 17), (17, 300)], ids=str)
def test_padding_of_many_texts_changes_nothing(shape: tuple[int, int], kind: type) -> None:
    rng = np.random.default_rng(0)
    texts = [rng.normal(size=(int(n), shape[1])) for n in rng.integers(3, shape[0], size=30)]
    Z, mask = padded(rng, texts, "right")
    for metric in _METRICS:
        found = metric(Z.reshape(5, 6, *Z.shape[1:]), mask.reshape(5, 6, -1).astype(kind))
        expected = [getattr(plain_metrics, metric.__name__)(text) for text in texts]
        np.testing.assert_allclose(found, np.reshape(expected, (5, 6)), rtol=1e-8)


@pytest.mark.parametrize("metric", _METRICS)
def test_padding_in_any_memory_layout(metric: Callable[..., np.ndarray]) -> None:
    rng = np.random.default_rng(6)
    Z, mask = padded(rng, [rng.normal(size=(n, 5)) for n in (4, 7, 9)], "right")
    expected = metric(Z, mask)
    for order in [(2, 1, 0), (1, 0, 2), (0, 2, 1)]:  # the same array with its axes in another order in memory
        permuted = torch.from_numpy(Z.transpose(order).copy()).permute(*np.argsort(order).tolist())
        np.testing.assert_allclose(metric(permuted, torch.from_numpy(mask)), expected, rtol=1e-12)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_a_masked_text_is_normalised_by_its_own_tokens(normalization: str) -> None:
    rng = np.random.default_rng(1)
    texts = [rng.normal(size=(n, 5)) for n in (2, 4, 9)]
    Z, mask = padded(rng, texts, "right")
    found = metrics.prompt_entropy(Z, mask, alpha=2, normalization=normalization)
    expected = [plain_metrics.prompt_entropy(text, 2, normalization) for text in texts]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


def test_with_a_mask_short_texts_are_nan() -> None:
    rng = np.random.default_rng(2)
    Z = rng.normal(size=(6, 4, 3))
    Z[4, 1:] = Z[4, 0]  # four tokens, all equal
    Z[5, 2:] = Z[5, 1]  # four tokens, one step
    mask = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1]]
    np.testing.assert_array_equal(np.isnan(metrics.prompt_entropy(Z, mask)), [1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(np.isnan(metrics.prompt_entropy(Z, mask, normalization="logN")), [1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(np.isnan(metrics.curvature(Z, mask)), [1, 1, 1, 0, 1, 1])
    assert metrics.prompt_entropy(Z, mask)[4] == 0


@pytest.mark.parametrize("n_tokens", [1, 2])
def test_with_a_mask_short_arrays_are_nan(n_tokens: int) -> None:
    Z = np.random.default_rng(3).normal(size=(2, n_tokens, 3))
    assert np.isnan(metrics.curvature(Z, np.ones((2, n_tokens)))).all()
    assert np.isnan(metrics.prompt_entropy(Z, np.ones((2, n_tokens)))).all() == (n_tokens == 1)


def test_one_token_without_a_mask_has_no_entropy() -> None:
    assert metrics.prompt_entropy([[1.0, 2.0]]) == 0


@_QUICK
@given(_SEEDS, st.integers(3, 20), st.floats(1e-6, 1e6))
def test_a_line_has_no_curvature(seed: int, n_tokens: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    places = np.cumsum(rng.uniform(0.1, 1, size=n_tokens))
    line = scale * places[:, None] * rng.normal(size=7)
    assert metrics.curvature(line) == pytest.approx(0, abs=1e-12)


@_QUICK
@given(_SEEDS, st.integers(3, 20), st.floats(1e-6, 1e6))
def test_a_zigzag_turns_by_pi(seed: int, n_tokens: int, scale: float) -> None:
    ends = scale * np.random.default_rng(seed).normal(size=(2, 7))
    assert metrics.curvature(ends[np.arange(n_tokens) % 2]) == pytest.approx(math.pi, abs=1e-12)


@pytest.mark.parametrize("angle", [1e-9, 1e-4, 0.1, 1.5, math.pi - 0.1, math.pi - 1e-7])
def test_small_and_flat_angles_are_exact(angle: float) -> None:
    bend = np.array([[0, 0], [1, 0], [1 + math.cos(angle), math.sin(angle)]])
    assert metrics.curvature(bend - [1, 0]) == pytest.approx(angle, rel=1e-8)


@_QUICK
@given(_SEEDS, st.floats(1e-3, 1e3))
def test_place_size_and_direction_change_nothing(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(9, 5))
    moved = scale * Z @ np.linalg.qr(rng.normal(size=(5, 5)))[0] + rng.normal(size=5)
    for metric in _OF_SHAPE:
        assert metric(moved) == pytest.approx(float(metric(Z)), rel=1e-8)


def test_steps_of_length_zero_are_dropped() -> None:
    Z = np.random.default_rng(4).normal(size=(6, 4))
    assert metrics.curvature(Z[[0, 0, 1, 2, 2, 2, 3, 4, 5, 5]]) == pytest.approx(float(metrics.curvature(Z)), rel=1e-12)


@pytest.mark.parametrize(
    ("Z", "message"),
    [
        (np.ones((2, 3)), "Z: expected 3 tokens or more, got 2"),
        (np.ones((4, 3)), "Z: expected at least two steps between tokens that differ$"),
        (np.stack([np.eye(3), np.eye(3), np.eye(3)[[0, 0, 1]]]), r"tokens that differ in item \(2,\)"),
    ],
)
def test_without_a_mask_short_texts_are_refused(Z: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        metrics.curvature(Z)


@pytest.mark.parametrize("metric", _METRICS)
def test_bad_input_is_named(metric: Callable[..., np.ndarray]) -> None:
    Z = np.random.default_rng(5).normal(size=(2, 3, 4, 3))
    mask = np.ones((2, 3, 4))
    mask[1, 2, 3] = 0
    with pytest.raises(ValueError, match=r"mask: expected shape \(2, 3, 4\), got \(2, 3, 3\)"):
        metric(Z, mask[..., 1:])
    Z[1, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"Z: holds NaN or infinity in item \(1, 2\)"):
        metric(Z)
    assert np.isfinite(metric(Z, mask)).all()
    Z[1, 0, 3] = np.inf
    with pytest.raises(ValueError, match=r"Z: holds NaN or infinity in item \(1, 0\)"):
        metric(Z, mask)


def test_normalization_by_one_dimension_is_refused() -> None:
    with pytest.raises(ValueError, match="normalization: logD divides by ln 1 for d = 1"):
        metrics.prompt_entropy(np.ones((2, 3, 1)), np.ones((2, 3)), normalization="logD")


@_QUICK
@given(_SEEDS, st.integers(2, 20), st.floats(0, 1e6))
def test_a_sink_is_as_large_as_it_is_made(seed: int, n_tokens: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    tokens = rng.normal(size=(n_tokens, 5))
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    tokens[0] *= factor
    turned = rng.uniform(0.1, 10) * tokens @ np.linalg.qr(rng.normal(size=(5, 5)))[0]
    assert metrics.sink(turned) == pytest.approx(factor, rel=1e-10, abs=1e-12)


def test_the_order_of_the_other_tokens_is_nothing_to_a_sink() -> None:
    Z = np.random.default_rng(7).normal(size=(6, 4))
    assert metrics.sink(Z[[0, 5, 3, 4, 2, 1]]) == pytest.approx(float(metrics.sink(Z)), rel=1e-12)
    assert metrics.sink(Z[::-1]) != pytest.approx(float(metrics.sink(Z)), rel=1e-3)


def test_a_sink_of_short_texts_is_nan_with_a_mask_and_refused_without() -> None:
    Z = np.random.default_rng(8).normal(size=(4, 3, 2))
    Z[3, 1:] = 0
    mask = [[0, 0, 0], [0, 1, 0], [0, 1, 1], [1, 1, 1]]
    np.testing.assert_array_equal(np.isnan(metrics.sink(Z, mask)), [1, 1, 0, 1])
    with pytest.raises(ValueError, match="Z: expected 2 tokens or more, got 1"):
        metrics.sink(Z[:, :1])
    with pytest.raises(ValueError, match=r"Z: expected a token after the first that is not zero in item \(3,\)"):
        metrics.sink(Z)


@_QUICK
@given(_SEEDS, st.sampled_from(["right", "left", "anywhere"]), st.integers(0, 3))
def test_the_first_tokens_of_a_text_are_left_out_wherever_the_padding_is(seed: int, where: str, n: int) -> None:
    rng = np.random.default_rng(seed)
    texts = [path(rng, int(count)) for count in rng.integers(1, 12, size=4)]
    Z, mask = padded(rng, texts, where)
    for row, text in enumerate(texts):
        kept = without_first(torch.from_numpy(mask), n)[row].numpy() > 0
        np.testing.assert_array_equal(Z[row, kept], text[n:])
