"""How time and memory grow with the texts, the layers and the lengths: against the plain forward pass, and not at all.

    python benchmarks/growth.py [--model MODEL] [--blocks N] [--texts N] [--lines N]

Time: `LayerwiseEncoder.encode` of all layers against the plain model over the same batches, each at some size and at
twice that, the best of several times in turns; the row is how many times faster the one grows than the other. The model
is cut to some blocks, and to twice as many. Its last layer's vectors are asserted to be the plain model's.

Memory: `encode_file` over a file and over one twice as long, in processes of their own, at layer 0. A chunk has few
distinct texts, so that 100,000 lines take no more than seconds of forward passes; the vectors of all lines are written,
and asserted to be equal where the files are. The row is the share of the vectors by which the peak grows: 1 or more
where they are held, 0 but for noise where it is flat.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from bench import Row, Timing, cpu_ratio, hand_in, in_a_process_of_its_own, in_turns, machine, memory_mb, parser
from forward_pass import batches_of, joined_sentences, plain_vectors

from midlayer_embed import LayerwiseEncoder, MidLayerEncoder
from midlayer_embed.bulk.encode_file import encode_file

ROUNDS = 5
N_TOKENS = 64
SENTENCES = 40  # more than twice as many tokens, which they are cut to
DISTINCT = 64
FASTER = 1.1  # equal, but for noise
FLAT = 0.2


class Size:
    """Something to encode, our way and the plain one.

    Args:
        folder: The model.
        n_texts: How many texts.
        n_tokens: Of each.
    """

    def __init__(self, folder: str, n_texts: int, n_tokens: int) -> None:
        self._encoder = LayerwiseEncoder(folder, max_seq_length=n_tokens, device="cpu")
        self._texts = joined_sentences([SENTENCES] * n_texts)
        self._batches = batches_of(self._encoder, self._texts)
        assert {batch.input_ids.shape[1] for batch in self._batches} == {n_tokens}
        np.testing.assert_allclose(self.ours()[:, -1], self.plain(), atol=1e-5, rtol=1e-4)

    def ours(self) -> np.ndarray:
        """Every layer's vectors."""
        return self._encoder.encode(self._texts)

    def plain(self) -> np.ndarray:
        """The last layer's."""
        return plain_vectors(self._encoder, self._batches)


def growths(model: str, blocks: int, n_texts: int) -> list[Row]:
    """A row for each thing that is doubled."""
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
    works: dict[str, Callable[[], object]] = {}
    for name, size in sizes.items():
        works |= {f"{name}, plain": size.plain, f"{name}, ours": size.ours}
    best = {name: timing for name, (timing, _) in in_turns(ROUNDS, works).items()}
    print(f"{n_texts} texts of {N_TOKENS} tokens, {blocks} blocks, and twice as many of each")
    rows = []
    for name in sizes:
        ours, plain = best[f"{name}, ours"], best[f"{name}, plain"]
        print(f"{name:>7}: every layer {ours.seconds:.2f} s, plain forward pass {plain.seconds:.2f} s", flush=True)
        if name != base:
            mine, its = Timing(*ours.over(best[f"{base}, ours"])), Timing(*plain.over(best[f"{base}, plain"]))
            ratio, of_cpu = mine.over(its)
            beside = f"{mine.seconds:.3g}x to {its.seconds:.3g}x; {cpu_ratio(of_cpu)}"
            rows.append(
                Row(f"growth of time, {name} x2", "plain forward pass's growth", ratio, FASTER, False, "x", beside)
            )
    return rows


def peak_mb(model: str, source: Path, target: Path) -> float:
    """Of this process, as it encodes a file."""
    encode_file(model, 0, source, target)
    return memory_mb("VmHWM")


def memory_growth(model: str, n_lines: int) -> Row:
    """Peak memory over a file twice as long."""
    with tempfile.TemporaryDirectory() as scratch:
        peaks, vectors = {}, {}
        for n in (n_lines, 2 * n_lines):
            source, target = Path(scratch) / f"{n}.txt", Path(scratch) / f"{n}.npy"
            lines = joined_sentences([1] * DISTINCT) * (n // DISTINCT)
            source.write_text("\n".join(lines) + "\n", encoding="utf-8")
            peaks[n] = in_a_process_of_its_own(peak_mb, model, source, target)
            vectors[n] = np.load(target, mmap_mode="r")
            assert len(vectors[n]) == len(lines)
            print(f"{len(lines)} lines: peak {peaks[n]:.0f} MB; vectors {vectors[n].nbytes / 2**20:.0f} MB", flush=True)
        np.testing.assert_array_equal(vectors[2 * n_lines][: len(vectors[n_lines])], vectors[n_lines])
    more = peaks[2 * n_lines] - peaks[n_lines]
    ratio = more / ((vectors[2 * n_lines].nbytes - vectors[n_lines].nbytes) / 2**20)
    what = "growth of peak memory of bulk encode, texts x2"
    return Row(what, "growth of the vectors", ratio, FLAT, at_least=False, beside=f"{more:.0f} MB")


def main() -> None:
    """Prints the ratios."""
    arguments_of = parser(__doc__)
    arguments_of.add_argument("--model", default="starter")
    arguments_of.add_argument("--blocks", type=int, default=5)
    arguments_of.add_argument("--texts", type=int, default=64)
    arguments_of.add_argument("--lines", type=int, default=50_000)
    arguments = arguments_of.parse_args()
    print(machine())
    memory = memory_growth(arguments.model, arguments.lines)
    hand_in([*growths(arguments.model, arguments.blocks, arguments.texts), memory], arguments.rows)


if __name__ == "__main__":
    main()
