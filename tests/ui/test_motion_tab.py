"""The tab Motion in headless Chromium."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from app_process import Visit
from playwright.sync_api import Page

pytestmark = pytest.mark.browser

MARKED = """name => {
  const image = document.querySelector(`#motion figure[data-name=${name}] img`);
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext('2d');
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let marked = 0;
  for (let i = 0; i < data.length; i += 4)
    marked += data[i] === 213 && data[i + 1] === 94 && data[i + 2] === 0;
  return marked / (canvas.width * canvas.height);
}"""
"""Share of the picture in vermilion, the colour of the sites that η discards."""


def source(page: Page, name: str) -> str:
    found = page.get_attribute(f"#motion figure[data-name={name}] img", "src")
    assert found is not None
    return found


def caption(page: Page, name: str) -> str:
    return page.inner_text(f"#motion figure[data-name={name}] figcaption")


def test_motion_of_the_example(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    page.get_by_role("tab", name="Motion").click()
    page.wait_for_selector("#motion .numbers", timeout=30_000)
    assert page.locator("#motion .board.small figure").count() == 4
    assert page.locator("#motion .chart path.line").count() == 4
    colour = page.evaluate(
        "getComputedStyle(document.querySelector('#motion path.line.label-1')).stroke"
    )
    assert colour == "rgb(230, 159, 0)"  # that of the label everywhere
    assert "Speed, px a frame" in page.inner_text("#motion .chart")

    # η: the share that is discarded is the share that is marked, and L_c falls.
    page.fill("#eta input[type=number]", "4")
    page.keyboard.press("Enter")
    page.wait_for_selector("#motion figcaption:has-text('η = 4.0 %')")
    assert page.evaluate(MARKED, "kept-change") == pytest.approx(0.04, abs=0.001)
    losses = [
        float(re.findall(r"L_c ([\d.]+)", caption(page, name))[0])
        for name in ("change", "kept-change")
    ]
    assert 0 < losses[1] < losses[0]

    # Another parameter, and a click on the chart jumps.
    page.get_by_label("Rotation").click()
    page.wait_for_selector("#motion .chart:has-text('degrees a frame')")
    before = {name: source(page, name) for name in ("measured", "explained", "model-1")}
    bands = page.locator("#motion .bands")
    box = bands.bounding_box()
    assert box is not None
    bands.click(position={"x": box["width"] / 2, "y": 20})
    page.wait_for_selector("#motion .caption:has-text('Frame 12')")
    assert page.input_value("#frame input[type=number]") == "12"
    assert all(source(page, name) != old for name, old in before.items())
    assert page.locator("#motion .numbers tbody tr").count() == 4

    page.click("#motion figure[data-name=residual]")
    large = page.locator("#motion figure[data-name=residual]").bounding_box()
    small = page.locator("#motion figure[data-name=measured]").bounding_box()
    assert large is not None
    assert small is not None
    assert large["width"] > 1.8 * small["width"]

    # The file of the tab Downloads has the figures that the table shows.
    rows = [row.split("\t") for row in page.locator("#motion .numbers tbody tr").all_inner_texts()]
    shown = [[float(cell.replace("−", "-")) for cell in row[2:]] for row in rows]
    page.get_by_role("tab", name="Downloads").click()
    with page.expect_download() as download:
        page.click("button:has-text('motion.csv')")
    download.value.save_as(tmp_path / "motion.csv")
    with (tmp_path / "motion.csv").open(encoding="utf-8", newline="") as file:
        lines = [line for line in csv.reader(file) if line[0] == "12"]
    kept = [[float(cell) for cell in line[2:9]] for line in lines]
    assert np.array(kept) == pytest.approx(np.array(shown), abs=0.0051)
    assert not visit.errors
    assert not visit.outside
