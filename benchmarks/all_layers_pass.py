"""What all layers cost over the last one: time and peak memory of a pass, against the plain model over its batches.

    python benchmarks/all_layers_pass.py [--model MODEL] [--texts N]

Seconds are the best of several passes in turns. For memory each pass has a process of its own: the resident set that
the kernel counted (Linux only), weights included, less what the libraries took before. The vectors are dropped batch by
batch, as a sweep does that writes them to disk. The last layer's vectors are asserted to be equal.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
from bench import Row, cpu_ratio, forget_peak, hand_in, in_a_process_of_its_own, in_turns, machine, memory_mb, parser
from forward_pass import batches_of, joined_sentences, plain_vectors

from midlayer_embed import LayerwiseEncoder

ROUNDS = 3


def last_of_all(encoder: LayerwiseEncoder, texts: Sequence[str]) -> np.ndarray:
    """A pass over every layer: the last one's vectors."""
    vectors = np.zeros((len(texts), encoder.dim), dtype=np.float32)
    for pooled in encoder.pooled_batches(texts, range(encoder.n_layers), norms=[True]):
        vectors[pooled.rows] = pooled.vectors[0, -1]
    return vectors


def peak_mb(model: str, texts: Sequence[str], which: str) -> float:
    """Of the model and one pass, after another one over some of the texts, which wakes up the libraries."""
    before = memory_mb("VmRSS")
    encoder = LayerwiseEncoder(model)
    for some in (texts[:16], texts):
        forget_peak()
        if which == "all":
            last_of_all(encoder, some)
        else:
            plain_vectors(encoder, batches_of(encoder, some))
    return memory_mb("VmHWM") - before


def main() -> None:
    """Prints both ratios."""
    arguments_of = parser(__doc__)
    arguments_of.add_argument("--model", default="starter")
    arguments_of.add_argument("--texts", type=int, default=80)
    arguments = arguments_of.parse_args()
    # Sentences of about 8 to 150 words.
    texts = joined_sentences(np.random.default_rng(0).integers(1, 12, size=arguments.texts).tolist())
    print(machine())
    peaks = {which: in_a_process_of_its_own(peak_mb, arguments.model, texts, which) for which in ("plain", "all")}
    encoder = LayerwiseEncoder(arguments.model)
    batches = batches_of(encoder, texts)
    np.testing.assert_allclose(last_of_all(encoder, texts), plain_vectors(encoder, batches), atol=1e-5, rtol=1e-4)
    works = {"plain": partial(plain_vectors, encoder, batches), "all": partial(last_of_all, encoder, texts)}
    found = {which: timing for which, (timing, _) in in_turns(ROUNDS, works).items()}
    n_tokens = sum(batch.n_tokens for batch in batches)
    print(f"model {encoder.checkpoint.name}, {len(texts)} texts, {n_tokens} tokens in {len(batches)} batches")
    for which, label in (("plain", "last layer, plain"), ("all", f"all {encoder.n_layers} layers")):
        seconds, cpu_seconds = found[which]
        print(f"{label:>17}: {seconds:.2f} s, {cpu_seconds:.2f} CPU s, peak {peaks[which]:.0f} MB")
    ratio, of_cpu = found["all"].over(found["plain"])
    plain = "plain last-layer forward"
    memory = f"{peaks['all']:.0f} to {peaks['plain']:.0f} MB"
    hand_in(
        [
            Row("all-layers pass, time", plain, ratio, 1.05, at_least=False, beside=cpu_ratio(of_cpu)),
            Row("all-layers pass, peak memory", plain, peaks["all"] / peaks["plain"], 1.1, False, beside=memory),
        ],
        arguments.rows,
    )


if __name__ == "__main__":
    main()
