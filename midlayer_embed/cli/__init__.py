"""The command line `midlayer-embed`, one module per command."""

from midlayer_embed.cli.program import main

__all__ = ["main"]
