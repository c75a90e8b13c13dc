"""A stand-in of the hub, and libraries that are quiet."""

import logging
import uuid
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


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[str]:
    for package in ("s3fs", "moto", "flask", "flask_cors"):
        pytest.importorskip(package)
    from support.stores import s3

    with s3.serving() as address:
        yield address


@pytest.fixture
def s3_bucket(_s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket, such as s3://name, of a real S3 server on this machine; the environment says where it is."""
    from s3fs import S3FileSystem
    from support.stores import s3

    for name, value in s3.environment(_s3_server).items():
        monkeypatch.setenv(name, value)
    S3FileSystem.clear_instance_cache()
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    S3FileSystem().mkdir(name)
    yield f"s3://{name}"
    S3FileSystem.clear_instance_cache()
