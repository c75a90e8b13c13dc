"""How much of the machine the matrix products of a forward pass use: their GFLOP/s against the machine's own sgemm.

    python benchmarks/matrix_work.py [--model MODEL] [--texts N]

The pass is `LayerwiseEncoder.encode` of all layers over texts of 64 tokens, in batches as it makes them. torch.profiler
says what its matrix products take (aten::mm, addmm, bmm, baddbmm), and from their shapes how many operations they have;
the peak is the best of square products of several sizes in the same library, in turns with the pass. Attention, which
torch computes in one piece, is left out of both and named beside. The vectors are asserted to be the plain model's.
"""

from collections import defaultdict

import numpy as np
import torch
from bench import Row, hand_in, machine, parser, timed
from forward_pass import batches_of, joined_sentences, plain_vectors
from torch.profiler import ProfilerActivity, profile

from midlayer_embed import LayerwiseEncoder

ROUNDS = 3
N_TOKENS = 64
SENTENCES = 20  # more than 64 tokens, which they are cut to
SIZES = (512, 1024, 2048, 3072)
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
REACH = 65.0


def sgemm_gflops(size: int) -> float:
    """Of one square product, after another that wakes up the threads."""
    left, right = torch.rand(size, size), torch.rand(size, size)
    out = torch.empty(size, size)
    torch.mm(left, right, out=out)
    timing, _ = timed(lambda: torch.mm(left, right, out=out))
    return 2 * size**3 / timing.seconds / 1e9


def profiled(encoder: LayerwiseEncoder, texts: list[str]) -> tuple[dict[str, float], float]:
    """Seconds of each operation of a pass, itself alone, and the floating-point operations of its matrix products."""
    seconds: defaultdict[str, float] = defaultdict(float)
    flops = 0.0
    with profile(activities=[ProfilerActivity.CPU], with_flops=True, record_shapes=True) as found:
        encoder.encode(texts)
    for event in found.key_averages():
        seconds[event.key] += event.self_cpu_time_total / 1e6
        flops += event.flops if event.key in PRODUCTS else 0
    return seconds, flops


def main() -> None:
    """Prints the share of the peak, and what else the pass is spent on."""
    arguments_of = parser(__doc__)
    arguments_of.add_argument("--model", default="starter")
    arguments_of.add_argument("--texts", type=int, default=64)
    arguments = arguments_of.parse_args()
    print(machine())
    encoder = LayerwiseEncoder(arguments.model, max_seq_length=N_TOKENS, device="cpu")
    texts = joined_sentences([SENTENCES] * arguments.texts)
    batches = batches_of(encoder, texts)
    assert {batch.input_ids.shape[1] for batch in batches} == {N_TOKENS}
    np.testing.assert_allclose(encoder.encode(texts, [-1])[:, 0], plain_vectors(encoder, batches), atol=1e-5, rtol=1e-4)
    passes, peaks = [], dict.fromkeys(SIZES, 0.0)
    for _ in range(ROUNDS):
        for size in SIZES:
            peaks[size] = max(peaks[size], sgemm_gflops(size))
        passes.append(profiled(encoder, texts))

    def of_products(seconds: dict[str, float]) -> float:
        return sum(seconds.get(name, 0.0) for name in PRODUCTS)

    seconds, flops = min(passes, key=lambda found: of_products(found[0]))
    total, products, peak = sum(seconds.values()), of_products(seconds), max(peaks.values())
    print(
        f"model {encoder.checkpoint.name}, {len(texts)} texts in batches of {len(batches[0].rows)} x {N_TOKENS} tokens"
    )
    print("sgemm, GFLOP/s: " + ", ".join(f"{peaks[size]:.0f} of {size} x {size}" for size in SIZES))
    print(f"matrix products: {flops / 1e9:.0f} GFLOP in {products:.2f} s, {flops / products / 1e9:.0f} GFLOP/s")
    print(f"the pass: {total:.2f} s, {flops / total / 1e9:.0f} GFLOP/s, of which")
    others = sorted((item for item in seconds.items() if item[0] not in PRODUCTS), key=lambda item: -item[1])
    for name, spent in [("matrix products", products), *others[:10]]:
        print(f"  {name.removeprefix('aten::'):<44} {spent:7.2f} s {spent / total:6.1%}")
    share = 100 * flops / products / 1e9 / peak
    beside = f"{products / total:.1%} of the pass is matrix products"
    what = f"matrix work of the forward pass, {N_TOKENS}-token texts"
    hand_in([Row(what, "the machine's sgemm peak", share, REACH, unit="%", beside=beside)], arguments.rows)


if __name__ == "__main__":
    main()
