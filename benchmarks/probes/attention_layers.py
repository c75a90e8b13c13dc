"""Time of the attention probes of 24 layers at once, over 24 probes of their own.

    python -m benchmarks.probes.attention_layers [--images N]

A probe of its own is written plainly: modules of torch, keys and values of every token, a loop (`plain_probe`).
Compared are the training on states that are in memory, and the whole work with the images' forward passes: of each
layer its blocks, or one pass of all. The plain probes and ours have to agree: the epochs that they stop at, and every
prediction but those that rounding decides. Our own probes one layer after the other are timed as well, without a
target: all that layers at once save there is the overhead of small steps.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

from benchmarks.bench import Row, Timing, build_parser, describe_machine, format_cpu_ratio, report_rows, time_call
from benchmarks.probes.plain_probe import train_plainly
from leaderboard.probes.arguments import Settings
from leaderboard.probes.labels import hold_out
from leaderboard.probes.tokens import KeptTokens
from leaderboard.probes.training import Trained, predict, train
from midlayer_embed import ImageLayerwiseEncoder

N_LAYERS, DIM, SIDE, PATCH, CLASSES = 24, 192, 64, 8, 10
SETTINGS = Settings(heads=8, epochs=3, batch_size=32, patience=3)
TARGET = 1 / 3
# Predictions that rounding may decide, as a share.
CLOSE = 0.01
CPU = torch.device("cpu")


def main() -> None:
    """Print both ratios."""
    parser = build_parser(__doc__)
    parser.add_argument("--images", type=int, default=160)
    arguments = parser.parse_args()
    print(describe_machine())
    random = np.random.default_rng(0)
    labels = np.arange(arguments.images) % CLASSES
    colours = random.integers(60, 196, (CLASSES, 3))
    images = [np.clip(colours[k] + random.normal(0, 40, (SIDE, SIDE, 3)), 0, 255).astype(np.uint8) for k in labels]
    rows = hold_out(labels, SETTINGS.held_out, SETTINGS.seed)
    with tempfile.TemporaryDirectory() as folder:
        encoder = ImageLayerwiseEncoder(_save_model(Path(folder)), device="cpu")
        layers = encoder.layers[1:]
        encoder.encode(images[:8])  # warm-up
        one_pass, states = time_call(lambda: _states(encoder, images, layers))
        passes = [time_call(lambda layer=layer: _states(encoder, images, [layer]))[0] for layer in layers]
    _at_once(states[:1], labels, rows)  # warm-up
    at_once, trained = time_call(lambda: _at_once(states, labels, rows))
    ours, _ = time_call(lambda: [_at_once(states[k : k + 1], labels, rows) for k in range(N_LAYERS)])
    plain, probes = time_call(
        lambda: [train_plainly(torch.from_numpy(one), labels, *rows, SETTINGS, CLASSES) for one in states]
    )
    _check_equal(trained, probes, states)
    print(f"{arguments.images} images, {states.shape[2]} patches of width {DIM}, {SETTINGS.epochs} epochs")
    with_passes, all_passes = _sum(at_once, one_pass), _sum(plain, *passes)
    for name, timing in (
        ("24 layers at once", at_once),
        ("24 plain probes", plain),
        ("24 of ours, one after the other", ours),
        ("one pass of all layers", one_pass),
        ("24 passes, each to its layer", _sum(*passes)),
    ):
        print(f"{name:>32}: {timing.seconds:.2f} s, {timing.cpu_seconds:.2f} CPU s")
    print(f"24 layers at once over 24 of ours, one after the other: {at_once.over(ours)[0]:.2f}x (no target)")
    report_rows(
        [
            _row("attention probes of 24 layers, states in memory", "24 plain probes", at_once, plain),
            _row(
                "attention probes of 24 layers, with the forward passes",
                "24 plain probes, each with its pass",
                with_passes,
                all_passes,
            ),
        ],
        arguments.rows,
    )


def _row(what: str, reference: str, timing: Timing, other: Timing) -> Row:
    ratio, cpu_ratio = timing.over(other)
    return Row(what, reference, ratio, TARGET, at_least=False, note=format_cpu_ratio(cpu_ratio))


def _states(encoder: ImageLayerwiseEncoder, images: list[np.ndarray], layers: list[int]) -> np.ndarray:
    """(n_layers, n, T, d)."""
    parts = [batch.states.numpy() for batch in encoder.token_batches(images, layers=layers)]
    return np.concatenate(parts, axis=1)


def _at_once(states: np.ndarray, labels: np.ndarray, rows: tuple[np.ndarray, np.ndarray]) -> Trained:
    return train(KeptTokens(states, CPU), labels, *rows, SETTINGS, n_classes=CLASSES, device=CPU)


def _check_equal(trained: Trained, probes: list, states: np.ndarray) -> None:  # type: ignore[type-arg]
    assert trained.epochs.tolist() == [epoch for _, epoch in probes]
    found = predict(trained.probes, KeptTokens(states, CPU), np.arange(states.shape[1]), SETTINGS.batch_size)
    for layer, (probe, _) in enumerate(probes):
        with torch.inference_mode():
            expected = probe.eval()(torch.from_numpy(states[layer])).argmax(-1).numpy()
        assert (found[layer] != expected).mean() <= CLOSE, f"layer {layer + 1} differs"


def _sum(*timings: Timing) -> Timing:
    return Timing(*map(sum, zip(*timings, strict=True)))


def _save_model(folder: Path) -> Path:
    """A ViT of 24 blocks with random weights."""
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=DIM,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=3,
        intermediate_size=4 * DIM,
        image_size=SIDE,
        patch_size=PATCH,
    )
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    ViTImageProcessorPil(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
