"""The attention probes of all layers against a plain one of one layer, and against each other."""

import numpy as np
import pytest
import torch

from benchmarks.probes.plain_probe import train_plainly
from leaderboard.probes.arguments import Settings
from leaderboard.probes.attention import AttentionProbes, token_batch
from leaderboard.probes.labels import hold_out
from leaderboard.probes.tokens import KeptTokens, StreamedTokens
from leaderboard.probes.training import Tokens, Trained, predict, train

CPU = torch.device("cpu")
N, LAYERS, T, D, CLASSES = 90, 4, 5, 12, 3
SETTINGS = Settings(heads=3, epochs=40, batch_size=16, lr=1e-2, patience=3)


def _states(noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """States whose layers tell the classes more and more clearly, in one of the tokens only."""
    random = np.random.default_rng(0)
    targets = random.integers(0, CLASSES, N)
    states = noise * random.standard_normal((LAYERS, N, T, D)) + 3
    towards = random.standard_normal((CLASSES, D))
    states[:, :, 2] += np.arange(LAYERS)[:, None, None] * towards[targets] / 2
    return states.astype(np.float32), targets


def _train(tokens: Tokens, targets: np.ndarray, settings: Settings = SETTINGS) -> Trained:
    kept, held = hold_out(targets, settings.held_out, settings.seed)
    return train(tokens, targets, kept, held, settings, n_classes=CLASSES, device=CPU)


def test_a_layer_is_trained_as_a_plain_probe_is() -> None:
    states, targets = _states()
    trained = _train(KeptTokens(states, CPU), targets)
    found = predict(trained.probes, KeptTokens(states, CPU), np.arange(N), 32)
    kept, held = hold_out(targets, SETTINGS.held_out, SETTINGS.seed)
    for layer in range(LAYERS):
        tokens = torch.from_numpy(states[layer])
        plain, epoch = train_plainly(tokens, targets, kept, held, SETTINGS, CLASSES)
        assert trained.epochs[layer] == epoch
        np.testing.assert_array_equal(found[layer], plain.eval()(tokens).argmax(-1).numpy())
        for mine, its in (
            (trained.probes.key[layer].reshape(D, D), plain.key.weight),
            (trained.probes.value[layer].reshape(D, D), plain.value.weight),
            (trained.probes.query[layer], plain.query),
            (trained.probes.weight[layer], plain.classifier.weight),
            (trained.probes.mean[layer], plain.norm.running_mean),
            (trained.probes.variance[layer], plain.norm.running_var),
        ):
            torch.testing.assert_close(mine, its, rtol=1e-3, atol=1e-3)
    assert len(set(trained.epochs)) > 1  # layers stop at different times
    assert (found[-1] == targets).mean() > (found[0] == targets).mean()


def test_all_layers_at_once_are_what_each_is_alone() -> None:
    states, targets = _states()
    together = _train(KeptTokens(states, CPU), targets)
    for layer in range(LAYERS):
        alone = _train(KeptTokens(states[layer : layer + 1], CPU), targets)
        assert alone.epochs[0] == together.epochs[layer]
        for mine, its in zip(together.probes.state_dict().values(), alone.probes.state_dict().values(), strict=True):
            torch.testing.assert_close(mine[layer], its[0], rtol=1e-3, atol=1e-4)


def test_a_layer_that_is_changed_changes_no_other() -> None:
    states, targets = _states()
    before = _train(KeptTokens(states, CPU), targets)
    states[0] = np.random.default_rng(1).standard_normal(states[0].shape)  # it stops at another time
    after = _train(KeptTokens(states, CPU), targets)
    for mine, its in zip(before.probes.parameters(), after.probes.parameters(), strict=True):
        torch.testing.assert_close(mine[1:], its[1:], rtol=1e-3, atol=1e-4)
        assert not torch.allclose(mine[0], its[0])


def test_streamed_states_train_the_same_probes() -> None:
    states, targets = _states()
    asked = []

    def states_of(rows: np.ndarray, layers: np.ndarray) -> torch.Tensor:
        asked.append(len(layers))
        return torch.from_numpy(states[layers][:, rows])

    kept = _train(KeptTokens(states, CPU), targets)
    streamed = _train(StreamedTokens(states_of, LAYERS, D, CPU), targets)
    for mine, its in zip(kept.probes.state_dict().values(), streamed.probes.state_dict().values(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)
    assert asked[0] == LAYERS > asked[-1]  # layers that have stopped are not asked for


def test_a_constant_feature_is_nothing_however_large() -> None:
    states, targets = _states()
    plain = _train(KeptTokens(states, CPU), targets)
    states = np.concatenate([states, np.full((*states.shape[:-1], 3), 1e4, np.float32)], axis=-1)
    probes = AttentionProbes(LAYERS, D + 3, CLASSES, 3, seed=0)
    probes(token_batch(torch.from_numpy(states[:, :20])))
    logits = probes.eval()(token_batch(torch.from_numpy(states)))
    assert logits.isfinite().all()
    assert logits.abs().max() < 10
    assert plain.loss.max() < 2


def test_without_held_out_rows_all_epochs_are_trained() -> None:
    states, targets = _states()
    trained = _train(KeptTokens(states, CPU), targets, Settings(heads=3, epochs=4, batch_size=16, held_out=0))
    assert trained.epochs.tolist() == [4] * LAYERS
    assert np.isnan(trained.loss).all()


def test_a_rate_that_diverges_is_told() -> None:
    states, targets = _states()
    for held_out in (0.0, 0.1):
        with pytest.raises(ValueError, match=r"lr: training diverged at layer \d; expected a lower rate than 1e\+30"):
            _train(KeptTokens(states, CPU), targets, Settings(heads=3, epochs=3, lr=1e30, held_out=held_out))
