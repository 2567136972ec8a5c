"""Make the pictures of the README again: ``python -m benchmarks.pictures``.

``assets/grid.png`` is a frame of the grid of a shipped clip; ``assets/app.png`` is the page of a
first visit, in headless Chromium (Debian's ``chromium``).
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from stseg.pipeline import SegmentationRun
from stseg.records import Settings
from stseg.render import flow_scale, grid
from stseg.video import probe

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "assets"
FRAME = 10


def make_grid(name: str = "orbit") -> None:
    """Write the grid of one frame of a shipped clip."""
    clip = probe(ASSETS / "clips" / f"{name}.mp4")
    run = SegmentationRun(clip, Settings(k=2))
    images = [frame.image for frame in run.frames()]
    result = run.result()
    segments, labels = result.segments(FRAME), result.labels(FRAME)
    picture = grid(images[FRAME], result.motion(FRAME), segments, labels, flow_scale(result))
    Image.fromarray(picture).save(ASSETS / "grid.png", optimize=True)


def make_screenshot() -> None:
    """Start the app, wait for its example and write a screenshot of the page."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = subprocess.Popen([sys.executable, "app.py", "--port", str(port)], cwd=ROOT)
    try:
        address = f"http://127.0.0.1:{port}/"
        for _ in range(150):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                time.sleep(0.2)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
            )
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.goto(address)
            page.wait_for_selector("#status:has-text('finished')", timeout=60_000)
            page.wait_for_timeout(1500)
            page.screenshot(path=str(ASSETS / "app.png"))
            browser.close()
    finally:
        app.terminate()
        app.wait(timeout=20)


if __name__ == "__main__":
    make_grid()
    make_screenshot()
