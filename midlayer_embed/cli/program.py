"""midlayer-embed: registers the commands. Each command is a module of this package."""

import sys
from collections.abc import Sequence

from midlayer_embed.cli.encode import add_encode
from midlayer_embed.cli.export import add_export
from midlayer_embed.cli.options import PROGRAM
from midlayer_embed.cli.parser import Parser, run
from midlayer_embed.cli.profile import add_profile
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
    parser = Parser(prog=PROGRAM, description="Embeddings from the middle layers of language models.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for add_command in (add_profile, add_select, add_export, add_encode):
        add_command(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
