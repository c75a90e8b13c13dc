"""What both command lines share: a parser whose mistakes are one line; tracebacks are kept for defects."""

import argparse
import logging
import sys
from collections.abc import Callable
from typing import NoReturn

from midlayer_embed.errors import InputError

MISTAKE = 2
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that names a mistake in one line, with a second that says where help is."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2."""
        self.exit(MISTAKE, f"{self.prog}: {message}\nSee {self.prog} --help\n")


def run_command(program: str, command: Callable[[argparse.Namespace], None], arguments: argparse.Namespace) -> int:
    """Runs a command.

    Returns:
        The exit code: 0; 2 for a mistake of the user, told in one line; 130 when interrupted.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{program}: %(message)s"))
    for package in ("midlayer_embed", "leaderboard"):  # ours tell what takes long; other libraries speak for themselves
        ours = logging.getLogger(package)
        ours.handlers[:] = [handler]
        ours.setLevel(logging.WARNING if getattr(arguments, "quiet", False) else logging.INFO)
    try:
        command(arguments)
    except InputError as error:
        one_line = " ".join(str(error).split())
        print(f"{program}: {one_line}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print(f"\n{program}: interrupted; run the same command again to go on where it stopped", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
        sys.stderr.close()
        return 0
    return 0
