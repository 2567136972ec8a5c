"""What must be seen is seen: the status beside the button, whole numbers, buttons that work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from app_process import PATIENCE, Served, Visit
from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

IN_VIEW = """() => {
  const line = document.querySelector('#status .status span');
  const box = line.getBoundingClientRect();
  const top = document.elementFromPoint(box.left + 2, (box.top + box.bottom) / 2);
  return box.top >= 0 && box.bottom <= innerHeight && line.contains(top);
}"""
"""Whether the status is on the screen and nothing lies over it."""

CUT = """() => [...document.querySelectorAll('.matrix button')].filter((button) => {
  const text = document.createRange();
  text.selectNodeContents(button);
  return text.getBoundingClientRect().width > button.getBoundingClientRect().width;
}).length"""
"""Cells of the matrices whose number is wider than they are."""


THROUGH = """() => {
  const seen = new Set(), bar = document.querySelector('#status');
  for (let scrolled = 0; scrolled < 600; scrolled += 7) {
    scrollTo(0, scrolled);
    const box = bar.getBoundingClientRect();
    for (let x = box.left + 2; x < box.right; x += 20)
      for (let y = box.top + 2; y < box.bottom; y += 6) {
        const top = document.elementFromPoint(x, y);
        if (top && !bar.contains(top)) seen.add(`${top.tagName} ${top.textContent.slice(0, 20)}`);
      }
  }
  scrollTo(0, 0);
  return [...seen];
}"""
"""What lies over the status somewhere, while the page is scrolled under it."""


@pytest.fixture(params=[(1280, 720, "light"), (1024, 768, "dark"), (390, 844, "light")])
def sized(request: pytest.FixtureRequest, browser: Browser, served: Served) -> Iterator[Visit]:
    width, height, scheme = request.param
    with browser.new_context(viewport={"width": width, "height": height}) as context:
        visit = Visit(context.new_page(), served.address)
        visit.open(f"?__theme={scheme}")
        yield visit


def test_the_status_is_there_wherever_segment_is_pressed(sized: Visit) -> None:
    page = sized.page
    page.click("#advanced > button")
    page.locator("#refine").scroll_into_view_if_needed()
    sized.read_only(5)
    page.click("#segment")
    assert page.evaluate("scrollY") > 200
    sized.wait_status("orbit: 5 frames", 60)
    assert page.evaluate("scrollY") > 200
    assert page.evaluate(IN_VIEW)
    for place in ("0", "document.body.scrollHeight"):
        page.evaluate(f"scrollTo(0, {place})")
        page.wait_for_timeout(100)
        assert page.evaluate(IN_VIEW), place
    wide = page.viewport_size
    assert wide is not None
    assert page.evaluate("document.documentElement.scrollWidth") <= wide["width"]
    assert not sized.errors


def test_nothing_shows_through_the_status(sized: Visit) -> None:
    assert sized.page.evaluate(THROUGH) == []


def test_numbers_and_captions_can_be_read_on_a_narrow_page(visit: Visit) -> None:
    page = visit.page
    captions = page.locator("#board figcaption")
    hints = captions.evaluate_all("all => all.map((each) => each.title)")
    assert hints == captions.all_text_contents()  # whole, though cut on the page
    assert any("in full colour" in hint for hint in hints)
    page.fill("#k input[type=number]", "8")
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('#legend input').length === 8")
    page.click("button[role=tab]:has-text('Similarity')")
    page.wait_for_selector("#similarity .matrix", timeout=30_000 * PATIENCE)
    for k in (8, 6):
        page.fill("#k input[type=number]", str(k))
        page.keyboard.press("Enter")
        cells = f"document.querySelectorAll('#similarity .matrix tr').length === {2 * (k + 1)}"
        page.wait_for_function(cells, timeout=30_000 * PATIENCE)
        for width in (1280, 1024, 905, 645, 390):
            page.set_viewport_size({"width": width, "height": 800})
            page.wait_for_function(f"({CUT})() === 0", timeout=5000 * PATIENCE)
    page.set_viewport_size({"width": 1280, "height": 900})
    assert not visit.errors


def test_there_is_nothing_to_play_before_segment(visit: Visit) -> None:
    page = visit.page
    buttons = page.locator("#player > button")
    ends = page.locator("#frame").locator(".min_value, .max_value")
    for clip, seen in (("crossing", False), ("orbit", True)):
        visit.pick(clip)
        state = "enabled" if seen else "disabled"
        page.wait_for_selector(f"#previous:{state}")
        for number in range(3):
            assert buttons.nth(number).is_enabled() == seen
        for number in range(2):
            assert ends.nth(number).is_visible() == seen
    page.click("#next")
    page.wait_for_selector("#board figcaption:has-text('frame 1')")
    assert not visit.errors
