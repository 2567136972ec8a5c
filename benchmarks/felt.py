"""Speed as a visitor feels it: ``python -m benchmarks.felt --video FILE --frames 80``.

Opens the app in headless Chromium and takes the time from each act to the picture that answers
it: a picture counts when the browser has decoded it. Prints a table against the targets of the
design, for 80 frames of 854x480 with DIS on two cores. ``--json FILE`` keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from playwright.sync_api import Browser, Page

from benchmarks.served_page import OPEN_TAB, ROOT, chromium, served_app, wait_status

VIDEO = ROOT / "assets" / "clips" / "orbit.mp4"
PATIENCE = 600.0
STRIDES = {1: "at every frame (paper)", 2: "at every second frame"}
"""What the page calls them."""

WAIT = """([board, name, act]) => new Promise((resolve, reject) => {
  const image = () => document.querySelector(`#${board} figure[data-name="${name}"] img`);
  const old = image() ? image().src : '';
  const begun = performance.now();
  new Function(act)();
  const look = () => {
    const now = image();
    if (now && now.src !== old && now.complete && now.naturalWidth) {
      resolve(performance.now() - begun);
    } else if (performance.now() - begun > 60000) {
      reject(new Error('the picture did not change'));
    } else {
      requestAnimationFrame(look);
    }
  };
  look();
})"""
"""Does something and waits until the picture is another one; milliseconds."""

TYPE = """
const field = document.querySelector('#{0} input[type=range]');
field.value = {1};
field.dispatchEvent(new Event('input', {{bubbles: true}}));
"""


@dataclass(frozen=True)
class Figure:
    """One line of the table; seconds.

    Attributes:
        what: what was timed.
        seconds: how long it took.
        target: how long it may take.
    """

    what: str
    seconds: float
    target: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the speed of the page as it is felt.")
    parser.add_argument("--video", type=Path, default=VIDEO, help="clip to upload")
    parser.add_argument("--frames", type=int, default=80, help="frames to read")
    parser.add_argument(
        "--stride",
        type=int,
        choices=(1, 2),
        help="of the triplets; as the page has it if not given",
    )
    parser.add_argument("--moves", type=int, default=40, help="moves of the slider")
    parser.add_argument("--json", type=Path, help="keep the figures here")
    options = parser.parse_args()
    with served_app() as address, chromium() as browser:
        figures = measure(
            browser, address, options.video, options.frames, options.moves, options.stride
        )
    about = {
        "video": options.video.name,
        "frames": options.frames,
        "stride": options.stride,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    triplets = "automatic" if options.stride is None else STRIDES[options.stride]
    print(
        f"{options.video.name}, at most {options.frames} frames, triplets {triplets}, "
        f"{about['machine']}\n"
    )
    print("| what | seconds | target | |\n|---|---|---|---|")
    for each in figures:
        met = "met" if each.seconds <= each.target else f"{each.seconds / each.target:.1f} times"
        print(f"| {each.what} | {each.seconds:.3f} | {each.target:g} | {met} |")
    if options.json:
        rows = [vars(each) for each in figures]
        options.json.write_text(json.dumps({**about, "figures": rows}, indent=1) + "\n")


def measure(
    browser: Browser, address: str, video: Path, frames: int, moves: int, stride: int | None
) -> list[Figure]:
    """All lines of the table, in the order in which a visitor would come to them."""
    page = _visit(browser, address)
    page.set_input_files("#left input[type=file] >> nth=0", video)
    wait_status(page, "is chosen", 60)
    page.click("#advanced > button")
    page.get_by_label("Frames to read").fill(str(frames))
    page.keyboard.press("Tab")
    if stride is not None:
        page.click("#stride input")
        page.get_by_role("option", name=STRIDES[stride]).click()
    page.wait_for_timeout(500)
    begun = time.perf_counter()
    page.click("#segment")
    page.wait_for_selector("#board figure[data-name=overlay] img", timeout=1000 * PATIENCE)
    figures = [Figure("first picture after Segment", time.perf_counter() - begun, 3)]
    wait_status(page, "Writing", PATIENCE)
    figures.append(Figure("whole clip segmented", time.perf_counter() - begun, 20))
    wait_status(page, "frames in", PATIENCE)
    figures.append(Figure("whole clip, files written", time.perf_counter() - begun, 20))

    def timed(board: str, name: str, act: str) -> float:
        return float(page.evaluate(WAIT, [board, name, act])) / 1000

    slider = [
        timed("board", "overlay", f"window.stseg.go({_place(n, page)})") for n in range(moves)
    ]
    figures.append(Figure("slider to picture, p95", float(np.percentile(slider, 95)), 0.12))
    for k in ("3", "5"):
        figures.append(
            Figure(f"K to {k}", timed("board", "overlay", TYPE.format("k", k)), 1),
        )
        wait_status(page, "are written", PATIENCE)
    moved = [timed("board", "occlusions", TYPE.format("eta", eta)) for eta in (2, 4, 6, 3, 5)]
    figures.append(Figure("η to picture, slowest of 5", max(moved), 0.3))
    figures += _tabs(page, timed)
    figures += _while_computing(page, browser, address)
    page.context.close()
    return figures


def _visit(browser: Browser, address: str) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    page.set_default_timeout(60_000)
    page.goto(address)
    wait_status(page, "finished", PATIENCE)
    return page


def _place(number: int, page: Page) -> int:
    """Frames far from one another, none twice in a row."""
    last = int(page.get_attribute("#frame input[type=range]", "max") or 1)
    return (1 + 7 * number) % (last + 1)


def _beside(browser: Browser, address: str) -> Figure:
    """Another visitor's slider, while the clip of the first one is computed."""
    other = _visit(browser, address)
    taken = []
    for number in range(10):
        act = f"window.stseg.go({_place(number, other)})"
        taken.append(float(other.evaluate(WAIT, ["board", "overlay", act])) / 1000)
    other.context.close()
    return Figure("a second visitor's slider, p95", float(np.percentile(taken, 95)), 0.3)


def _tabs(page: Page, timed: Callable[[str, str, str], float]) -> list[Figure]:
    figures = []
    begun = time.perf_counter()
    page.evaluate(OPEN_TAB, "Similarity")
    page.wait_for_selector("#similarity figure[data-name=merged] img")
    figures.append(Figure("tab Similarity opens", time.perf_counter() - begun, 1))
    taken = []
    for threshold in ("-1", "1", "-1"):
        act = TYPE.format("threshold", threshold)
        taken.append(timed("similarity", "merged", act))
    figures.append(Figure("merge threshold, slowest of 3", max(taken), 0.3))
    begun = time.perf_counter()
    page.evaluate(OPEN_TAB, "Motion")
    page.wait_for_selector("#motion .numbers")
    figures.append(Figure("tab Motion opens", time.perf_counter() - begun, 1))
    moved = [timed("motion", "kept-change", TYPE.format("eta", eta)) for eta in (2, 4, 6)]
    figures.append(Figure("η on the tab Motion, slowest of 3", max(moved), 0.3))
    return figures


def _while_computing(page: Page, browser: Browser, address: str) -> list[Figure]:
    """Segment again with known flow; another visitor moves the slider meanwhile; then Stop."""
    page.evaluate(OPEN_TAB, "Segments")
    page.click("#segment")
    wait_status(page, ": frame ", 60)
    beside = _beside(browser, address)
    begun = time.perf_counter()
    page.click("#stop")
    wait_status(page, "Stopped", 60)
    return [beside, Figure("Stop", time.perf_counter() - begun, 1)]


if __name__ == "__main__":
    main()
