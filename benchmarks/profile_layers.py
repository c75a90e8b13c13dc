"""What a profile of all seven metrics costs over the forward passes that it needs, and which part costs what.

    python benchmarks/profile_layers.py [--model MODEL] [--texts N]

In one process: the profile, then the plain model over the very same batches (the texts, and 16 views of each), without
hooks or metrics. The metrics of its last layer's vectors are asserted to be the profile's. The default of 100 texts is
a part; 500 take some 14 minutes on two cores.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
from bench import Row, cpu_ratio, hand_in, machine, parser, timed
from forward_pass import batches_of, plain_vectors

from midlayer_embed import LayerwiseEncoder, metrics, profile_layers
from midlayer_embed.forward.batching import distinct
from midlayer_embed.selection.representations import Representations
from midlayer_embed.terms import METRICS, n_views
from midlayer_embed.texts.corpora import sample_texts, starter_texts
from midlayer_embed.texts.views import augmented_views

REACH = 1.5
TOLERANCE = 1e-3


class Shares:
    """Adds up what parts of a run take."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time added to a part."""

        def run(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                self.seconds[part.format(*arguments)] += time.perf_counter() - start

        return run


def plain_metrics_of_last(vectors: np.ndarray, views: np.ndarray) -> dict[str, float]:
    """Metrics of the vectors (n, dim) of texts and (n_views, n, dim) of their views, at the layer they are of."""
    return {
        "dataset_entropy": float(metrics.dataset_entropy(vectors)),
        "effective_rank": float(metrics.effective_rank(vectors)),
        "infonce": float(metrics.infonce(views[0], views[1])),
        "dime": float(metrics.dime(views[0], views[1])),
        "lidar": float(metrics.lidar(views.swapaxes(0, 1))),
    }


def main() -> None:
    """Prints the ratio and the shares."""
    arguments_of = parser(__doc__)
    arguments_of.add_argument("--model", default="starter")
    arguments_of.add_argument("--texts", type=int, default=100)
    arguments = arguments_of.parse_args()
    print(machine())
    encoder = LayerwiseEncoder(arguments.model, final_norm=False, device="cpu")
    texts = sample_texts(starter_texts(), arguments.texts, tokenizer=encoder.backbone.tokenizer)
    encoder.encode(texts[:32])  # what happens once, happens here
    shares = Shares()
    with (
        patch(
            "midlayer_embed.selection.representations.augmented_views",
            shares.timed("augmenting the texts", augmented_views),
        ),
        patch("midlayer_embed.metrics.curvature", shares.timed("curvature", metrics.curvature)),
        patch("midlayer_embed.metrics.prompt_entropy", shares.timed("prompt entropy", metrics.prompt_entropy)),
        patch.object(Representations, "_at_slot", shares.timed("{1}", Representations._at_slot)),
    ):
        ours, profile = timed(lambda: profile_layers(encoder, texts, METRICS, max_texts=None))
    if encoder.backbone.final_norm is not None:  # the plain model gives the raw states, too
        encoder.backbone.final_norm.register_forward_hook(lambda _module, args, _out: args[0])
    views, where = distinct([text for view in augmented_views(texts, n_views(METRICS)) for text in view])
    corpora = [batches_of(encoder, some) for some in (texts, views)]
    plain, found = timed(lambda: [plain_vectors(encoder, batches) for batches in corpora])
    n_tokens = sum(batch.n_tokens for batches in corpora for batch in batches)
    expected = plain_metrics_of_last(found[0], found[1][where].reshape(n_views(METRICS), len(texts), -1))
    for name, value in expected.items():
        np.testing.assert_allclose(profile.values[name][-1], value, rtol=TOLERANCE, err_msg=name)
    print(f"model {encoder.checkpoint.name}, {profile.n_texts} texts, {profile.n_layers} layers, {n_tokens} tokens")
    print(f"forward passes alone: {plain.seconds:.1f} s; profile: {ours.seconds:.1f} s, of which")
    passes = ours.seconds - sum(shares.seconds.values())
    for part, seconds in [
        ("forward passes, pooling, storing", passes),
        *sorted(shares.seconds.items(), key=lambda item: -item[1]),
    ]:
        print(f"  {part:<34} {seconds:7.1f} s {seconds / ours.seconds:6.1%}")
    ratio, of_cpu = ours.over(plain)
    beside = cpu_ratio(of_cpu)
    hand_in(
        [Row("profile, all seven metrics", "its forward passes", ratio, REACH, at_least=False, beside=beside)],
        arguments.rows,
    )


if __name__ == "__main__":
    main()
