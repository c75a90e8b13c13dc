"""Efficiency of the matrix products in a forward pass: their GFLOP/s over the sgemm peak of the machine.

    python -m benchmarks.encoding.matrix_work [--model MODEL] [--texts N]

The pass is `LayerwiseEncoder.encode` of all layers on texts of 64 tokens, with its own batches. torch.profiler measures
the time of the matrix products (aten::mm, addmm, bmm, baddbmm) and counts their operations from the shapes. The peak is
the best of square products of several sizes in the same library, measured in turns with the pass. Attention is a fused
kernel in torch; it is excluded from both and listed separately. Checks that the vectors are those of the plain model.
"""

from collections import defaultdict

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.bench import Row, build_parser, describe_machine, report_rows, time_call
from benchmarks.encoding.forward_pass import build_batches, build_texts, plain_vectors
from midlayer_embed import LayerwiseEncoder

ROUNDS = 3
N_TOKENS = 64
SENTENCES = 20  # more than N_TOKENS tokens, to be truncated
SIZES = (512, 1024, 2048, 3072)
PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm")
TARGET = 65.0


def sgemm_gflops(size: int) -> float:
    """GFLOP/s of one square product, after a warm-up."""
    left, right = torch.rand(size, size), torch.rand(size, size)
    out = torch.empty(size, size)
    torch.mm(left, right, out=out)
    timing, _ = time_call(lambda: torch.mm(left, right, out=out))
    return 2 * size**3 / timing.seconds / 1e9


def profile_pass(encoder: LayerwiseEncoder, texts: list[str]) -> tuple[dict[str, float], float]:
    """Self time of each operation of a pass in seconds, and the floating-point operations of its matrix products."""
    seconds: defaultdict[str, float] = defaultdict(float)
    flops = 0.0
    with profile(activities=[ProfilerActivity.CPU], with_flops=True, record_shapes=True) as profiler:
        encoder.encode(texts)
    for event in profiler.key_averages():
        seconds[event.key] += event.self_cpu_time_total / 1e6
        flops += event.flops if event.key in PRODUCTS else 0
    return seconds, flops


def main() -> None:
    """Print the share of the peak, and the time of the other operations."""
    parser = build_parser(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--texts", type=int, default=64)
    arguments = parser.parse_args()
    print(describe_machine())
    encoder = LayerwiseEncoder(arguments.model, max_seq_length=N_TOKENS, device="cpu")
    texts = build_texts([SENTENCES] * arguments.texts)
    batches = build_batches(encoder, texts)
    assert {batch.input_ids.shape[1] for batch in batches} == {N_TOKENS}
    np.testing.assert_allclose(encoder.encode(texts, [-1])[:, 0], plain_vectors(encoder, batches), atol=1e-5, rtol=1e-4)
    passes, peaks = [], dict.fromkeys(SIZES, 0.0)
    for _ in range(ROUNDS):
        for size in SIZES:
            peaks[size] = max(peaks[size], sgemm_gflops(size))
        passes.append(profile_pass(encoder, texts))

    def product_seconds(seconds: dict[str, float]) -> float:
        return sum(seconds.get(name, 0.0) for name in PRODUCTS)

    seconds, flops = min(passes, key=lambda one: product_seconds(one[0]))
    total, products, peak = sum(seconds.values()), product_seconds(seconds), max(peaks.values())
    print(
        f"model {encoder.checkpoint.name}, {len(texts)} texts in batches of {len(batches[0].rows)} x {N_TOKENS} tokens"
    )
    print("sgemm, GFLOP/s: " + ", ".join(f"{peaks[size]:.0f} of {size} x {size}" for size in SIZES))
    print(f"matrix products: {flops / 1e9:.0f} GFLOP in {products:.2f} s, {flops / products / 1e9:.0f} GFLOP/s")
    print(f"the pass: {total:.2f} s, {flops / total / 1e9:.0f} GFLOP/s, by operation:")
    others = sorted((item for item in seconds.items() if item[0] not in PRODUCTS), key=lambda item: -item[1])
    for name, spent in [("matrix products", products), *others[:10]]:
        print(f"  {name.removeprefix('aten::'):<44} {spent:7.2f} s {spent / total:6.1%}")
    share = 100 * flops / products / 1e9 / peak
    note = f"{products / total:.1%} of the pass is matrix products"
    what = f"matrix work of the forward pass, {N_TOKENS}-token texts"
    report_rows([Row(what, "the machine's sgemm peak", share, TARGET, unit="%", note=note)], arguments.rows)


if __name__ == "__main__":
    main()
