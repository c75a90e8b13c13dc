"""What the tests' forks have in common with fresh processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.forks import Fork, another_server, as_python, run, run_code

pytestmark = pytest.mark.process


def test_a_fork_has_libraries_but_not_our_packages() -> None:
    code = "import sys; print([name in sys.modules for name in ('torch', 'midlayer_embed', 'leaderboard')], sys.argv)"
    assert run_code(code, "one", 2) == "[True, False, False] ['-c', 'one', '2']\n"


@pytest.mark.parametrize(
    ("code", "exit_code", "message"),
    [
        ("import sys; sys.exit(3)", 3, ""),
        ("import sys; sys.exit('a message')", 1, "a message\n"),
        ("1 / 0", 1, "ZeroDivisionError: division by zero\n"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_the_end_of_a_fork_is_that_of_a_process(code: str, exit_code: int, message: str) -> None:
    done = run([sys.executable, "-c", code])
    assert done.returncode == exit_code
    assert done.stderr.endswith(message)


def test_environment_folder_and_input(tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['A'], os.getcwd(), sys.stdin.read())"
    done = run([sys.executable, "-c", code], env={**os.environ, "A": "a"}, cwd=tmp_path, input="said")
    assert done.stdout == f"a {tmp_path} said\n"
    with pytest.raises(ValueError, match="PYTHONHASHSEED"):
        run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": "7"})


def test_a_fork_ends_with_the_process_that_asked_for_it(tmp_path: Path) -> None:
    waits = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)"
    for end in (signal.SIGTERM, signal.SIGKILL):
        with subprocess.Popen([as_python(), "-c", waits], stdout=subprocess.PIPE) as python:
            assert python.stdout is not None
            pid = int(python.stdout.readline())
            python.send_signal(end)
            python.stdout.read()  # ends when the fork does
        deadline = time.monotonic() + 30
        while Path(f"/proc/{pid}").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_fork_that_is_forgotten_ends() -> None:
    reading, writing = os.pipe()
    fork = Fork([sys.executable, "-c", "import time; time.sleep(60)"], stdout=writing)
    os.close(writing)
    del fork
    assert os.read(reading, 1) == b""
    os.close(reading)


@pytest.mark.slow
def test_forks_of_another_server_have_libraries_that_were_imported_for_another_hub(tmp_path: Path) -> None:
    hub = {"HF_ENDPOINT": "http://127.0.0.1:9"}
    homes = {**os.environ, **hub, "HF_HOME": str(tmp_path)}
    code = (
        "import datasets, huggingface_hub as h; from huggingface_hub import constants; "
        "print(h.HfApi().endpoint, h.hf_api.api.endpoint, datasets.config.HF_ENDPOINT, "
        "constants.HF_HUB_CACHE, datasets.config.HF_DATASETS_CACHE)"
    )
    with another_server({**os.environ, **hub}) as python:
        done = subprocess.run([python, "-c", code], env=homes, capture_output=True, text=True, check=True)
    url = hub["HF_ENDPOINT"]
    assert done.stdout.split() == [url, url, url, str(tmp_path / "hub"), str(tmp_path / "datasets")]
