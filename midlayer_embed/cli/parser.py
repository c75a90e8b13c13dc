"""What both command lines share: options of every command and of models, one-line error messages and exit codes."""

import argparse
import errno
import logging
import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from typing import Any, NoReturn

from midlayer_embed import __version__
from midlayer_embed.errors import InputError
from midlayer_embed.ground.checks import check_int
from midlayer_embed.ground.failures import reason_of
from midlayer_embed.ground.interrupts import Terminated, signals_interrupt
from midlayer_embed.ground.quiet import log_level
from midlayer_embed.ground.streams import flush_output, has_terminal, output_has_no_reader, say, standard_streams
from midlayer_embed.options import FILE_OPTIONS, OF_ONE_LAYER, Recipe, Source

FAILED = 1
MISTAKE = 2
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports an error in one line, and where to find help in another."""

    def error(self, message: str) -> NoReturn:
        """End the program with exit code 2."""
        self.exit(MISTAKE, f"{self.prog}: {message}\nSee {self.prog} --help\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        """Print --help and --version; unlike the parent's method, an output that cannot be written is an error."""
        if file is sys.stdout:
            file.write(message)
        else:
            super()._print_message(message, file)


def add_model_options(
    parser: argparse.ArgumentParser, *, several: bool = False, raw: bool = False, without: Collection[str] = ()
) -> None:
    """Add MODEL, and the options for loading and pooling it: the fields of `Source` and `Recipe`.

    Args:
        parser: Parser of the command.
        several: Whether the command takes any number of models, `models`.
        raw: Whether the command measures metrics, some of them on raw states by default, as `profile` and `select` do.
        without: Fields of both records that the command does not take, or takes in another way.
    """
    words = {"metavar": "MODEL", "help": 'a Hub id, a folder, a .gguf file, or "starter"'}
    if several:
        parser.add_argument("models", nargs="*", **words)  # type: ignore[arg-type]
    else:
        parser.add_argument("model", **words)  # type: ignore[arg-type]
    pooling = parser.add_argument_group("pooling")
    norm = pooling.add_mutually_exclusive_group()
    normed = "default, unless the model's own sentence-transformers config says otherwise"
    defaults = {False: "default of most metrics", True: "default where texts search for each other"}
    for flag, final_norm, when in (("--raw", False, "before"), ("--normed", True, "after")):
        default = defaults[final_norm] if raw else normed * final_norm
        help_ = f"pool the states {when} the final norm" + f" ({default})" * bool(default)
        action = "store_true" if final_norm else "store_false"
        norm.add_argument(flag, dest="final_norm", action=action, default=None, help=help_)
    _add_fields(pooling, Recipe, without=(*OF_ONE_LAYER, *without))
    _add_fields(parser.add_argument_group("loading"), Source, without=(*FILE_OPTIONS, *without))


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for models whose files are not the usual ones."""
    files = parser.add_argument_group("model files")
    _add_fields(files, Source, without=[f.name for f in fields(Source) if f.name not in FILE_OPTIONS])


def add_transform_options(parser: argparse.ArgumentParser, *, default: str = "") -> None:
    """Add the options for a transform and the texts that it is fitted on.

    Args:
        parser: Parser of the command.
        default: Words for the texts that it is fitted on if no others are given.
    """
    group = parser.add_argument_group("transform of the vectors, fitted on texts without labels")
    _add_fields(group, Recipe, without=[f.name for f in fields(Recipe) if f.name not in OF_ONE_LAYER])
    group.add_argument(
        "--transform-texts",
        metavar="FILE",
        help="texts like those to embed: .txt, .jsonl, .csv, .tsv or .parquet" + (default and f" (default: {default})"),
    )
    group.add_argument(
        "--transform-column", metavar="NAME", help="column of these texts (default: the only one of strings)"
    )


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
    options = (option for record in (Source, Recipe) for option in fields(record))
    names = [option.name for option in options if option.name != "layer"]  # commands have their own LAYER
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
        else:
            for item in value if isinstance(value, (list, tuple)) else [value]:
                # what starts with a dash would be taken for another option
                arguments += [f"{flag}={item}"] if str(item).startswith("-") else [flag, str(item)]
    return arguments


def program(name: str, description: str, commands: Sequence[Callable[..., None]]) -> Parser:
    """The parser of a program.

    Args:
        name: Name of the program.
        description: What it does, in a sentence.
        commands: Functions that add a command each.
    """
    parser = Parser(prog=name, description=description)
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    added = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for add_command in commands:
        add_command(added)
    for command in added.choices.values():
        _add_common_options(command)
    return parser


def _add_common_options(command: Parser) -> None:
    """Add what every command takes; a seed is not shown where nothing is drawn at random."""
    amount = command.add_mutually_exclusive_group()
    amount.add_argument("--quiet", action="store_true", help="print only results and errors, no progress")
    amount.add_argument("--verbose", action="store_true", help="print details for a bug report, and tracebacks")
    if command.get_default("seed") is None:
        command.add_argument("--seed", type=int, default=0, metavar="N", help=argparse.SUPPRESS)


def completes(action: argparse.Action, values: Collection[str]) -> None:
    """Tell a shell's completion the values of an option; without values it completes the names of files."""
    action.completer = lambda **_: values  # type: ignore[attr-defined]


def run(parser: Parser, arguments: Sequence[str] | None) -> int:
    """Run the command named by the arguments: the function in the default `command` of its parser.

    A command returns None, or an exit code if it has reported an error itself. The parser of a command that can resume
    has a default `resumes`.

    Args:
        parser: Parser of all commands.
        arguments: Command-line arguments; None: those of the process.

    Returns:
        The exit code: the command's, or 0; 2 for a user error, which is reported in one line; 1 if the output cannot be
        written or for an unexpected error; 130 if interrupted, 143 if terminated, 129 if the terminal
        closes. A reader of the output that leaves,
        as `head` does, is no error.
    """
    with standard_streams():
        try:
            _complete(parser)
            code = _run(parser, arguments)
        except SystemExit as exit_:  # after --help, --version or a wrong option
            raise SystemExit(_finish(parser.prog, exit_.code)) from None
        return int(_finish(parser.prog, code) or 0)


def _complete(parser: Parser) -> None:
    """Answer a shell that asks for completions."""
    if "_ARGCOMPLETE" in os.environ:
        with suppress(ImportError):
            import argcomplete

            argcomplete.autocomplete(parser)


def _run(parser: Parser, arguments: Sequence[str] | None) -> int:
    program, parsed = parser.prog, argparse.Namespace(verbose=False)
    try:
        parsed = parser.parse_args(arguments)
        parsed.given = list(sys.argv[1:] if arguments is None else arguments)
        check_int("seed", parsed.seed, 0)
        level = logging.WARNING if parsed.quiet else logging.DEBUG if parsed.verbose else logging.INFO
        with _show_logs(program, level), _bars_of_libraries(not parsed.quiet and has_terminal()), signals_interrupt():
            return parsed.command(parsed) or 0
    except KeyboardInterrupt as interrupt:
        how = "; run the same command again to resume" if "resumes" in parsed else ""
        what = f": {interrupt}" if interrupt.args else how
        say(f"\n{program}: {'terminated' if isinstance(interrupt, Terminated) else 'interrupted'}{what}")
        return 128 + interrupt.number if isinstance(interrupt, Terminated) else INTERRUPTED
    except Exception as error:
        if isinstance(error, BrokenPipeError) and output_has_no_reader():
            return 0
        if parsed.verbose:
            say(traceback.format_exc())
        code, message = _told(error)
        say(f"{program}: {message}")
        return code


def _told(error: Exception) -> tuple[int, str]:
    """The exit code for an error, and its message in one line."""
    if isinstance(error, InputError):
        return MISTAKE, " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return FAILED, f"the disk is full: {error}"
    if isinstance(error, PermissionError) and error.filename:
        return MISTAKE, f"{error.filename} cannot be opened: {error.strerror}"
    return FAILED, f"unexpected error: {reason_of(error)}; --verbose shows where"


def _finish(program: str, code: Any) -> Any:
    """Write the rest of the output. Returns the exit code."""
    try:
        flush_output()
    except BrokenPipeError:
        pass
    except OSError as error:
        if not code:
            say(f"{program}: standard output cannot be written: {error.strerror}")
            return FAILED
    return code


@contextmanager
def _bars_of_libraries(shown: bool) -> Iterator[None]:
    """Let libraries that a command imports draw bars, for downloads, or keep them from it."""
    names = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS")
    added = [name for name in names if not shown and name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


@contextmanager
def _show_logs(program: str, level: int) -> Iterator[None]:
    """Show the log messages of our packages on stderr. Other handlers, of logs in files, get those from INFO on."""
    handler = logging.StreamHandler()
    handler.setLevel(level)
    handler.setFormatter(logging.Formatter(f"{program}: %(message)s"))
    packages = ("midlayer_embed", "leaderboard")
    # `log_kernels` logs in one line what this module of transformers warns about.
    with (
        log_level(min(level, logging.INFO), *packages),
        log_level(logging.ERROR, "transformers.integrations.hub_kernels"),
    ):
        for package in packages:
            logging.getLogger(package).addHandler(handler)
        try:
            yield
        finally:
            for package in packages:
                logging.getLogger(package).removeHandler(handler)
