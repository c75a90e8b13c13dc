"""Processes that share a command: on other machines (--shard), and one for each device of this one (--devices)."""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from midlayer_embed.cli.options import PROGRAM
from midlayer_embed.cli.parser import FAILED, MISTAKE, Parser
from midlayer_embed.errors import InputError
from midlayer_embed.ground.interrupts import tell_interrupt
from midlayer_embed.ground.progress import progress
from midlayer_embed.ground.streams import say
from midlayer_embed.ground.workers import safe_imports
from midlayer_embed.sharing.parts import Part, parse_part

if TYPE_CHECKING:
    from midlayer_embed.bulk.encode_corpus import CorpusJob

_CPU, _ALL = "cpu", "all"
_VISIBLE, _THREADS = "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"
_LOOK_SECONDS = 1


def add_process_options(parser: Parser) -> None:
    """Add the options of a corpus that say who embeds it."""
    group = parser.add_argument_group("processes that share a corpus")
    group.add_argument(
        "--shard",
        metavar="I/N",
        help='do part I of N, such as 2/8, on any machine; "auto": as the SLURM array says that this is a task of; '
        '"auto/8": as the indexed Kubernetes job of 8 says',
    )
    group.add_argument(
        "--devices",
        metavar="LIST",
        help='one process for each GPU, such as 0,1, or "all"; or for each cpu: cpu,cpu (default: one process)',
    )
    group.add_argument("--share", help=argparse.SUPPRESS)  # of the processes that --devices starts


def check_process_options(arguments: argparse.Namespace, in_parts: bool) -> None:
    """Check the options of `add_process_options`, and that the command takes them.

    Raises:
        InputError: (a ValueError) the message names the option.
    """
    for name in ("shard", "devices", "format"):
        if getattr(arguments, name) is not None and not in_parts:
            raise InputError(
                f"{name}: expected a folder, several files or a pattern in --input, got one file or images"
            )
    if arguments.shard is not None:
        parse_part(arguments.shard)
    if arguments.devices is not None:
        _names(arguments.devices)
        if arguments.device is not None and arguments.share is None:
            raise InputError("devices: expected --devices or --device, got both")


def run_on_devices(arguments: argparse.Namespace, job: "CorpusJob", shard: Part | None) -> int:
    """Run the command in one process for each device. If one ends early, the others go on.

    Args:
        arguments: Those of the command.
        job: What all of them do together.
        shard: The part of the corpus that it is.

    Returns:
        The exit code: 0; 2 if the only errors are the user's, which have been told; else 1.

    Raises:
        InputError: (a ValueError) a device is not there.
    """
    environments = _environments(_names(arguments.devices))
    told: set[str] = set()
    processes, readers = [], []
    with tell_interrupt(job.describe_missing):
        try:
            for index, environment in enumerate(environments, start=1):
                command = [sys.executable, "-m", "midlayer_embed", *arguments.given]
                command += ["--shard", str(shard or Part()), "--share", str(Part(index, len(environments)))]
                command += [] if arguments.quiet or arguments.verbose else ["--quiet"]
                with safe_imports():
                    process = subprocess.Popen(
                        command,
                        env={**os.environ, **environment},
                        stdin=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        start_new_session=True,  # Ctrl-C reaches this process alone, which ends the others
                    )
                processes.append(process)
                readers.append(threading.Thread(target=_relay, args=(process.stderr, told), daemon=True))
                readers[-1].start()
            _wait(processes, job, shown=not arguments.quiet)
        finally:
            for process in processes:
                if process.stdin is not None:
                    process.stdin.close()  # which ends one that still runs
            for process in processes:
                process.wait()
            for reader in readers:
                reader.join()
    for process in processes:
        if process.returncode < 0:
            say(f"{PROGRAM}: process {process.pid} was ended by {signal.Signals(-process.returncode).name}")
    codes = {process.returncode for process in processes}
    if codes == {0}:
        return 0
    if job.missing_of_own:
        say(f"{PROGRAM}: {arguments.output}: {job.describe_missing()}")
    else:  # under --overwrite, where those of an earlier run are there
        say(f"{PROGRAM}: {arguments.output}: parts may not have been replaced; run the same command again to go on")
    return MISTAKE if codes <= {0, MISTAKE} else FAILED


def end_with_parent() -> None:
    """End this process, in order, when the one that started it is gone: its end of stdin closes then."""

    def watch() -> None:
        with suppress(OSError):  # not through sys.stdin, whose lock would keep the interpreter from its end
            while os.read(0, 1):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _wait(processes: Sequence["subprocess.Popen[bytes]"], job: "CorpusJob", *, shown: bool) -> None:
    """Wait for all processes, and show how many bytes of input are done."""
    done = job.bytes_done()
    with progress(job.n_bytes, "Encoding", "B", shown) as bar:
        bar.n = bar.initial = done
        while any(process.poll() is None for process in processes):
            time.sleep(_LOOK_SECONDS)
            now = job.bytes_done()
            bar.update(now - done)
            done = now


def _relay(lines: Any, told: set[str]) -> None:
    """Say what a process says; what several say is said once."""
    for line in lines:
        text = line.decode(errors="replace").rstrip("\r\n")
        if text not in told:
            told.add(text)
            say(text)


def _names(devices: str) -> list[str]:
    """The devices that a user names: numbers of GPUs, or as many "cpu" as there are to be processes.

    Raises:
        InputError: (a ValueError) other words, or both kinds.
    """
    names = [name.strip().removeprefix("cuda:") for name in devices.split(",")]
    if names == [_ALL] or set(names) == {_CPU} or all(name.isascii() and name.isdecimal() for name in names):
        return names
    raise InputError(f'devices: expected GPUs, such as 0,1, or "all", or cpu,cpu for two processes, got {devices!r}')


def _environments(names: Sequence[str]) -> list[dict[str, str]]:
    """What each process has in its environment, to see its own device alone.

    Raises:
        InputError: (a ValueError) a GPU is not there.
    """
    if names[0] == _CPU:
        threads = str(max(1, (os.cpu_count() or 1) // len(names)))
        return [{_VISIBLE: "", _THREADS: os.environ.get(_THREADS, threads)}] * len(names)
    import torch

    n_devices = torch.cuda.device_count()
    if not n_devices:
        raise InputError(f"devices: {','.join(names)}: there is no GPU; expected cpu,cpu for two processes on the CPU")
    numbers = list(range(n_devices)) if list(names) == [_ALL] else [int(name) for name in names]
    if max(numbers) >= n_devices:
        raise InputError(f"devices: {max(numbers)} is not there; expected numbers from 0 to {n_devices - 1}")
    visible = os.environ.get(_VISIBLE)  # numbers count among those that this process sees
    seen = visible.split(",") if visible else [str(number) for number in range(n_devices)]
    return [{_VISIBLE: seen[number].strip()} for number in numbers]
