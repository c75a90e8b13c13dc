"""Growth of time with texts, layers and lengths, over the plain forward pass; growth of memory of bulk encode.

    python -m benchmarks.encoding.growth [--model MODEL] [--blocks N] [--texts N] [--lines N]

Time: `LayerwiseEncoder.encode` of all layers and the plain model over the same batches, each at a base size and at
twice that size, best of several calls in turns. The row is the ratio of the two growth factors. The model is truncated
to N blocks, and to twice as many. Checks that the vectors of the last layer are those of the plain model.

Memory: `encode_file` at layer 0 on a file and on one twice as long, each in its own process. Chunks have few distinct
texts, so that 100,000 lines take only seconds of forward passes; the vectors of all lines are written. Checks that the
vectors of equal lines are equal. The row is the growth of the peak divided by the growth of the vectors: 1 or more if
vectors are held in memory, 0 except for noise if memory is constant.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.bench import (
    Row,
    Timing,
    build_parser,
    describe_machine,
    format_cpu_ratio,
    memory_mb,
    report_rows,
    run_in_fork,
    time_in_turns,
)
from benchmarks.encoding.forward_pass import build_batches, build_texts, plain_vectors
from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.bulk.encode_file import encode_file

ROUNDS = 5
N_TOKENS = 64
SENTENCES = 40  # more than 2 * N_TOKENS tokens, to be truncated
DISTINCT = 64
TIME_TARGET = 1.1  # equal growth, except for noise
MEMORY_TARGET = 0.2  # constant memory, except for noise


class Size:
    """Texts of one size, to encode with this package and with the plain model.

    Args:
        folder: Folder of the model.
        n_texts: Number of texts.
        n_tokens: Tokens per text.
    """

    def __init__(self, folder: str, n_texts: int, n_tokens: int) -> None:
        self._encoder = LayerwiseEncoder(folder, max_seq_length=n_tokens, device="cpu")
        self._texts = build_texts([SENTENCES] * n_texts)
        self._batches = build_batches(self._encoder, self._texts)
        assert {batch.input_ids.shape[1] for batch in self._batches} == {n_tokens}
        np.testing.assert_allclose(self.ours()[:, -1], self.plain(), atol=1e-5, rtol=1e-4)

    def ours(self) -> np.ndarray:
        """Vectors of every layer, by this package."""
        return self._encoder.encode(self._texts)

    def plain(self) -> np.ndarray:
        """Vectors of the last layer, by the plain model."""
        return plain_vectors(self._encoder, self._batches)


def measure_time_growth(model: str, blocks: int, n_texts: int) -> list[Row]:
    """One row for each quantity that is doubled."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = {n: str(Path(scratch) / str(n)) for n in (blocks, 2 * blocks)}
        for n, folder in folders.items():
            MidLayerEncoder(model, n, device="cpu").save_pretrained(folder)
        base = "base"
        sizes = {
            base: Size(folders[blocks], n_texts, N_TOKENS),
            "texts": Size(folders[blocks], 2 * n_texts, N_TOKENS),
            "layers": Size(folders[2 * blocks], n_texts, N_TOKENS),
            "length": Size(folders[blocks], n_texts, 2 * N_TOKENS),
        }
    calls: dict[str, Callable[[], object]] = {}
    for name, size in sizes.items():
        calls |= {f"{name}, plain": size.plain, f"{name}, ours": size.ours}
    best = {name: timing for name, (timing, _) in time_in_turns(ROUNDS, calls).items()}
    print(f"{n_texts} texts of {N_TOKENS} tokens, {blocks} blocks, and twice as many of each")
    rows = []
    for name in sizes:
        ours, plain = best[f"{name}, ours"], best[f"{name}, plain"]
        print(f"{name:>7}: every layer {ours.seconds:.2f} s, plain forward pass {plain.seconds:.2f} s", flush=True)
        if name != base:
            our_growth = Timing(*ours.over(best[f"{base}, ours"]))
            plain_growth = Timing(*plain.over(best[f"{base}, plain"]))
            ratio, cpu_ratio = our_growth.over(plain_growth)
            note = f"{our_growth.seconds:.3g}x to {plain_growth.seconds:.3g}x; {format_cpu_ratio(cpu_ratio)}"
            what = f"growth of time, {name} x2"
            rows.append(Row(what, "plain forward pass's growth", ratio, TIME_TARGET, at_least=False, note=note))
    return rows


def peak_mb(model: str, source: Path, target: Path) -> float:
    """Encode a file; returns the peak memory of this process."""
    encode_file(model, 0, source, target)
    return memory_mb("VmHWM")


def measure_memory_growth(model: str, n_lines: int) -> Row:
    """Compare the peak memory for a file with that for one twice as long."""
    with tempfile.TemporaryDirectory() as scratch:
        peaks, vectors = {}, {}
        for n in (n_lines, 2 * n_lines):
            source, target = Path(scratch) / f"{n}.txt", Path(scratch) / f"{n}.npy"
            lines = build_texts([1] * DISTINCT) * (n // DISTINCT)
            source.write_text("\n".join(lines) + "\n", encoding="utf-8")
            peaks[n] = run_in_fork(peak_mb, model, source, target)
            vectors[n] = np.load(target, mmap_mode="r")
            assert len(vectors[n]) == len(lines)
            print(f"{len(lines)} lines: peak {peaks[n]:.0f} MB; vectors {vectors[n].nbytes / 2**20:.0f} MB", flush=True)
        np.testing.assert_array_equal(vectors[2 * n_lines][: len(vectors[n_lines])], vectors[n_lines])
    more = peaks[2 * n_lines] - peaks[n_lines]
    ratio = more / ((vectors[2 * n_lines].nbytes - vectors[n_lines].nbytes) / 2**20)
    what = "growth of peak memory of bulk encode, texts x2"
    return Row(what, "growth of the vectors", ratio, MEMORY_TARGET, at_least=False, note=f"{more:.0f} MB")


def main() -> None:
    """Print the ratios."""
    parser = build_parser(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--lines", type=int, default=50_000)
    arguments = parser.parse_args()
    print(describe_machine())
    memory = measure_memory_growth(arguments.model, arguments.lines)
    report_rows([*measure_time_growth(arguments.model, arguments.blocks, arguments.texts), memory], arguments.rows)


if __name__ == "__main__":
    main()
