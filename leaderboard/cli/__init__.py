"""The command line `midlayer-leaderboard`, one module per command."""

from leaderboard.cli.program import main

__all__ = ["main"]
