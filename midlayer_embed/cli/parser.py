"""What both command lines share: a parser whose mistakes are one line; tracebacks are kept for defects."""

import argparse
import errno
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

from midlayer_embed.errors import InputError

FAILED = 1
MISTAKE = 2
INTERRUPTED = 130
# Keywords of our functions that are one value, and what they are called on the command line.
_VALUES = {
    "pooling_mode": "--pooling",
    "max_seq_length": "--max-seq-length",
    "revision": "--revision",
    "device": "--device",
    "dtype": "--dtype",
}


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that names a mistake in one line, with a second that says where help is."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with exit code 2."""
        self.exit(MISTAKE, f"{self.prog}: {message}\nSee {self.prog} --help\n")


def add_model_options(parser: argparse.ArgumentParser, *, raw: bool = False) -> None:
    """MODEL, and the options that say how it is loaded and pooled, the same in every command.

    Args:
        parser: Of the command.
        raw: Whether the command pools raw states unless told otherwise, as those that measure do.
    """
    parser.add_argument("model", metavar="MODEL", help='a hub id, a folder, or "starter"')
    pooling = parser.add_argument_group("pooling")
    norm = pooling.add_mutually_exclusive_group()
    norm.add_argument(
        "--raw",
        dest="final_norm",
        action="store_false",
        default=not raw,
        help="pool the states before the final norm" + " (default)" * raw,
    )
    norm.add_argument(
        "--normed",
        dest="final_norm",
        action="store_true",
        default=not raw,
        help="pool the states after the final norm" + " (default)" * (not raw),
    )
    pooling.add_argument(
        "--pooling", default="mean", metavar="MODE", help="mean (default), cls, lasttoken, weightedmean, max"
    )
    pooling.add_argument("--max-seq-length", type=int, metavar="N", help="tokens a text is cut at")
    loading = parser.add_argument_group("loading")
    loading.add_argument("--revision", metavar="REV", help="branch, tag or commit on the hub")
    loading.add_argument("--device", metavar="DEVICE", help="cpu, cuda, ... (default: the fastest that is there)")
    loading.add_argument("--dtype", default="float32", metavar="DTYPE", help="of the weights (default: float32)")
    changes = parser.add_argument_group("changes to the model")
    changes.add_argument(
        "--bidirectional", action="store_true", help="let every token of a causal decoder attend to every other one"
    )
    changes.add_argument(
        "--adapter",
        action="append",
        default=[],
        metavar="NAME",
        help="a PEFT adapter (a folder or a hub id) to merge into the weights; may be given again, in order",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars, nothing but results and mistakes")


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Options for models whose files are not the usual ones."""
    files = parser.add_argument_group("model files")
    files.add_argument("--gguf-file", metavar="NAME", help="a GGUF file in the folder MODEL")
    files.add_argument("--trust-remote-code", action="store_true", help="let the model's own code run")


def model_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What `add_model_options`, and `add_file_options` where it was used, were given, as our functions' keywords."""
    options = {
        "final_norm": arguments.final_norm,
        "pooling_mode": arguments.pooling,
        "max_seq_length": arguments.max_seq_length,
        "revision": arguments.revision,
        "device": arguments.device,
        "dtype": arguments.dtype,
        "bidirectional": arguments.bidirectional,
        "adapters": arguments.adapter,
    }
    if "gguf_file" in arguments:
        options |= {"gguf_file": arguments.gguf_file, "trust_remote_code": arguments.trust_remote_code}
    return options


def model_arguments(options: Mapping[str, Any]) -> list[str]:
    """The arguments that `model_options` gives these keywords for; what is not named keeps its default.

    Example:
        >>> model_arguments({"final_norm": False, "max_seq_length": 128, "adapters": ["org/a"]})
        ['--raw', '--max-seq-length', '128', '--adapter', 'org/a']
    """
    arguments = {True: ["--normed"], False: ["--raw"], None: []}[options.get("final_norm")]
    for key, option in _VALUES.items():
        if options.get(key) is not None:
            arguments += [option, str(options[key])]
    arguments += ["--bidirectional"] * bool(options.get("bidirectional"))
    for adapter in options.get("adapters", ()):
        arguments += ["--adapter", str(adapter)]
    return arguments


def run(parser: Parser, arguments: Sequence[str] | None) -> int:
    """Runs the command that the arguments name: what the parser's `command` default is, given what was parsed.

    A command returns nothing, or the exit code where it has told by itself what went wrong. One that goes on where it
    stopped says so by a `resumes` among its parser's defaults.

    Args:
        parser: Knows the commands.
        arguments: Instead of the program's own, unless None.

    Returns:
        The exit code: the command's, or 0; 2 for a mistake of the user, told in one line; 1 when the disk is full; 130
        when interrupted.
    """
    program, parsed = parser.prog, parser.parse_args(arguments)
    try:
        with _our_messages(program, logging.WARNING if parsed.quiet else logging.INFO):
            return parsed.command(parsed) or 0
    except InputError as error:
        one_line = " ".join(str(error).split())
        print(f"{program}: {one_line}", file=sys.stderr)
        return MISTAKE
    except BrokenPipeError:  # the reader of our output has gone, e.g. `| head`
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
    """Shows what our packages log, such as what takes long; other libraries speak for themselves."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(f"{program}: %(message)s"))
    ours = [logging.getLogger(package) for package in ("midlayer_embed", "leaderboard")]
    levels = [logger.level for logger in ours]
    for logger in ours:
        logger.addHandler(handler)
        logger.setLevel(level)
    kernels = logging.getLogger("transformers.integrations.hub_kernels")
    kernels_level = kernels.level
    kernels.setLevel(logging.ERROR)  # says of each function of Mamba what `log_kernels` says in a line
    try:
        yield
    finally:
        kernels.setLevel(kernels_level)
        for logger, old in zip(ours, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(old)
