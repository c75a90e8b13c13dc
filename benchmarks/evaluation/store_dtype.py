"""Disk space and change of scores with a float16 store, compared with a float32 store.

    python -m benchmarks.evaluation.store_dtype [--model MODEL] [--tasks TASK ...] [--layers LAYERS]

Both sweeps use the same model and tasks, without metrics.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from leaderboard import run_sweep
from leaderboard.sweep.plan import Plan
from midlayer_embed.layers import parse_layer


def main() -> None:
    """Print one line per task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--layers", default="0,0.25,0.5,0.75,-1")
    arguments = parser.parse_args()
    disk: dict[str, int] = {}
    scores = {}
    with tempfile.TemporaryDirectory() as scratch:
        for dtype in ("float32", "float16"):

            def record_disk(plan: Plan, dtype: str = dtype) -> bool:
                disk[dtype] = sum(task.disk for task in plan.tasks)
                return True

            board = run_sweep(
                arguments.model,
                arguments.tasks or "starter",
                Path(scratch) / dtype,
                layers=[parse_layer(layer) for layer in arguments.layers.split(",")],
                metrics="none",
                store_dtype=dtype,
                show_progress=False,
                on_plan=record_disk,
            )
            scores[dtype] = board.scores
    share, n_layers = disk["float16"] / disk["float32"], scores["float32"]["layer"].n_unique()
    print(f"{arguments.model}, layers {arguments.layers}: disk space {share:.2f} of that of float32")
    print(f"{'':<28} {'mean':>10} {'largest':>10}   (change in points, over {n_layers} layers)")
    for name in scores["float32"]["task"].unique(maintain_order=True):
        full, half = (scores[dtype].filter(task=name).sort("layer")["main_score"].to_numpy() for dtype in scores)
        changes = 100 * np.abs(half - full)
        print(f"{name:<28} {changes.mean():>10.4f} {changes.max():>10.4f}")


if __name__ == "__main__":
    main()
