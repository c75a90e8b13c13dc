"""Time of a profile with all seven metrics over its forward passes alone, and the share of each part.

    python -m benchmarks.metrics.profile_layers [--model MODEL] [--texts N]

One process runs the profile, then the plain model over the same batches (the texts, and 16 views of each), without
hooks or metrics. Checks that the metrics of its last layer equal those of the profile. The default is 100 texts; 500
texts take about 14 minutes on two cores.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.bench import Row, build_parser, describe_machine, format_cpu_ratio, report_rows, time_call
from benchmarks.encoding.forward_pass import build_batches, plain_vectors
from midlayer_embed import LayerwiseEncoder, metrics, profile_layers
from midlayer_embed.selection.layer_states import Representations
from midlayer_embed.terms import PAPER_METRICS, n_views
from midlayer_embed.texts.corpora import sample_texts, starter_texts
from midlayer_embed.texts.tokens import distinct
from midlayer_embed.texts.views import augmented_views

TARGET = 1.5
TOLERANCE = 1e-3


class Shares:
    """Accumulates the time of the parts of a run."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def wrap(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that its time is added to a part; `part` may refer to its arguments, such as {1}."""

        def run(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                self.seconds[part.format(*arguments)] += time.perf_counter() - start

        return run


def compute_metrics(vectors: np.ndarray, views: np.ndarray) -> dict[str, float]:
    """Metrics of one layer, from the vectors of texts, (n, dim), and of their views, (n_views, n, dim)."""
    return {
        "dataset_entropy": float(metrics.dataset_entropy(vectors)),
        "effective_rank": float(metrics.effective_rank(vectors)),
        "infonce": float(metrics.infonce(views[0], views[1])),
        "dime": float(metrics.dime(views[0], views[1])),
        "lidar": float(metrics.lidar(views.swapaxes(0, 1))),
    }


def main() -> None:
    """Print the ratio and the shares."""
    parser = build_parser(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--texts", type=int, default=100)
    arguments = parser.parse_args()
    print(describe_machine())
    encoder = LayerwiseEncoder(arguments.model, final_norm=False, device="cpu")
    texts = sample_texts(starter_texts(), arguments.texts, tokenizer=encoder.backbone.tokenizer)
    encoder.encode(texts[:32])  # warm-up
    shares = Shares()
    with (
        patch(
            "midlayer_embed.selection.representations.augmented_views",
            shares.wrap("augmenting the texts", augmented_views),
        ),
        patch("midlayer_embed.metrics.curvature", shares.wrap("curvature", metrics.curvature)),
        patch("midlayer_embed.metrics.prompt_entropy", shares.wrap("prompt entropy", metrics.prompt_entropy)),
        patch.object(Representations, "_value", shares.wrap("{1}", Representations._value)),
    ):
        ours, profile = time_call(lambda: profile_layers(encoder, texts, PAPER_METRICS, max_texts=None))
    if encoder.backbone.final_norm is not None:  # make the plain model return raw states as well
        encoder.backbone.final_norm.register_forward_hook(lambda _module, args, _out: args[0])
    views, where = distinct([text for view in augmented_views(texts, n_views(PAPER_METRICS)) for text in view])
    corpora = [build_batches(encoder, corpus) for corpus in (texts, views)]
    plain, vectors = time_call(lambda: [plain_vectors(encoder, batches) for batches in corpora])
    n_tokens = sum(batch.n_tokens for batches in corpora for batch in batches)
    expected = compute_metrics(vectors[0], vectors[1][where].reshape(n_views(PAPER_METRICS), len(texts), -1))
    for name, value in expected.items():
        np.testing.assert_allclose(profile.values[name][-1], value, rtol=TOLERANCE, err_msg=name)
    print(f"model {encoder.checkpoint.name}, {profile.n_texts} texts, {profile.n_layers} layers, {n_tokens} tokens")
    print(f"forward passes alone: {plain.seconds:.1f} s; profile: {ours.seconds:.1f} s, by part:")
    passes = ours.seconds - sum(shares.seconds.values())
    for part, seconds in [
        ("forward passes, pooling, storing", passes),
        *sorted(shares.seconds.items(), key=lambda item: -item[1]),
    ]:
        print(f"  {part:<34} {seconds:7.1f} s {seconds / ours.seconds:6.1%}")
    ratio, cpu_ratio = ours.over(plain)
    note = format_cpu_ratio(cpu_ratio)
    report_rows(
        [Row("profile, all seven metrics", "its forward passes", ratio, TARGET, at_least=False, note=note)],
        arguments.rows,
    )


if __name__ == "__main__":
    main()
