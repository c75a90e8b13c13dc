"""From states and labels to accuracies: `attention_probe` and `linear_probe`."""

from typing import Any

import numpy as np
import pytest
import torch

from leaderboard.probes import attention_probe, linear_probe
from leaderboard.probes.labels import hold_out

N, LAYERS, T, D = 120, 3, 4, 8
OPTIONS: dict[str, Any] = {"heads": 2, "device": "cpu", "epochs": 150, "lr": 1e-2}


def _data(n: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """States whose layers tell two classes more and more clearly: (n, LAYERS, T, D)."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    states = random.standard_normal((n, LAYERS, T, D))
    states[:, :, 1, 0] += 4 * np.arange(LAYERS) * (2 * labels[:, None] - 1)
    return states.astype(np.float32), labels


def test_layers_give_what_each_gives_alone() -> None:
    states, labels = _data()
    found = attention_probe(states, labels, **OPTIONS)
    assert found.shape == (LAYERS,)
    assert found.dtype == np.float64
    alone = [attention_probe(states[:, layer], labels, **OPTIONS) for layer in range(LAYERS)]
    assert all(isinstance(one, float) for one in alone)
    np.testing.assert_array_equal(found, alone)
    assert found[0] + 0.1 < found[2]


def test_a_test_of_its_own_and_names_of_classes() -> None:
    states, labels = _data()
    test_states, test_labels = _data(40, seed=1)
    numbers = attention_probe(states, labels, test_states, test_labels, **OPTIONS)
    words = [("cat", "dog")[label] for label in labels]
    test_words = [("cat", "dog")[label] for label in test_labels]
    named = attention_probe(torch.from_numpy(states), words, torch.from_numpy(test_states), test_words, **OPTIONS)
    np.testing.assert_array_equal(numbers, named)


def test_the_seed_alone_decides() -> None:
    states, labels = _data()
    torch.manual_seed(3)
    first = attention_probe(states, labels, **OPTIONS)
    before = torch.random.get_rng_state()
    again = attention_probe(states, labels, **OPTIONS)
    np.testing.assert_array_equal(first, again)
    assert torch.equal(before, torch.random.get_rng_state())


def test_attention_finds_what_the_mean_of_the_tokens_hides() -> None:
    random = np.random.default_rng(0)
    n, n_tokens, width = 600, 16, 16
    labels = random.integers(0, 2, n)
    states = random.standard_normal((n, n_tokens, width)).astype(np.float32)
    place = random.integers(0, n_tokens, n)
    states[np.arange(n), place, 0] += 6  # a token that says where to look
    states[np.arange(n), place, 1] = 2.0 * (2 * labels - 1)
    states[:, :, 1] -= states[:, :, 1].mean(axis=1, keepdims=True)  # and tells nothing in the mean
    attention = attention_probe(states, labels, heads=1, device="cpu", epochs=60, lr=1e-2)
    assert attention > 0.9
    assert linear_probe(states.mean(axis=1), labels) < 0.65


def test_a_linear_probe_gives_every_layer_alone() -> None:
    states, labels = _data()
    vectors = states.mean(axis=2)
    found = linear_probe(vectors, labels)
    assert found.tolist() == [linear_probe(vectors[:, layer], labels) for layer in range(LAYERS)]
    assert found[2] > 0.9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": [0]}, r"labels: expected one for each of the 120 images, got 1"),
        ({"labels": [1] * N}, r"labels: expected at least two different ones, got only 1"),
        ({"labels": [0, "a"] * (N // 2)}, r"labels: expected all ints or all strings, got 0 and 'a'"),
        ({"labels": [None, 1] * (N // 2)}, r"labels: expected ints or strings, got None"),
        ({"labels": [0.5, 1] * (N // 2)}, r"labels: expected ints or strings, got 0.5"),
        ({"labels": "ab"}, r"labels: expected a sequence of ints or strings, got str"),
        ({"labels": np.zeros((N, 2), int)}, r"labels: expected one axis, got shape \(120, 2\)"),
        ({"labels": list(range(N))}, r"labels: 120 images of 120 classes are too few to test on some"),
        ({"tokens": np.zeros((N, D), np.float32)}, r"tokens: expected floats \(n, T, d\) or .* got shape \(120, 8\)"),
        ({"tokens": np.zeros((N, T, D), int)}, r"tokens: expected floats .* of int64"),
        ({"tokens": np.zeros((N, T, 0), np.float32)}, r"tokens: expected at least one image, layer, token and dim"),
        ({"heads": 3}, r"heads: expected a number that divides the width of a token, 8 \(1, 2, 4, 8\), got 3"),
        ({"heads": 0}, r"heads: expected an int of at least 1, got 0"),
        ({"held_out": 1.0}, r"held_out: expected a share of at least 0 and below 1, got 1.0"),
        ({"smoothing": 1.0}, r"smoothing: expected a share of at least 0 and below 1, got 1.0"),
        ({"lr": float("nan")}, r"lr: expected a finite number above 0"),
        ({"epochs": 0}, r"epochs: expected an int of at least 1, got 0"),
        ({"test_labels": [0, 1]}, r"test_tokens: test_tokens and test_labels belong together, and it is missing"),
        (
            {"test_tokens": np.zeros((2, T, D), np.float32), "test_labels": [0, 1]},
            r"test_tokens: expected 3 layers, 4 tokens, width 8 as in tokens, got 1 layers, 4 tokens, width 8",
        ),
        (
            {"test_tokens": np.zeros((2, LAYERS, T, D), np.float32), "test_labels": [0, 7]},
            r"test_labels: 7 is not among the labels to train on",
        ),
    ],
)
def test_mistakes_are_told_in_a_line(change: dict[str, Any], message: str) -> None:
    states, labels = _data()
    with pytest.raises(ValueError, match=message) as error:
        attention_probe(**{"tokens": states, "labels": labels, **OPTIONS, **change})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e30])
def test_states_that_are_not_finite_are_told_with_their_layer(wrong: float) -> None:
    states, labels = _data()
    states[5, 1, 2, 3] = wrong
    with pytest.raises(ValueError, match="tokens: the states of layer 1 are not finite in float32"):
        attention_probe(states, labels, **OPTIONS)


def test_what_is_held_out_keeps_the_share_of_each_class() -> None:
    targets = np.repeat(np.arange(4), [40, 20, 10, 1])
    kept, held = hold_out(targets, 0.2, seed=0)
    assert np.bincount(targets[held], minlength=4).tolist() == [8, 4, 2, 0]
    assert sorted([*kept, *held]) == list(range(71))
    again = hold_out(targets, 0.2, seed=0)[1]
    other = hold_out(targets, 0.2, seed=1)[1]
    assert held.tolist() == again.tolist() != other.tolist()


def test_many_small_classes_are_held_out_by_their_number() -> None:
    _, held = hold_out(np.repeat(np.arange(50), 3), 0.1, seed=0)
    assert len(held) == 15
    assert not len(hold_out(np.arange(50), 0.1, seed=0)[1])


@pytest.mark.slow
def test_on_digits_it_reaches_logistic_regression_at_each_layer() -> None:
    from sklearn.datasets import load_digits

    digits = load_digits()
    patches = digits.images.reshape(-1, 4, 2, 4, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 16, 4) / 16
    random = np.random.default_rng(0)
    places = np.broadcast_to(np.eye(16), (len(patches), 16, 16))
    states = [np.concatenate([patches, places], axis=-1) @ random.standard_normal((20, 32))]
    for _ in range(2):  # blocks with random weights: each token sees the others, then a nonlinearity
        mixed = states[-1] + random.standard_normal((16, 16)) @ states[-1] / 4
        states.append(np.tanh(mixed @ random.standard_normal((32, 32)) / 6))
    tokens = np.stack(states, axis=1).astype(np.float32)[:900]
    labels = digits.target[:900]
    attention = attention_probe(tokens, labels, device="cpu", epochs=150)
    linear = linear_probe(tokens.mean(axis=2), labels)
    assert (attention >= linear).all(), (attention, linear)
    assert attention.min() > 0.8
