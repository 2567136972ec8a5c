"""The app as a process of its own and a page of it in headless Chromium, for what looks at it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
CHROMIUM = "/usr/bin/chromium"
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")

OPEN_TAB = """title => {
  const tabs = [...document.querySelectorAll('#tabs [role=tab], #tabs .overflow-dropdown button')];
  tabs.find((tab) => tab.textContent.trim() === title).click();
}"""
"""Opens a tab; on a narrow page some are in a menu of their own."""


@contextmanager
def served_app(arguments: Sequence[str] = ()) -> Iterator[str]:
    """Start ``app.py`` with a temporary folder of its own; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    with tempfile.TemporaryDirectory(prefix="stseg-page-") as folder:
        environment = {**os.environ, "TMPDIR": folder, "GRADIO_TEMP_DIR": f"{folder}/gradio"}
        app = subprocess.Popen(
            [sys.executable, "app.py", "--port", str(port), *arguments],
            cwd=ROOT,
            env=environment,
            stderr=subprocess.DEVNULL,
        )
        try:
            _wait(app, address)
            yield address
        finally:
            app.send_signal(signal.SIGTERM)
            app.wait(timeout=60)


def _wait(app: subprocess.Popen[bytes], address: str) -> None:
    while app.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except OSError:
            continue
        return
    raise SystemExit(f"app.py ended with {app.returncode} before it listened.")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


def wait_status(page: Page, part: str, seconds: float) -> None:
    """Wait until the status line holds ``part``."""
    page.wait_for_function(
        "part => document.querySelector('#status')?.innerText.includes(part)",
        arg=part,
        timeout=1000 * seconds,
    )


def pick(page: Page, clip: str) -> None:
    """Choose a clip of the gallery."""
    page.click(f"#clips button:has-text('{clip}')")
    page.wait_for_selector(f"#clips button[aria-pressed=true]:has-text('{clip}')")
    wait_status(page, clip, 20)
