"""What a profile of all seven metrics costs over the forward passes that it needs, and which part costs what.

    python benchmarks/profile_layers.py [--model MODEL] [--texts N]

In one process: the profile, then the plain model over the very same batches (the texts, and 16 views of each), without
hooks, pooling or metrics. The default of 100 texts is a part; 500 take some 14 minutes on two cores.
"""

import argparse
import platform
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch

from midlayer_embed import LayerwiseEncoder, profile_layers, representations
from midlayer_embed.batching import batches, distinct, token_budget, tokenize
from midlayer_embed.corpora import sample_texts, starter_texts
from midlayer_embed.representations import LIDAR_VIEWS, METRICS, Representations

LIMIT = 3.0


class Clock:
    """Adds up what parts of a run take."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its time added to a part."""

        def run(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                self.seconds[part.format(*arguments)] += time.perf_counter() - start

        return run


@torch.inference_mode()
def forward_alone(encoder: LayerwiseEncoder, texts: list[str]) -> tuple[float, int]:
    """Seconds and tokens of the plain model over the batches of the texts."""
    backbone = encoder.backbone
    token_ids = tokenize(backbone.tokenizer, distinct(texts)[0], encoder.max_seq_length)
    start = time.perf_counter()
    for batch in batches(token_ids, backbone.pad_id, token_budget(None, backbone.device)):
        backbone.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)
    return time.perf_counter() - start, sum(map(len, token_ids))


def main() -> None:
    """Prints the ratio and the shares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--texts", type=int, default=100)
    arguments = parser.parse_args()
    encoder = LayerwiseEncoder(arguments.model, final_norm=False, device="cpu")
    texts = sample_texts(starter_texts(), arguments.texts, tokenizer=encoder.backbone.tokenizer)
    encoder.encode(texts[:32])  # what happens once, happens here
    clock = Clock()
    with (
        patch.object(
            representations, "augmented_views", clock.timed("augmenting the texts", representations.augmented_views)
        ),
        patch.object(representations.metrics, "curvature", clock.timed("curvature", representations.metrics.curvature)),
        patch.object(
            representations.metrics,
            "prompt_entropy",
            clock.timed("prompt entropy", representations.metrics.prompt_entropy),
        ),
        patch.object(Representations, "_at_slot", clock.timed("{1}", Representations._at_slot)),
    ):
        start = time.perf_counter()
        profile = profile_layers(encoder, texts, METRICS, max_texts=None)
        total = time.perf_counter() - start
    views = representations.augmented_views(texts, LIDAR_VIEWS)
    plain, n_tokens = 0.0, 0
    for some in (texts, [text for view in views for text in view]):
        seconds, tokens = forward_alone(encoder, some)
        plain, n_tokens = plain + seconds, n_tokens + tokens
    print(
        f"model {encoder.checkpoint.name}, {profile.n_texts} texts, {profile.n_layers} layers, {n_tokens} tokens, "
        f"{torch.get_num_threads()} threads, {platform.machine()}"
    )
    print(f"forward passes alone: {plain:.1f} s; profile: {total:.1f} s, of which")
    passes = total - sum(clock.seconds.values())
    for part, seconds in [("forward passes, pooling, storing", passes), *clock.seconds.most_common()]:
        print(f"  {part:<34} {seconds:7.1f} s {seconds / total:6.1%}")
    ratio = total / plain
    print(f"profile over its forward passes alone: {ratio:.2f} (at most {LIMIT})")
    if ratio > LIMIT:
        sys.exit(f"{ratio:.2f} is above {LIMIT}")


if __name__ == "__main__":
    main()
