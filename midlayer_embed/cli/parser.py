"""What both command lines share: model options, one-line messages for mistakes, and exit codes."""

import argparse
import errno
import logging
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NoReturn

from midlayer_embed.errors import InputError
from midlayer_embed.ground.quiet import log_level
from midlayer_embed.options import FILE_OPTIONS, Recipe, Source

FAILED = 1
MISTAKE = 2
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose error message is one line, followed by one that says where help is."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2."""
        self.exit(MISTAKE, f"{self.prog}: {message}\nSee {self.prog} --help\n")


def add_model_options(parser: argparse.ArgumentParser, *, raw: bool = False) -> None:
    """Adds MODEL, and the options that say how it is loaded and pooled: the fields of `Source` and `Recipe`.

    Args:
        parser: Parser of the command.
        raw: Whether the command pools raw states by default, as those that measure do.
    """
    parser.add_argument("model", metavar="MODEL", help='a Hub id, a folder, or "starter"')
    pooling = parser.add_argument_group("pooling")
    norm = pooling.add_mutually_exclusive_group()
    for flag, final_norm, when in (("--raw", False, "before"), ("--normed", True, "after")):
        is_default = raw != final_norm
        help_ = f"pool the states {when} the final norm" + " (default)" * is_default
        action = "store_true" if final_norm else "store_false"
        norm.add_argument(flag, dest="final_norm", action=action, default=not raw, help=help_)
    _add_fields(pooling, Recipe)
    _add_fields(parser.add_argument_group("loading"), Source, without=FILE_OPTIONS)
    parser.add_argument("--quiet", action="store_true", help="no progress bars, nothing but results and errors")


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options for models whose files are not the usual ones."""
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
    """The values of the options that were added, as keywords of our functions."""
    names = [option.name for record in (Source, Recipe) for option in fields(record)]
    return {name: getattr(arguments, name) for name in names if name in arguments}


def model_arguments(options: Mapping[str, Any]) -> list[str]:
    """The command-line arguments for these keywords: `model_options` backwards. Keywords left out keep their defaults.

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
    """Runs the command that the arguments name: the function that its parser has as the default of `command`.

    A command returns None, or an exit code after it has reported an error by itself. A command that can resume sets a
    default `resumes` in its parser.

    Args:
        parser: Parser of all commands.
        arguments: Command-line arguments; None: those of the process.

    Returns:
        The exit code: the command's, or 0; 2 for a mistake of the user, which is reported in one line; 1 when the disk
        is full; 130 when interrupted.
    """
    program, parsed = parser.prog, parser.parse_args(arguments)
    try:
        with _our_messages(program, logging.WARNING if parsed.quiet else logging.INFO):
            return parsed.command(parsed) or 0
    except InputError as error:
        one_line = " ".join(str(error).split())
        print(f"{program}: {one_line}", file=sys.stderr)
        return MISTAKE
    except BrokenPipeError:  # the reader of our output has gone, for instance `| head`
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"{program}: the disk is full: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        how = "; run the same command again to go on where it stopped" if "resumes" in parsed else ""
        print(f"\n{program}: interrupted{how}", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def _our_messages(program: str, level: int) -> Iterator[None]:
    """Shows the log messages of our packages on stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{program}: %(message)s"))
    packages = ("midlayer_embed", "leaderboard")
    # `log_kernels` says the same as transformers, in one line.
    with log_level(level, *packages), log_level(logging.ERROR, "transformers.integrations.hub_kernels"):
        for package in packages:
            logging.getLogger(package).addHandler(handler)
        try:
            yield
        finally:
            for package in packages:
                logging.getLogger(package).removeHandler(handler)
