"""How tiny models are trained here: Adam on one thread, with a warm-up and a cosine, as Pythia was."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from midlayer_embed.ground.progress import progress

_BETAS, _CLIP = (0.9, 0.95), 1.0
_WARM_UP, _LOWEST = 0.05, 0.1


def optimize(
    model: torch.nn.Module,
    loss_of: Callable[[torch.Generator], torch.Tensor],
    n_steps: int,
    learning_rate: float,
    *,
    decay: float,
    seed: int,
    description: str = "Training",
    show_progress: bool = False,
) -> Iterator[tuple[int, float]]:
    """Train a model, step by step.

    Args:
        model: Its parameters are changed in place.
        loss_of: Draws a batch with the generator and returns its loss, a scalar tensor.
        n_steps: Number of steps.
        learning_rate: The highest one: it rises in the first twentieth of the steps, then falls to a tenth.
        decay: Weight decay.
        seed: Seed of the generator. The global random state is neither used nor changed.
        description: What the progress bar says.
        show_progress: Show a bar with the loss on stderr.

    Yields:
        After each step its number, from 1, and its loss.
    """
    draws = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=_BETAS, weight_decay=decay, foreach=True)
    with _one_thread(), progress(n_steps, description, "step", show_progress) as bar:
        for step in range(1, n_steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * _rate(step, n_steps)
            loss = loss_of(draws)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), _CLIP)
            optimizer.step()
            bar.update(1)
            if step % max(1, n_steps // 32) == 0:
                bar.set_postfix_str(f"loss {loss.item():.2f}")
            yield step, loss.item()


@contextmanager
def _one_thread() -> Iterator[None]:
    """More threads gain little on small matrices, and their sums are rounded by the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rate(step: int, n_steps: int) -> float:
    """The learning rate of a step, as a share of the highest one."""
    warm_up = max(1, round(_WARM_UP * n_steps))
    if step < warm_up:
        return step / warm_up
    done = (step - warm_up) / max(1, n_steps - warm_up)
    return _LOWEST + (1 - _LOWEST) * (1 + math.cos(math.pi * done)) / 2
