"""What both command lines share: model options, one-line error messages and exit codes."""

import argparse
import errno
import logging
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NoReturn

from midlayer_embed.errors import InputError
from midlayer_embed.ground.interrupts import Terminated
from midlayer_embed.ground.quiet import log_level
from midlayer_embed.options import FILE_OPTIONS, Recipe, Source

FAILED = 1
MISTAKE = 2
INTERRUPTED = 130
TERMINATED = 143


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports an error in one line, and where to find help in another."""

    def error(self, message: str) -> NoReturn:
        """End the program with exit code 2."""
        self.exit(MISTAKE, f"{self.prog}: {message}\nSee {self.prog} --help\n")


def add_model_options(parser: argparse.ArgumentParser, *, raw: bool = False) -> None:
    """Add MODEL, and the options for loading and pooling it: the fields of `Source` and `Recipe`.

    Args:
        parser: Parser of the command.
        raw: Whether the command pools raw states by default, as `profile` and `select` do.
    """
    parser.add_argument("model", metavar="MODEL", help='a Hub id, a folder, or "starter"')
    pooling = parser.add_argument_group("pooling")
    norm = pooling.add_mutually_exclusive_group()
    for flag, final_norm, when in (("--raw", False, "before"), ("--normed", True, "after")):
        is_default = raw != final_norm
        default = "default" if raw else "default, unless the model's own sentence-transformers config says otherwise"
        help_ = f"pool the states {when} the final norm" + f" ({default})" * is_default
        action = "store_true" if final_norm else "store_false"
        norm.add_argument(flag, dest="final_norm", action=action, default=False if raw else None, help=help_)
    _add_fields(pooling, Recipe)
    _add_fields(parser.add_argument_group("loading"), Source, without=FILE_OPTIONS)
    parser.add_argument("--quiet", action="store_true", help="print only results and errors, no progress bars")


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for models whose files are not the usual ones."""
    files = parser.add_argument_group("model files")
    _add_fields(files, Source, without=[f.name for f in fields(Source) if f.name not in FILE_OPTIONS])


def _add_fields(
    group: "argparse._ArgumentGroup", record: type[Source] | type[Recipe], without: Collection[str] = ()
) -> None:
    for option in fields(record):
        if "flag" in option.metadata and option.name not in without:
            argument = option.metadata["argument"]
            default = [] if argument.get("action") == "append" else option.default
            group.add_argument(option.metadata["flag"], dest=option.name, default=default, **argument)


def model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The values of the model options, as keywords of the public functions."""
    names = [option.name for record in (Source, Recipe) for option in fields(record)]
    return {name: getattr(arguments, name) for name in names if name in arguments}


def model_arguments(options: Mapping[str, Any]) -> list[str]:
    """The command-line arguments for keywords, the inverse of `model_options`. Missing keywords keep their defaults.

    Example:
        >>> model_arguments({"final_norm": False, "max_seq_length": 128, "adapters": ["org/a"]})
        ['--raw', '--max-seq-length', '128', '--adapter', 'org/a']
    """
    arguments = {True: ["--normed"], False: ["--raw"], None: []}[options.get("final_norm")]
    for option in (*fields(Recipe), *fields(Source)):
        value = options.get(option.name)
        if value is None or "flag" not in option.metadata:
            continue
        flag = option.metadata["flag"]
        if isinstance(value, bool):
            arguments += [flag] * value
        elif isinstance(value, (list, tuple)):
            arguments += [part for item in value for part in (flag, str(item))]
        else:
            arguments += [flag, str(value)]
    return arguments


def run(parser: Parser, arguments: Sequence[str] | None) -> int:
    """Run the command named by the arguments: the function in the default `command` of its parser.

    A command returns None, or an exit code if it has reported an error itself. The parser of a command that can resume
    has a default `resumes`.

    Args:
        parser: Parser of all commands.
        arguments: Command-line arguments; None: those of the process.

    Returns:
        The exit code: the command's, or 0; 2 for a user error, which is reported in one line; 1 if the disk is full;
        130 if interrupted, 143 if terminated.
    """
    program, parsed = parser.prog, parser.parse_args(arguments)
    try:
        with _show_logs(program, logging.WARNING if parsed.quiet else logging.INFO):
            return parsed.command(parsed) or 0
    except InputError as error:
        one_line = " ".join(str(error).split())
        print(f"{program}: {one_line}", file=sys.stderr)
        return MISTAKE
    except BrokenPipeError:  # the reader of our output is gone, as with `| head`
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"{program}: the disk is full: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, Terminated)
        how = "; run the same command again to resume" if "resumes" in parsed else ""
        what = f": {interrupt}" if interrupt.args else how
        print(f"\n{program}: {'terminated' if terminated else 'interrupted'}{what}", file=sys.stderr)
        return TERMINATED if terminated else INTERRUPTED


@contextmanager
def _show_logs(program: str, level: int) -> Iterator[None]:
    """Show the log messages of our packages on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{program}: %(message)s"))
    packages = ("midlayer_embed", "leaderboard")
    # `log_kernels` logs in one line what this module of transformers warns about.
    with log_level(level, *packages), log_level(logging.ERROR, "transformers.integrations.hub_kernels"):
        for package in packages:
            logging.getLogger(package).addHandler(handler)
        try:
            yield
        finally:
            for package in packages:
                logging.getLogger(package).removeHandler(handler)
