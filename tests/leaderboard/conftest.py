"""Real data, a stand-in of the hub, and libraries that are quiet."""

import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from unittest.mock import patch

import datasets
import pytest
import vl_convert
from support.hubs import StandInHub, serving


@pytest.fixture(scope="session", autouse=True)
def _one_bundle() -> Iterator[None]:
    """The scripts of a page are the same for every page, and take a second to bundle."""
    with patch.object(vl_convert, "javascript_bundle", cache(vl_convert.javascript_bundle)):
        yield


@pytest.fixture(scope="session")
def mteb_mirror() -> Path:
    """Real data of MTEB tasks, which are no part of the repository: beside it, or where MTEB_MIRROR says."""
    beside = Path(__file__).parents[3] / "shared" / "mteb_mirror"
    folder = Path(os.environ.get("MTEB_MIRROR", beside))
    if not folder.is_dir():
        pytest.skip(f"there is no folder {folder} with real data of MTEB tasks")
    return folder


@pytest.fixture(scope="session")
def paper_folder() -> Path:
    """The paper's published results, which are no part of the repository: beside it, or where PAPER_TABLES says."""
    beside = Path(__file__).parents[3] / "shared" / "paper"
    folder = Path(os.environ.get("PAPER_TABLES", beside))
    if not folder.is_dir():
        pytest.skip(f"there is no folder {folder} with the paper's published results")
    return folder


@pytest.fixture
def stand_in_hub() -> Iterator[StandInHub]:
    """A stand-in of the hub on this machine; see StandInHub."""
    with serving(StandInHub()) as hub:
        yield hub


@pytest.fixture
def quiet_libraries() -> Iterator[None]:
    """mteb and datasets say much."""
    level = logging.getLogger("mteb").level
    logging.getLogger("mteb").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()
    logging.getLogger("mteb").setLevel(level)
