import os
import sys
from pathlib import Path

import joblib
import pytest

from midlayer_embed.ground.workers import absolute_python_path, safe_imports

pytestmark = pytest.mark.process


def _one() -> int:
    return 1


@pytest.mark.skipif(sys.version_info < (3, 11), reason="PYTHONSAFEPATH is new in Python 3.11")
def test_worker_processes_import_nothing_from_where_the_user_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "numpy"):
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('the user has a file {name}.py')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    with safe_imports():
        assert joblib.Parallel(n_jobs=2, backend="loky", timeout=120)(joblib.delayed(_one)() for _ in range(2)) == [
            1,
            1,
        ]
    assert "PYTHONSAFEPATH" not in os.environ


def test_a_python_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["lib", "/else"]))
    assert absolute_python_path() == os.pathsep.join([str(tmp_path / "lib"), "/else"])
    monkeypatch.delenv("PYTHONPATH")
    assert absolute_python_path() == ""
