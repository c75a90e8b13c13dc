"""What all layers cost over the last one: peak memory and time of one pass over the same batches.

    python benchmarks/all_layers_pass.py [--model MODEL] [--texts N]

Each pass runs in a process of its own, on the same texts, after one untimed pass. Memory is the resident set that the
kernel counted during the timed pass (Linux only), weights and libraries included, and the vectors are dropped batch by
batch, as a sweep does that writes them to disk. The last layer's vectors are asserted to be equal.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np


def texts(n: int) -> list[str]:
    """Sentences of about 8 to 150 words: the starter benchmark's, alone and joined."""
    from midlayer_embed.starter_corpus import read_corpus

    found = [item.text for item in read_corpus()]
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(found, size=size)) for size in rng.integers(1, 12, size=n)]


def one_pass(model: str, n_texts: int, layers: str) -> dict[str, float | int | list[float]]:
    """Runs one pass and says what it took."""
    import torch

    from midlayer_embed import LayerwiseEncoder

    encoder = LayerwiseEncoder(model)
    wanted = list(range(encoder.n_layers)) if layers == "all" else [encoder.n_layers - 1]
    corpus = texts(n_texts)
    last = np.zeros((len(corpus), encoder.dim), dtype=np.float32)
    seconds = []
    for _ in range(2):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew from here
        start = time.perf_counter()
        for pooled in encoder.pooled_batches(corpus, wanted, norms=[True]):
            last[pooled.rows] = pooled.vectors[0, -1]
        seconds.append(time.perf_counter() - start)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "peak_mb": int(status["VmHWM"].split()[0]) / 1024,
        "seconds": seconds[-1],
        "layers": len(wanted),
        "threads": torch.get_num_threads(),
        "last": last[:20].astype(float).ravel().tolist(),
    }


def main() -> None:
    """Prints both ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--texts", type=int, default=150)
    parser.add_argument("--only", choices=["all", "last"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(one_pass(arguments.model, arguments.texts, arguments.only)))
        return
    command = [sys.executable, __file__, "--model", arguments.model, "--texts", str(arguments.texts), "--only"]
    found = {}
    for layers in ("last", "all"):
        done = subprocess.run([*command, layers], check=True, stdout=subprocess.PIPE, text=True)
        found[layers] = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_allclose(found["all"].pop("last"), found["last"].pop("last"), atol=1e-5)
    print(f"model {arguments.model}, {arguments.texts} texts, {found['all']['threads']} threads, {platform.machine()}")
    for layers, figures in found.items():
        print(f"{layers:>4}: {figures['layers']} layers, peak {figures['peak_mb']:.0f} MB, {figures['seconds']:.2f} s")
    for key, name, limit in (("peak_mb", "peak memory", 1.15), ("seconds", "time", None)):
        ratio = found["all"][key] / found["last"][key]
        print(f"all layers over last layer, {name}: {ratio:.3f}" + (f" (at most {limit})" if limit else ""))
        if limit and ratio > limit:
            sys.exit(f"{name}: {ratio:.3f} is above {limit}")


if __name__ == "__main__":
    main()
