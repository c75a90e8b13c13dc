"""Time and peak memory of encoding all layers, over the last layer of the plain model with the same batches.

    python -m benchmarks.encoding.all_layers_pass [--model MODEL] [--texts N]

Time is the best of several passes in turns. Memory is the peak of the resident set (Linux only) of a pass in its own
process, with the weights, minus the memory of the libraries. Vectors are dropped batch by batch, as in a sweep, which
writes them to disk. Checks that the vectors of the last layer are equal.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from benchmarks.bench import (
    Row,
    build_parser,
    describe_machine,
    format_cpu_ratio,
    memory_mb,
    report_rows,
    reset_peak_memory,
    run_in_fork,
    time_in_turns,
)
from benchmarks.encoding.forward_pass import build_batches, build_texts, plain_vectors
from midlayer_embed import LayerwiseEncoder

ROUNDS = 3


def encode_all_layers(encoder: LayerwiseEncoder, texts: Sequence[str]) -> np.ndarray:
    """Encode texts at every layer; returns the vectors of the last one."""
    vectors = np.zeros((len(texts), encoder.dim), dtype=np.float32)
    for pooled in encoder.pooled_batches(texts, range(encoder.n_layers), norms=[True]):
        vectors[pooled.rows] = pooled.vectors[0, -1]
    return vectors


def peak_mb(model: str, texts: Sequence[str], which: str) -> float:
    """Peak memory of the model and one pass, after a warm-up pass over some of the texts."""
    before = memory_mb("VmRSS")
    encoder = LayerwiseEncoder(model)
    for part in (texts[:16], texts):
        reset_peak_memory()
        if which == "all":
            encode_all_layers(encoder, part)
        else:
            plain_vectors(encoder, build_batches(encoder, part))
    return memory_mb("VmHWM") - before


def main() -> None:
    """Print both ratios."""
    parser = build_parser(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--texts", type=int, default=80)
    arguments = parser.parse_args()
    # Sentences of about 8 to 150 words.
    texts = build_texts(np.random.default_rng(0).integers(1, 12, size=arguments.texts).tolist())
    print(describe_machine())
    peaks = {which: run_in_fork(peak_mb, arguments.model, texts, which) for which in ("plain", "all")}
    encoder = LayerwiseEncoder(arguments.model)
    batches = build_batches(encoder, texts)
    np.testing.assert_allclose(encode_all_layers(encoder, texts), plain_vectors(encoder, batches), atol=1e-5, rtol=1e-4)
    passes = {"plain": partial(plain_vectors, encoder, batches), "all": partial(encode_all_layers, encoder, texts)}
    timings = {which: timing for which, (timing, _) in time_in_turns(ROUNDS, passes).items()}
    n_tokens = sum(batch.n_tokens for batch in batches)
    print(f"model {encoder.checkpoint.name}, {len(texts)} texts, {n_tokens} tokens in {len(batches)} batches")
    for which, label in (("plain", "last layer, plain"), ("all", f"all {encoder.n_layers} layers")):
        seconds, cpu_seconds = timings[which]
        print(f"{label:>17}: {seconds:.2f} s, {cpu_seconds:.2f} CPU s, peak {peaks[which]:.0f} MB")
    ratio, cpu_ratio = timings["all"].over(timings["plain"])
    plain = "plain last-layer forward"
    memory = f"{peaks['all']:.0f} to {peaks['plain']:.0f} MB"
    report_rows(
        [
            Row("all-layers pass, time", plain, ratio, 1.05, at_least=False, note=format_cpu_ratio(cpu_ratio)),
            Row("all-layers pass, peak memory", plain, peaks["all"] / peaks["plain"], 1.1, False, note=memory),
        ],
        arguments.rows,
    )


if __name__ == "__main__":
    main()
