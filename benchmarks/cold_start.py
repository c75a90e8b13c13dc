"""How long until there is something to see: `midlayer-embed --help`, and the first vector of a model from the cache.

    python benchmarks/cold_start.py [--model MODEL] [--layer K] [--starts N]

Each start is a process of its own, timed from outside; the best counts. The first ones, which read files that nobody
has read yet and convert the starter model where that has not been done, do not. Beside the first vector of
`MidLayerEncoder` stand that of `LayerwiseEncoder`, which needs no sentence-transformers, and the import of the
libraries alone. The vectors are asserted to be equal, and the help to name every command.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from bench import Row, hand_in, machine, parser

TEXT = "Which layer embeds best?"
COMMANDS = ("profile", "select", "export", "encode")
FIRST_VECTORS = {
    "MidLayerEncoder": """
import sys
from midlayer_embed import MidLayerEncoder
print(MidLayerEncoder(sys.argv[1], int(sys.argv[2])).encode(sys.argv[3]).tolist())
""",
    "LayerwiseEncoder": """
import sys
from midlayer_embed import LayerwiseEncoder
print(LayerwiseEncoder(sys.argv[1]).encode(sys.argv[3], [int(sys.argv[2])])[0].tolist())
""",
}


def best_start(command: list[str], n_starts: int) -> tuple[float, str]:
    """Seconds of a whole process, and what it printed; the first start does not count."""
    seconds = []
    for _ in range(n_starts + 1):
        start = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:]), done.stdout


def main() -> None:
    """Prints both."""
    arguments_of = parser(__doc__)
    arguments_of.add_argument("--model", default="starter")
    arguments_of.add_argument("--layer", type=int, default=-1)
    arguments_of.add_argument("--starts", type=int, default=2)
    arguments = arguments_of.parse_args()
    print(machine())
    program = str(Path(sys.executable).parent / "midlayer-embed")
    help_seconds, printed = best_start([program, "--help"], arguments.starts)
    assert all(command in printed for command in COMMANDS), printed
    print(f"midlayer-embed --help: {help_seconds:.2f} s")
    imports = {
        names: best_start([sys.executable, "-c", f"import {names}"], arguments.starts)[0]
        for names in ("torch", "sentence_transformers")
    }
    for names, seconds in imports.items():
        print(f"import {names}: {seconds:.2f} s")
    firsts, vectors = {}, {}
    for name, code in FIRST_VECTORS.items():
        command = [sys.executable, "-c", code, arguments.model, str(arguments.layer), TEXT]
        firsts[name], printed = best_start(command, arguments.starts)
        vectors[name] = json.loads(printed.splitlines()[-1])
        print(f"first vector of {name}: {firsts[name]:.2f} s", flush=True)
    np.testing.assert_allclose(vectors["MidLayerEncoder"], vectors["LayerwiseEncoder"], atol=1e-4, rtol=1e-4)
    first, libraries = firsts["MidLayerEncoder"], imports["sentence_transformers"]
    hand_in(
        [
            Row("cold start: midlayer-embed --help", "-", help_seconds, 1.0, at_least=False, unit=" s"),
            Row(
                f"cold start: first vector of {arguments.model}, layer {arguments.layer}, from the cache",
                "-",
                first,
                6.0,
                at_least=False,
                unit=" s",
                beside=f"{firsts['LayerwiseEncoder']:.3g} s by LayerwiseEncoder",
                reason=f"`import sentence_transformers` alone takes {libraries:.1f} s of the {first:.1f} s",
            ),
        ],
        arguments.rows,
    )


if __name__ == "__main__":
    main()
