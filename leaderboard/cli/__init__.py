"""The command line `midlayer-leaderboard`, one module a command."""

from leaderboard.cli.program import main

__all__ = ["main"]
