"""Make the pictures of the README again: ``python -m benchmarks.screenshots``.

``--out assets/screens`` (the default) gets one WebP a tab, with a finished result, light and
1280 px wide. ``--all`` adds dark and 390 px, to be looked at: give it another ``--out`` then. The
clips are those that ship. Needs Debian's ``chromium``; a few minutes on two cores.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from benchmarks.served_page import OPEN_TAB, ROOT, chromium, pick, served_app, wait_status
from stseg.pipeline import SegmentationRun
from stseg.records import Settings
from stseg.render import flow_scale, grid
from stseg.video import probe

FRAME = 10
DARK = "dark => document.body.classList.toggle('dark', dark)"
WIDTHS = (1280, 390)
HEIGHT = 844
PATIENCE = 600.0


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description="Make the screenshots of the README again.")
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "screens")
    parser.add_argument("--all", action="store_true", help="also dark, and 390 px wide")
    parser.add_argument("--tabs", nargs="+", choices=FINISH, default=list(FINISH), metavar="TAB")
    parser.add_argument("--data", action="append", default=[], help="as of app.py")
    parser.add_argument("--clip", help="clip to segment and show, instead of the example")
    parser.add_argument("--grid", action="store_true", help="make assets/grid.webp again, too")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.grid:
        make_grid()
    data = [part for folder in options.data for part in ("--data", folder)]
    with served_app(data) as address, chromium() as browser:
        page = browser.new_page(viewport={"width": WIDTHS[0], "height": HEIGHT})
        page.on("pageerror", lambda error: print(f"The page complains: {error}"))
        page.goto(address)
        _segment(page, options.clip)
        for tab in options.tabs:
            page.evaluate(OPEN_TAB, tab)
            FINISH[tab](page)
            for width in WIDTHS if options.all else WIDTHS[:1]:
                page.set_viewport_size({"width": width, "height": HEIGHT})
                for scheme in ("light", "dark") if options.all else ("light",):
                    page.evaluate(DARK, scheme == "dark")
                    name = f"{tab.lower()}-{scheme}-{width}" if options.all else tab.lower()
                    take(page, tab, options.out / f"{name}.webp")
            page.set_viewport_size({"width": WIDTHS[0], "height": HEIGHT})


def take(page: Page, tab: str, path: Path) -> None:
    """Open a tab and write the whole page as it is then."""
    page.evaluate(OPEN_TAB, tab)
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(1500)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    picture.convert("RGB").save(path, quality=82, method=6)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size // 1024} kB")


def _segment(page: Page, clip: str | None) -> None:
    """The example is segmented as it is; another clip has to be."""
    page.set_default_timeout(60_000)
    wait_status(page, "finished", PATIENCE)
    page.wait_for_timeout(1500)  # the page is still being filled, K too
    if clip is not None:
        pick(page, clip)
        page.click("#segment")
        wait_status(page, "frames in", PATIENCE)
    page.evaluate("frame => window.stseg.go(frame)", FRAME)


def _compare(page: Page) -> None:
    page.click("#compare-k input")
    page.click("#compare-k [role=option]:has-text('3')")
    page.click("#compare")
    wait_status(page, "side by side", PATIENCE)


def _fit(page: Page) -> None:
    page.fill("#fit-steps input[type=number]", "10")
    page.keyboard.press("Enter")
    page.click("#fit-start")
    wait_status(page, "The result is in Compare", PATIENCE)


def _score(page: Page) -> None:
    page.click("#benchmark-start")
    wait_status(page, "are scored", PATIENCE)


def _play(page: Page) -> None:
    """The video is there when the browser has its first picture."""
    page.wait_for_function("document.querySelector('#grid-video video')?.readyState >= 2")


def _shown(selector: str) -> Callable[[Page], None]:
    """The tab is filled a moment after it is opened."""

    def wait(page: Page) -> None:
        page.wait_for_selector(selector)

    return wait


FINISH: dict[str, Callable[[Page], None]] = {
    "Segments": _play,
    "Similarity": _shown("#similarity .matrix"),
    "Motion": _shown("#motion .numbers"),
    "Downloads": _shown("#download-state"),
    "Compare": _compare,
    "Fit": _fit,
    "Benchmark": _score,
}
"""What each tab needs before it has something to show."""


def make_grid() -> None:
    """Write the grid of one frame of a shipped clip."""
    clip = probe(ROOT / "assets" / "clips" / "orbit.mp4")
    run = SegmentationRun(clip, Settings())
    images = [frame.image for frame in run.frames()]
    result = run.result()
    segments, labels = result.segments(FRAME), result.labels(FRAME)
    picture = grid(images[FRAME], result.motion(FRAME), segments, labels, flow_scale(result))
    Image.fromarray(picture).save(ROOT / "assets" / "grid.webp", quality=85, method=6)


if __name__ == "__main__":
    main()
