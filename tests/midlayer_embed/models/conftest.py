import shutil
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def lora(llama_folder: Path, make_adapter: Callable[..., Path], tmp_path: Path) -> Path:
    """An adapter of the tiny Llama that a test may spoil."""
    return Path(shutil.copytree(make_adapter(llama_folder), tmp_path / "lora"))
