"""Start-up time: `midlayer-embed --help`, and the first vector of a cached model in a new process.

    python -m benchmarks.encoding.cold_start [--model MODEL] [--starts N]

Each start is a new process, timed from outside; the best start counts. The first vector of `MidLayerEncoder` is
compared with plain SentenceTransformer on the exported folder, with `LayerwiseEncoder`, which does not import
sentence-transformers, and with `SavedEncoder` on an exported layer, by ONNX Runtime and by torch. Import time is split
by package, as measured by `python -X importtime`. Checks that the vectors are equal, that the help lists every command,
and that `SavedEncoder` imports none of sklearn, datasets and sentence-transformers, and by ONNX Runtime no scipy, torch
and transformers either.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks.bench import Row, build_parser, describe_machine, report_rows
from midlayer_embed import MidLayerEncoder
from midlayer_embed.encoder.onnx.graph import write_graph
from midlayer_embed.encoder.onnx.names import FOLDER, MODEL_FILE

TEXT = "Which layer embeds best?"
COMMANDS = ("profile", "select", "export", "encode")
OURS, PLAIN, EVERY = "MidLayerEncoder", "plain SentenceTransformer", "LayerwiseEncoder"
LIGHT_ONNX, LIGHT_TORCH = "SavedEncoder by ONNX Runtime", "SavedEncoder by torch"
_LIGHT = """
import sys
from midlayer_embed import SavedEncoder
print(SavedEncoder(sys.argv[1], {backend!r}).encode(sys.argv[2]).tolist())
"""
FIRST_VECTORS = {
    OURS: """
import sys
from midlayer_embed import MidLayerEncoder
print(MidLayerEncoder(sys.argv[1], -1).encode(sys.argv[2]).tolist())
""",
    PLAIN: """
import sys
from sentence_transformers import SentenceTransformer
print(SentenceTransformer(sys.argv[1]).encode(sys.argv[2]).tolist())
""",
    EVERY: """
import sys
from midlayer_embed import LayerwiseEncoder
print(LayerwiseEncoder(sys.argv[1]).encode(sys.argv[2], [-1])[0].tolist())
""",
    LIGHT_ONNX: _LIGHT.format(backend="onnx"),
    LIGHT_TORCH: _LIGHT.format(backend="torch"),
}
# The layer of the folder that the light reader reads.
LAYER = 7
# What the light reader must not import.
NOT_IMPORTED = {
    LIGHT_ONNX: {"sklearn", "scipy", "datasets", "pandas", "torch", "transformers", "sentence_transformers"},
    LIGHT_TORCH: {"sklearn", "datasets", "pandas", "sentence_transformers"},
}
# A line of `-X importtime`: microseconds of the module itself, microseconds with its imports, module name.
_IMPORT = re.compile(r"import time: +(\d+) \| +\d+ \| *([\w.]+)")
_N_PACKAGES = 12


def best_start(command: list[str], n_starts: int) -> tuple[float, str]:
    """Run a command several times; returns the seconds of the fastest process, and its output."""
    seconds = []
    for _ in range(n_starts):
        start = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        seconds.append(time.perf_counter() - start)
    return min(seconds), done.stdout


def import_seconds(command: list[str]) -> Counter[str]:
    """Seconds that a process spends importing the modules of each package, without their own imports."""
    environment = {**os.environ, "PYTHONPROFILEIMPORTTIME": "1"}
    log = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stderr
    seconds: Counter[str] = Counter()
    for microseconds, module in _IMPORT.findall(log):
        seconds[module.split(".")[0]] += int(microseconds) / 1e6
    return seconds


def reason(packages: Counter[str]) -> str:
    """Why a start takes long: the libraries that it imports."""
    libraries = packages.total() - packages["midlayer_embed"]
    most = ", ".join(f"{package} {seconds:.1f} s" for package, seconds in packages.most_common(4))
    return f"importing libraries takes {libraries:.1f} s: {most}, and others by package below"


def main() -> None:
    """Print the times."""
    parser = build_parser(__doc__)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--starts", type=int, default=2)
    arguments = parser.parse_args()
    print(describe_machine())
    program = str(Path(sys.executable).parent / "midlayer-embed")
    help_seconds, printed = best_start([program, "--help"], arguments.starts)
    assert all(command in printed for command in COMMANDS), printed
    print(f"midlayer-embed --help: {help_seconds:.2f} s")
    firsts, vectors = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        last, light = f"{folder}/last", f"{folder}/light"
        MidLayerEncoder(arguments.model, -1).save_pretrained(last)
        encoder = MidLayerEncoder(arguments.model, LAYER)
        encoder.save_pretrained(light)
        graph = Path(light) / FOLDER / MODEL_FILE
        graph.parent.mkdir()
        write_graph(encoder, graph, embedding=True)
        at_layer = encoder.encode(TEXT)
        models = {OURS: arguments.model, PLAIN: last, EVERY: arguments.model, LIGHT_ONNX: light, LIGHT_TORCH: light}
        for name, code in FIRST_VECTORS.items():
            firsts[name], printed = best_start([sys.executable, "-c", code, models[name], TEXT], arguments.starts)
            vectors[name] = json.loads(printed.splitlines()[-1])
            print(f"first vector of {name}: {firsts[name]:.2f} s", flush=True)
        packages = {
            name: import_seconds([sys.executable, "-c", FIRST_VECTORS[name], models[name], TEXT])
            for name in (OURS, *NOT_IMPORTED)
        }
    for name in firsts:
        expected = at_layer if name in NOT_IMPORTED else vectors[OURS]
        np.testing.assert_allclose(vectors[name], expected, atol=1e-4, rtol=1e-4)
    for name, of_name in packages.items():
        unwanted = NOT_IMPORTED.get(name, set()) & of_name.keys()
        assert not unwanted, f"{name} imports {unwanted}"
        print(f"imports of {name}: {of_name.total():.1f} s, by package:")
        for package, seconds in of_name.most_common(_N_PACKAGES):
            print(f"  {package:<24}{seconds:6.2f} s")
        print(f"  {'midlayer_embed':<24}{of_name['midlayer_embed']:6.2f} s")
    report_rows(
        [
            Row("cold start: midlayer-embed --help", "-", help_seconds, 1.0, at_least=False, unit=" s"),
            Row(
                f"cold start: first vector of {arguments.model}, layer -1, from the cache",
                "-",
                firsts[OURS],
                6.0,
                at_least=False,
                unit=" s",
                note=", ".join(f"{firsts[name]:.3g} s by {name}" for name in (PLAIN, EVERY)),
                reason=reason(packages[OURS]),
            ),
            *(
                Row(
                    f"cold start: first vector of the exported layer {LAYER}, {name}",
                    "-",
                    firsts[name],
                    6.0,
                    at_least=False,
                    unit=" s",
                    reason=reason(packages[name]),
                )
                for name in NOT_IMPORTED
            ),
        ],
        arguments.rows,
    )


if __name__ == "__main__":
    main()
