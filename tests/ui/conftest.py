"""A running app and a browser in front of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from app_process import Served, Visit, end, start
from playwright.sync_api import Browser, BrowserContext, sync_playwright
from unseen_page import Page, finished

from stseg.records import Clip
from stseg.ui.shown import Shown

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-background-networking"),
    # A camera that shows a moving pattern, and nobody to ask for leave.
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"),
]


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    process, served = start([], tmp_path_factory.mktemp("app"))
    yield served
    assert end(process) == 0
    left = [path.name for path in served.temporary.glob("stseg-*")]
    assert not left, "the app left files behind"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        if "STSEG_NO_BROWSER" in os.environ:
            pytest.skip("STSEG_NO_BROWSER is set and there is no Chromium")
        pytest.fail(
            f"There is no {CHROMIUM}: apt-get install chromium, or set STSEG_NO_BROWSER to skip."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """One cache for all visits: the page's own files are fetched and compiled once."""
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield context


@pytest.fixture
def visit(context: BrowserContext, served: Served) -> Iterator[Visit]:
    """A page of a visitor of their own, with the finished example on it."""
    visit = Visit(context.new_page(), served.address)
    visit.open()
    yield visit
    visit.page.close()


@pytest.fixture(scope="module")
def shown(clip: Clip, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """A finished result of the small clip, with its files."""
    return finished(clip, tiny_model, tmp_path_factory.mktemp("files"))


@pytest.fixture
def page(shown: Shown) -> Iterator[Page]:
    """A page with that result which nobody looks at."""
    page = Page(shown)
    yield page
    page.sessions.close_all()
