"""A tiny training run: its checkpoints load, the loss falls, and a run that is there is left as it is."""

from pathlib import Path

import numpy as np
import pytest
import torch

from leaderboard.experiments import checkpoints
from leaderboard.experiments.profiles.training import Training, train_checkpoints
from midlayer_embed import LayerwiseEncoder
from midlayer_embed.errors import InputError

pytestmark = pytest.mark.model

_TINY = Training(n_steps=6, n_blocks=2, hidden_size=16, n_heads=2, n_vocabulary=300, context=8, batch_size=8)


@pytest.mark.slow
def test_a_run_saves_checkpoints_that_are_measured_and_repeat_by_the_seed(sentences: list[str], tmp_path: Path) -> None:
    before = torch.random.get_rng_state(), torch.get_num_threads()
    losses = train_checkpoints(tmp_path / "a", sentences, _TINY)
    assert list(losses) == ["step1", "step2", "step4", "main"] and losses["main"] < losses["step1"]
    assert torch.equal(before[0], torch.random.get_rng_state()) and before[1] == torch.get_num_threads()
    table = checkpoints(tmp_path / "a", sentences, metrics=["prompt_entropy"])
    assert table["revision"].unique(maintain_order=True).to_list() == list(losses)
    assert train_checkpoints(tmp_path / "b", sentences, _TINY) == losses
    one, same, other = (LayerwiseEncoder(tmp_path / name).encode(sentences) for name in ("a/main", "b/main", "a/step1"))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_a_run_that_is_there_is_left_as_it_is(sentences: list[str], tmp_path: Path) -> None:
    losses = train_checkpoints(tmp_path, sentences, _TINY)
    weights = tmp_path / "step2" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    assert train_checkpoints(tmp_path, sentences, _TINY) == losses
    assert weights.stat().st_mtime_ns == written
    train_checkpoints(tmp_path, sentences[:-1], _TINY)
    assert weights.stat().st_mtime_ns != written


def test_too_little_to_train_on_is_told(sentences: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^texts: expected more than 8 tokens, got \d$"):
        train_checkpoints(tmp_path, ["a"], _TINY)
    with pytest.raises(InputError, match="^n_steps: expected an int of at least 1, got 0$"):
        train_checkpoints(tmp_path, sentences, Training(n_steps=0))
    assert list(tmp_path.iterdir()) == []
