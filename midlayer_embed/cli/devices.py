"""Processes that share a command: on other machines (--shard), and one for each device of this one (--devices)."""

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from midlayer_embed.cli.options import PROGRAM
from midlayer_embed.cli.parser import FAILED, MISTAKE, Parser
from midlayer_embed.errors import InputError
from midlayer_embed.ground.interrupts import tell_interrupt
from midlayer_embed.ground.progress import progress
from midlayer_embed.ground.streams import say
from midlayer_embed.ground.workers import safe_imports
from midlayer_embed.sharing.devices import THREADS, VISIBLE, n_cores, parse_devices
from midlayer_embed.sharing.parts import Part, parse_part

if TYPE_CHECKING:
    from midlayer_embed.bulk.encode_corpus import CorpusJob

_CPU = "cpu"
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
        if arguments.device is not None and arguments.share is None:
            raise InputError("devices: expected --devices or --device, got both")
        _environments(arguments.devices)


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
    environments = _environments(arguments.devices)
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
        if text and text not in told:
            told.add(text)
            say(text)


def _environments(devices: str) -> list[dict[str, str]]:
    """What each process has in its environment, to see its own device alone.

    Args:
        devices: GPUs, or as many "cpu" as there are to be processes.

    Raises:
        InputError: (a ValueError) other words, both kinds, or a GPU that is not there.
    """
    names = [name.strip() for name in devices.split(",")]
    if set(names) == {_CPU}:
        threads = str(max(1, n_cores() // len(names)))
        return [{VISIBLE: "", THREADS: os.environ.get(THREADS, threads)}] * len(names)
    return [{VISIBLE: name} for name in parse_devices(devices)]
