"""Results of a tiny model on tiny tasks, a stand-in of the hub that takes uploads, and a browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
from support.hubs import UploadHub, serving
from support.tiny_tasks import TinySTS, renamed
from support.web.browsers import Opened

from leaderboard import run_sweep

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page


@pytest.fixture(scope="session")
def tiny_results(llama_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the tiny Llama, all layers, on a task that mteb knows by its name and one that nobody knows."""
    folder = tmp_path_factory.mktemp("results")
    tasks = [TinySTS(), renamed(TinySTS, "STSBenchmark")]
    run_sweep(llama_folder, tasks, folder, metrics=["dataset_entropy", "curvature"], show_progress=False)
    return folder


@pytest.fixture
def upload_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[UploadHub]:
    """A stand-in of the hub that this process asks instead of the hub, with a token; see UploadHub."""
    with serving(UploadHub()) as hub:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield hub


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Chromium without a window; tests that need it are skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="pages need playwright to be tried in a browser")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with api.sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("pages need a browser to be tried in: Chromium or Chrome")
        launched = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: "Browser") -> Iterator[Opened]:
    """Opens a page from the disk; afterwards nothing may have gone wrong in it, nor been asked of a network."""
    wrong: list[str] = []
    contexts: list[BrowserContext] = []

    def open_page(
        path: Path,
        *,
        width: int = 1280,
        scheme: Literal["light", "dark"] = "light",
        javascript: bool = True,
        touch: bool = False,
    ) -> "Page":
        context = browser.new_context(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            java_script_enabled=javascript,
            has_touch=touch,
            is_mobile=touch,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
        page.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
        asked = lambda url: url.startswith(("data:", "blob:")) or url == path.as_uri()  # noqa: E731
        page.on("request", lambda request: asked(request.url) or wrong.append(f"request: {request.url}"))
        page.goto(path.as_uri())
        if javascript:
            page.wait_for_selector("body[data-ready]", timeout=60_000)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []
