"""Somebody who copies a page into a terminal, from its first block to its last, in an empty folder.

One shell and one interpreter stay open for the page, so that `cd`, variables and names carry over. Nothing of this
machine's user is seen: the home is empty, too. What a page says that it needs is a stand-in (see `stand_ins`).
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

_ROOT = Path(__file__).parents[3]
_HUB = "the Hub"  # of `pages.NEEDS`
_PROGRAMS = {"midlayer-embed": "midlayer_embed.cli", "midlayer-leaderboard": "leaderboard.cli"}
_PROGRAM = """
import sys
sys.argv[0] = "{name}"
from {module} import main
sys.exit(main())
"""
# Forks know the Hub of the process that they are forked from.
_START = """
code="$(cat {code})"
if [ -n "$HF_ENDPOINT" ]; then exec {online} -c "$code" "$@"; fi
exec {offline} -c "$code" "$@"
"""

# Runs blocks in one namespace. An expression's value is kept, by the line that it ends on.
_INTERPRETER = """
import ast, contextlib, io, json, os, sys, traceback
answers, namespace = os.fdopen(os.dup(1), "w"), {"__name__": "__main__"}
os.dup2(2, 1)
sys.path[0:0] = [""]
for line in sys.stdin:
    asked = json.loads(line)
    os.chdir(asked["cwd"])
    values, error, printed = {}, None, io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            for node in ast.parse(asked["code"]).body:
                if isinstance(node, ast.Expr):
                    code = compile(ast.Expression(node.value), "<block>", "eval")
                    values[node.end_lineno] = repr(eval(code, namespace))
                else:
                    exec(compile(ast.Module([node], []), "<block>", "exec"), namespace)
    except BaseException:
        error = traceback.format_exc()
    answers.write(json.dumps({"values": values, "error": error, "printed": printed.getvalue()}) + "\\n")
    answers.flush()
"""


@dataclass(frozen=True)
class Done:
    """What came of a command or of a Python block.

    Attributes:
        code: Exit code; of a Python block 0, or 1 after an exception.
        stdout, stderr: What was printed.
        values: Of a Python block, what its expressions gave, by line.
    """

    code: int
    stdout: str
    stderr: str
    values: Mapping[int, str]


class Reader:
    """See above.

    Args:
        folder: An empty folder; the home and the working folder are made in it.
        offline, online: Programs that stand for an interpreter and start faster (see `support.forks`), or an
            interpreter: for what does without the Hub, and for what needs it.
        environments: Environment variables that lead to the stand-in of what a block needs, for each such need.
        programs: A folder of programs that come before those of this machine.
    """

    def __init__(
        self, folder: Path, offline: str, online: str, environments: Mapping[str, Mapping[str, str]], programs: Path
    ) -> None:
        self.cwd, home, bin_ = folder / "a folder", folder / "home", folder / "bin"
        for made in (self.cwd, home, bin_):
            made.mkdir(exist_ok=True)
        for name, module in _PROGRAMS.items():
            code = folder / f"{name}.py"
            paths = {"code": code, "offline": offline, "online": online}
            code.write_text(_PROGRAM.format(name=name, module=module))
            write_program(bin_ / name, _START.format(**{key: quote(str(path)) for key, path in paths.items()}))
        path = [bin_, programs, *map(Path, ("/usr/local/bin", "/usr/bin", "/bin"))]
        kept = ("LANG", "LC_ALL", "OMP_NUM_THREADS", "TESTS_FORK_SERVER", "TMPDIR")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ} | {
            "HOME": str(home),
            "PATH": os.pathsep.join(map(str, path)),
            "PYTHONPATH": str(_ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HF_HOME": str(home / "huggingface"),
        }
        self._environments, self._offline, self._online = environments, offline, online
        self._scratch = folder
        self._shell: subprocess.Popen[str] | None = None
        self._interpreter: subprocess.Popen[str] | None = None
        self._interpreter_is_online = False

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._shell, self._interpreter):
            if process is not None:
                assert process.stdin is not None
                with suppress(BrokenPipeError):
                    process.stdin.close()
                process.wait(60)
                assert process.stdout is not None
                process.stdout.close()
        self._shell = self._interpreter = None

    def command(self, command: str, *, needs: Sequence[str] = (), extra: Mapping[str, str] | None = None) -> Done:
        """Runs one command in the shell."""
        if self._shell is None:
            self._shell = self._open(["bash", "--norc"])
        settings = {**self._settings(needs), **(extra or {})}
        names = sorted({*self._settings(tuple(self._environments)), *self._settings(()), *settings})
        file, stdout, stderr = (self._scratch / name for name in ("command", "stdout", "stderr"))
        file.write_text(command + "\n")
        lines = [f"unset {' '.join(names)}", *(f"export {name}={_quoted(value)}" for name, value in settings.items())]
        out, err = _quoted(str(stdout)), _quoted(str(stderr))
        lines.append(f'eval "$(cat {_quoted(str(file))})" > {out} 2> {err} < /dev/null')
        lines.append("printf '%s %s\\n' $? \"$PWD\"")
        code, _, cwd = self._ask(self._shell, "; ".join(lines)).rstrip("\n").partition(" ")
        self.cwd = Path(cwd)
        return Done(int(code), stdout.read_text(), stderr.read_text(), {})

    def python(self, code: str, *, needs: Sequence[str] = ()) -> Done:
        """Runs a block of Python, where names of earlier ones are known."""
        online = _HUB in needs
        if self._interpreter is not None and self._interpreter_is_online != online:
            raise ValueError("a page's Python blocks all need the Hub, or none of them")
        if self._interpreter is None:
            python = self._online if online else self._offline
            self._interpreter = self._open([python, "-c", _INTERPRETER], self._settings(needs))
            self._interpreter_is_online = online
        answer = json.loads(self._ask(self._interpreter, json.dumps({"cwd": str(self.cwd), "code": code})))
        values = {int(line): value for line, value in answer["values"].items()}
        return Done(1 if answer["error"] else 0, answer["printed"], answer["error"] or "", values)

    def _settings(self, needs: Sequence[str]) -> dict[str, str]:
        """Environment variables for what needs this."""
        found = {} if _HUB in needs else {"HF_HUB_OFFLINE": "1"}
        return {**found, **{k: v for need in needs for k, v in self._environments.get(need, {}).items()}}

    def _open(self, command: list[str], settings: Mapping[str, str] | None = None) -> "subprocess.Popen[str]":
        errors = (self._scratch / "errors").open("a")
        environment = {**self.environment, **(settings or {})}
        with errors:
            return subprocess.Popen(
                command, stdin=-1, stdout=-1, stderr=errors, text=True, env=environment, cwd=self.cwd, bufsize=1
            )

    def _ask(self, process: "subprocess.Popen[str]", line: str) -> str:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{process.args} ended: {(self._scratch / 'errors').read_text()}")
        return answer


def write_program(path: Path, script: str) -> None:
    """Writes a shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def _escaped(text: str) -> str:
    return text.replace("'", "'\\''")


def _quoted(text: str) -> str:
    return f"'{_escaped(text)}'"
