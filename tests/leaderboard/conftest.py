"""A stand-in of the hub, and libraries that are quiet."""

import logging
from collections.abc import Iterator
from functools import cache
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
