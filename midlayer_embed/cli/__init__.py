"""The command line `midlayer-embed`, one module a command."""

from midlayer_embed.cli.program import main

__all__ = ["main"]
