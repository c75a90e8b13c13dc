"""What a float16 store does to scores: the disk that it takes and how far scores move, over one float32 store.

    python benchmarks/store_dtype.py [--model MODEL] [--tasks TASK ...] [--layers LAYERS]

Both sweeps are of the same model and tasks, without metrics.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from leaderboard import run_sweep
from leaderboard.sweep.plan import Plan
from midlayer_embed.layers import parse_layer


def main() -> None:
    """Prints a line a task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="starter")
    parser.add_argument("--tasks", nargs="+")
    parser.add_argument("--layers", default="0,0.25,0.5,0.75,-1")
    arguments = parser.parse_args()
    disk: dict[str, int] = {}
    scores = {}
    with tempfile.TemporaryDirectory() as scratch:
        for dtype in ("float32", "float16"):

            def note(plan: Plan, dtype: str = dtype) -> bool:
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
                on_plan=note,
            )
            scores[dtype] = board.scores
    print(f"{arguments.model}, layers {arguments.layers}: disk {disk['float16'] / disk['float32']:.2f} of float32's")
    print(f"{'':<28} {'mean move':>10} {'largest':>10}   (points, of {scores['float32']['layer'].n_unique()} layers)")
    for name in scores["float32"]["task"].unique(maintain_order=True):
        full, half = (scores[dtype].filter(task=name).sort("layer")["main_score"].to_numpy() for dtype in scores)
        moves = 100 * np.abs(half - full)
        print(f"{name:<28} {moves.mean():>10.4f} {moves.max():>10.4f}")


if __name__ == "__main__":
    main()
