"""A corpus over two shards: `encode --shard 1/2` and `2/2` at once, one core each, against one process on one core.

    python -m benchmarks.encoding.shards [--model MODEL] [--layer N] [--texts N] [--files N]

Whole commands are timed from outside, so starting the processes and loading the model count. One process on all cores
is timed as well. Checks that parts and manifest are the same, byte for byte, of all of them.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.bench import Row, build_parser, describe_machine, report_rows
from midlayer_embed.sharing.parts import balanced
from midlayer_embed.texts.corpora import starter_texts

TARGET = 1.6


def write_corpus(folder: Path, n_texts: int, n_files: int) -> list[int]:
    """Write texts into files of different sizes; returns the sizes."""
    texts = starter_texts()
    texts = [f"{texts[number % len(texts)]} {number // len(texts)}" for number in range(n_texts)]
    weights = np.arange(1, n_files + 1)
    ends = (np.cumsum(weights) * n_texts // weights.sum()).tolist()
    for number, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        (folder / f"{number:03}.txt").write_text("".join(f"{' '.join(text.split())}\n" for text in texts[start:end]))
    return [path.stat().st_size for path in sorted(folder.iterdir())]


def run_together(commands: list[list[str]], n_threads: int) -> float:
    """Run commands at once; returns the seconds until the last one ends."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(n_threads), "HF_HUB_OFFLINE": "1"}
    start = time.perf_counter()
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for command in commands]
    codes = [process.wait() for process in processes]
    assert not any(codes), codes
    return time.perf_counter() - start


def contents(folder: Path) -> dict[str, bytes]:
    """What a folder holds, by name."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def main() -> None:
    """Print the ratio."""
    parser = build_parser(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--layer", default="12")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--files", type=int, default=8)
    arguments = parser.parse_args()
    print(describe_machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus").mkdir()
        sizes = write_corpus(folder / "corpus", arguments.texts, arguments.files)
        loads = [sum(sizes[number] for number in part) for part in balanced(sizes, 2)]
        print(f"{arguments.texts} texts in {len(sizes)} files; shards of {loads[0]:,} and {loads[1]:,} bytes")

        def command(target: str, *more: str) -> list[str]:
            encode = [sys.executable, "-m", "midlayer_embed", "encode", arguments.model, "--layer", arguments.layer]
            return [*encode, "--input", str(folder / "corpus"), "--output", str(folder / target), "--quiet", *more]

        one = run_together([command("one")], 1)
        two = run_together([command("two", "--shard", f"{index}/2") for index in (1, 2)], 1)
        cores = os.cpu_count() or 1
        all_cores = run_together([command("all")], cores)
        expected = contents(folder / "one")
        assert len(expected) == 2 * len(sizes) + 1
        assert contents(folder / "two") == expected
        assert contents(folder / "all") == expected
    print(f"one process on one core {one:.1f} s, on {cores} cores {all_cores:.1f} s; two shards {two:.1f} s")
    report_rows(
        [
            Row(
                "`encode` of a corpus over two shards, one core each",
                "one process on one core",
                one / two,
                TARGET,
                note=f"{all_cores / two:.4g}x one process on {cores} cores",
            )
        ],
        arguments.rows,
    )


if __name__ == "__main__":
    main()
