"""midlayer-embed: registers the commands. Each command is a module of this package."""

from collections.abc import Sequence

from midlayer_embed.cli.encode import add_encode
from midlayer_embed.cli.export.command import add_export
from midlayer_embed.cli.options import PROGRAM
from midlayer_embed.cli.parser import Parser, program, run
from midlayer_embed.cli.profile import add_profile
from midlayer_embed.cli.recipe import add_recipe
from midlayer_embed.cli.select import add_select


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: Arguments to parse instead of `sys.argv`.

    Returns:
        The exit code.
    """
    return run(_parser(), arguments)


def _parser() -> Parser:
    commands = (add_profile, add_select, add_recipe, add_export, add_encode)
    return program(PROGRAM, "Embeddings from the middle layers of language models.", commands)
