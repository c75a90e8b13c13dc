"""What processes that we start may import: the same packages as we do, wherever the user is."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

# Since Python 3.11. An older one imports from the working directory first when it is started with -m, as joblib does.
_SAFE_PATH = "PYTHONSAFEPATH"


@contextmanager
def safe_imports() -> Iterator[None]:
    """Within the block, processes that are started do not import from the working directory.

    A user's file `torch.py` or `json.py` there would be imported in place of the package.

    Example:
        >>> with safe_imports():
        ...     os.environ["PYTHONSAFEPATH"]
        '1'
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def absolute_python_path() -> str:
    """PYTHONPATH for a process in another working directory."""
    entries = os.environ.get("PYTHONPATH", "")
    return os.pathsep.join(map(os.path.abspath, entries.split(os.pathsep))) if entries else ""
