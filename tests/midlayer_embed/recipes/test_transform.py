"""Transforms against plain numpy, one text and one direction at a time."""

import logging
from pathlib import Path

import numpy as np
import pytest

from midlayer_embed import Transform, fit_transform
from midlayer_embed.errors import InputError, InputTypeError
from midlayer_embed.recipes.names import parse_transform

N, D = 300, 24
NAMES = ["center", "standardize", "remove:1", "remove:5", "whiten", "whiten:1", "whiten:0.1"]


@pytest.fixture(scope="module")
def X() -> np.ndarray:
    """Vectors as a language model gives them: a large mean, and a few dominant directions."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(N, D)) @ (rng.normal(size=(D, D)) * np.geomspace(20, 0.1, D)[:, None]) + 50


def _plain(X: np.ndarray, name: str) -> np.ndarray:
    """The definitions, without matrices where that is possible."""
    kind, _, number = name.partition(":")
    mean = sum(X) / len(X)
    centred = np.array([x - mean for x in X])
    if kind == "center":
        return centred
    if kind == "standardize":
        return np.array([[x / np.sqrt(sum(column**2) / len(X)) for x in column] for column in centred.T]).T
    values, vectors = np.linalg.eigh(np.cov(X.T, bias=True))
    order = np.argsort(-values)
    values, vectors = values[order], vectors[:, order]
    if kind == "remove":
        for k in range(int(number)):
            centred = np.array([x - (x @ vectors[:, k]) * vectors[:, k] for x in centred])
        return centred
    ridge = float(number or 10)
    return np.array([(vectors.T @ x) / np.sqrt(values + ridge * values.mean()) for x in centred])


@pytest.mark.parametrize("name", NAMES)
def test_a_transform_equals_its_definition(name: str, X: np.ndarray) -> None:
    found, expected = fit_transform(X, name)(X), _plain(X, name)
    if name.startswith("whiten"):  # each direction up to its sign
        signs = np.sign((found * expected).sum(axis=0))
        expected = expected * signs
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_the_texts_does_not_matter(name: str, X: np.ndarray) -> None:
    shuffled = np.random.default_rng(1).permutation(X)
    one, other = fit_transform(X, name), fit_transform(shuffled, name)
    np.testing.assert_allclose(other(X), one(X), rtol=1e-8, atol=1e-8)
    again = fit_transform(X, name)
    assert (again.weight.tobytes(), again.bias.tobytes()) == (one.weight.tobytes(), one.bias.tobytes())


@pytest.mark.parametrize("ridge", [0.1, 1, 10])
def test_the_covariance_of_whitened_vectors_is_damped_by_the_ridge(ridge: float, X: np.ndarray) -> None:
    values = np.linalg.eigvalsh(np.cov(X.T, bias=True))[::-1]
    expected = np.diag(values / (values + ridge * values.mean()))
    np.testing.assert_allclose(np.cov(fit_transform(X, f"whiten:{ridge}")(X).T, bias=True), expected, atol=1e-8)


def test_fewer_dimensions_of_whitening_are_a_prefix(X: np.ndarray) -> None:
    whole = fit_transform(X, "whiten")
    for dim in (1, 7, D):
        part = fit_transform(X, "whiten", dim=dim)
        assert part.dim == dim
        np.testing.assert_array_equal(part.weight, whole.weight[:dim])
        np.testing.assert_allclose(part(X), whole(X)[:, :dim], atol=1e-12)


def test_what_is_removed_is_gone_and_the_rest_stays(X: np.ndarray) -> None:
    rest = fit_transform(X, "remove:3")(X)
    values = np.linalg.eigvalsh(np.cov(X.T, bias=True))
    np.testing.assert_allclose(np.linalg.eigvalsh(np.cov(rest.T, bias=True))[3:], values[:-3], atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_each_layer_has_its_own(name: str, X: np.ndarray, tmp_path: Path) -> None:
    layers = np.stack([X, X[:, ::-1] ** 2, X - 7], axis=1)
    every = fit_transform(layers, name)
    assert every.weight.shape == (3, D, D) and every.bias.shape == (3, D)
    for layer in range(3):
        one = fit_transform(layers[:, layer], name)
        np.testing.assert_array_equal(every.of_layer(layer).weight, one.weight)
        np.testing.assert_array_equal(every(layers)[:, layer], one(layers[:, layer]))
    every.save(tmp_path / "t.safetensors")
    loaded = Transform.load(tmp_path / "t.safetensors")
    assert (loaded.name, loaded.n_texts) == (every.name, N)
    np.testing.assert_array_equal(loaded(layers), every(layers))
    assert [path.name for path in tmp_path.iterdir()] == ["t.safetensors"]


@pytest.mark.parametrize("name", ["center", "standardize", "whiten:1"])
def test_a_weight_with_a_diagonal_only_gives_the_product_without_its_zeros(name: str, X: np.ndarray) -> None:
    layers = np.stack([X, X[::-1] * 3 + 1], axis=1)
    for transform, vectors in ((fit_transform(X, name), X), (fit_transform(layers, name), layers)):
        expected = np.einsum("...ij,...j->...i", transform.weight, vectors) + transform.bias
        np.testing.assert_allclose(transform(vectors), expected, rtol=1e-12, atol=1e-12 * np.abs(expected).max())


def test_ridges_that_differ_have_names_that_differ() -> None:
    numbers = ["1000", "1e-7", "0.5", "10.123456789", "10.12345678", "1000001", "1e300", "5e-324"]
    names = [parse_transform(f"whiten:{number}")[2] for number in numbers]
    assert names[:4] == ["whiten:1000", "whiten:1e-07", "whiten:0.5", "whiten:10.123456789"]
    assert len(set(names)) == len(names)
    for number, name in zip(numbers, names, strict=True):
        assert parse_transform(name) == ("whiten", float(number), name)


def test_full_names_and_dtypes(X: np.ndarray) -> None:
    assert [fit_transform(X, name).name for name in ("whiten", "whiten:10.0", "remove:02")] == [
        "whiten:10",
        "whiten:10",
        "remove:2",
    ]
    fitted = fit_transform(X.astype(np.float32), "standardize")
    assert fitted.weight.dtype == fitted.bias.dtype == np.float64
    assert [fitted(X.astype(dtype)).dtype for dtype in ("float16", "float32", "float64", "int64")] == [
        *("float32", "float32", "float64", "float64")
    ]
    assert fitted(X[0]).shape == (D,) and fitted(X[:0]).shape == (0, D)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
def test_texts_that_are_all_equal_become_zero(name: str, value: float) -> None:
    X = np.full((50, 6), value) * np.arange(1, 7)
    np.testing.assert_allclose(fit_transform(X, name)(X), 0, atol=1e-6)


def test_a_dimension_in_which_all_texts_are_equal_becomes_zero(X: np.ndarray) -> None:
    constant = X.copy()
    constant[:, 3] = 0.1
    assert not fit_transform(constant, "standardize")(constant)[:, 3].any()
    assert np.isfinite(fit_transform(constant, "whiten:0.1")(constant)).all()


def test_few_texts_are_refused_or_told(X: np.ndarray, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match=r"^X: expected at least 3 texts to fit whiten:10 to 24 dimensions, got 2$"):
        fit_transform(X[:2], "whiten")
    with pytest.raises(InputError, match="^X: expected at least 2 texts"):
        fit_transform([[1.0, 2.0]], "center")
    with caplog.at_level(logging.WARNING):
        assert np.isfinite(fit_transform(X[:3], "whiten:0.1")(X)).all()
        assert "on 3 texts; 48 or more are better" in caplog.text
        caplog.clear()
        fit_transform(X[:48], "whiten")
        assert not caplog.text


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("zca", {}, "transform: expected one of center, standardize, remove:k, whiten:r"),
        *(
            (name, {}, "transform: expected one of")
            for name in ("center:1", "remove", "remove:0", "remove:1.5", "", f"remove:{'9' * 5000}")
        ),
        *((name, {}, "transform: expected one of") for name in ("whiten:0", "whiten:-1", "whiten:nan", "whiten:inf")),
        ("remove:24", {}, "transform: remove:24 of vectors of 24 dimensions leaves nothing"),
        ("center", {"dim": 3}, "dim: only whitening orders the dimensions; center keeps all, got 3"),
        ("whiten", {"dim": 25}, "dim: expected at most 24, got 25"),
        ("whiten", {"dim": 0}, "dim: expected an int of at least 1"),
    ],
)
def test_wrong_arguments_are_named(name: str, options: dict[str, int], message: str, X: np.ndarray) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        fit_transform(X, name, **options)


def test_wrong_vectors_are_named(X: np.ndarray, tmp_path: Path) -> None:
    for value in (np.nan, np.inf, -np.inf):
        spoilt = np.stack([X, X], axis=1)
        spoilt[7, 1, 2] = spoilt[9, 0, 0] = value
        with pytest.raises(InputError, match="^X: holds NaN or infinity, first in the vector of text 7$"):
            fit_transform(spoilt, "center")
    with pytest.raises(InputTypeError, match="^X: expected an array of real numbers"):
        fit_transform([["a", "b"]], "center")
    with pytest.raises(InputError, match=r"^X: expected an array \(n, d\)"):
        fit_transform(X[0], "center")
    fitted = fit_transform(X, "center")
    with pytest.raises(InputError, match=r"^X: expected vectors of the shape \(\.\.\., 24\), got \(300, 3\)$"):
        fitted(X[:, :3])
    with pytest.raises(InputError, match="was fitted on one layer"):
        fitted.of_layer(0)
    (tmp_path / "a.txt").write_text("no transform")
    for name in ("a.txt", "nothing.safetensors"):
        with pytest.raises(InputError, match=f"^transform: .*{name} cannot be read"):
            Transform.load(tmp_path / name)
