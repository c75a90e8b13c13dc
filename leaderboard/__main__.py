"""`python -m leaderboard` is `midlayer-leaderboard`."""

import sys

from leaderboard.cli.program import main

if __name__ == "__main__":
    sys.exit(main())
