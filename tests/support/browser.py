"""A headless Chromium, and what is asked of every page in it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium; apt install it")
# The width of A4 within the margins of the pages, and its height, in pixels of CSS.
A4_WIDTH, A4_HEIGHT = 702, 1017


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Opens the browser, and closes it in the end."""
    with sync_playwright() as playwright:
        options = {"executable_path": CHROMIUM, "args": ["--no-sandbox", "--disable-gpu"]}
        browser = playwright.chromium.launch(**options)
        yield browser
        browser.close()


def axe(page: Page) -> list[str]:
    """Returns the violations of WCAG 2.2, level AA."""
    from axe_playwright_python.sync_playwright import Axe

    rules = ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"]
    # Elements that pass are not listed: there are tens of thousands in a large page.
    result = Axe().run(page, options={"runOnly": rules, "resultTypes": ["violations"]})
    return [
        f"{violation['id']}: {violation['nodes'][0]['html']}"
        for violation in result.response["violations"]
    ]


def require_legible(page: Page) -> None:
    """Requires that a static page is accessible, fits a phone, and prints whole on A4."""
    # Contrast is a matter of colours, and the size of targets of widths: each of both is seen once.
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})
    assert axe(page) == [], "light"
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert _wrong_hints(page) == []
    assert axe(page) == [], "dark"
    sizes = page.evaluate(
        """() => [...document.querySelectorAll('svg.chart text')].map(text => {
            const {a, b} = text.getScreenCTM();
            return Math.hypot(a, b) * parseFloat(getComputedStyle(text).fontSize);
        })"""
    )
    assert all(size >= 11.9 for size in sizes)
    page.set_viewport_size({"width": A4_WIDTH, "height": A4_HEIGHT})
    page.emulate_media(media="print", color_scheme="light")
    require_whole_on_paper(page)
    page.emulate_media(media="screen")


def _wrong_hints(page: Page) -> list[str]:
    """Returns the tables that scroll sideways and do not say so, and those that only say it."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll('.scroll')].filter(each => {
            const hint = getComputedStyle(each.querySelector('table'), '::before');
            const says = hint.content !== 'none' && parseFloat(hint.width) > 0;
            return each.checkVisibility() && says !== (each.scrollWidth > each.clientWidth + 1);
        }).map(each => each.getAttribute('aria-label'))"""
    )
    return found


def require_whole_on_paper(page: Page) -> None:
    """Requires that nothing of a page that is shown as on A4 is cut, and colours are kept."""
    boxes = page.evaluate(
        """() => [...document.querySelectorAll('figure, table, svg.chart text')].map(element => {
            const box = element.getBoundingClientRect();
            return [element.outerHTML.slice(0, 120), box.left, box.right, box.height];
        })"""
    )
    for html, left, right, height in boxes:
        assert left >= -1, html
        assert right <= A4_WIDTH + 1, html
        assert html.startswith("<table") or height <= A4_HEIGHT, html
    assert page.evaluate(
        """() => [...document.querySelectorAll('.scroll')].every(
            each => getComputedStyle(each).overflowX === 'visible')"""
    )
    kept = "getComputedStyle(document.body).getPropertyValue('print-color-adjust')"
    assert page.evaluate(kept) == "exact"
