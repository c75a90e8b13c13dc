"""`python -m leaderboard.sweep.executors.attached MODULE ...` is `python -m MODULE ...`, and ends with its parent."""

import runpy
import sys

from midlayer_embed.sharing.attached import end_with_parent


def main() -> None:
    """Runs the module."""
    end_with_parent()
    module, *sys.argv[1:] = sys.argv[1:]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
