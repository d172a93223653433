"""The kit in headless Chromium: accessible, legible on a phone, whole on paper."""

from pathlib import Path

import pytest

from pipelines.reports.html import render_page
from pipelines.reports.parts import Cell, Chart, Entry, Facts, Page, Section, Table, Text
from pipelines.reports.plots import Axis, Bars, Graph, Heat, Mark, Range, Ranges, Series
from tests.support.browser import NEEDS_CHROMIUM, open_browser, require_legible

pytestmark = [pytest.mark.slow, NEEDS_CHROMIUM]

LONG = "a.setting.whose.name.is.long.and.has.no.place.to.break"


def crowded_page() -> Page:
    """Builds a page of many series, long names, wide tables and large numbers."""
    names = [f"series {at} of {LONG}" for at in range(8)]
    lines = [
        Series(name, [(float(x), 1e6 * (at + x)) for x in range(70)])
        for at, name in enumerate(names)
    ]
    columns = [f"training.setting_{at}" for at in range(14)]
    groups = [f"{LONG} {at}" for at in range(12)]
    parts = [
        Text(f"A sentence with {LONG}.", "warning", see=("there", "more")),
        Facts([("Events", "1,234,567,890"), (LONG, LONG)], is_large=True),
        Chart("Lines", LONG, Graph(lines, Axis("step"), Axis("loss"), [Mark("x", 30.0, "kept")])),
        Chart("Categories", LONG, Graph([Series("a", [(float(at), at) for at in range(12)])],
              Axis("events", categories=groups), Axis("recall", scale="share"))),
        Chart("Bars", LONG, Bars(groups, {n: [1234.5] * 12 for n in names[:2]}, spec=",.1f")),
        Chart("Heat", LONG, Heat(groups, columns, [[0.5] * 14] * 12, [["+0.123"] * 14] * 12)),
        Chart("Ranges", LONG, Ranges([Range(n, 0.1, -0.1, 0.2) for n in groups], "B minus A",
              spec="+.4f", is_difference=True), is_wide=True),
        *[Chart(n, LONG, Graph([Series("", [(0.0, 0.0), (1.0, 1.0)], "points")],
              Axis(is_hidden=True), Axis(is_hidden=True), height=520), is_wide=True)
          for n in ("A map", "Another map")],
        Table("Fits", ["A", "B", "C", "D"], [["1", "2", "3", "4"]]),
        Table("Wide", ["Trial", *columns], [[str(r), *["0.123456"] * 14] for r in range(60)]),
        Table("Texts", ["Name", "Text", "Share"],
              [[LONG, f"{LONG} " * 5, Cell("50.0%", share=0.5)]] * 3, texts=2),
        Entry("Folded", [Table("Inner", [LONG], [[LONG]])]),
    ]  # fmt: skip
    return Page(f"Page of {LONG}", LONG, [Section("first", LONG, parts), Section("more", "M", [])])


def test_a_crowded_page_is_legible_everywhere(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(render_page(crowded_page()), encoding="utf-8")
    with open_browser() as browser:
        page = browser.new_page(offline=True)
        page.goto(f"file://{tmp_path}/page.html")
        require_legible(page)
        page.emulate_media(media="print")
        tops = page.evaluate(
            "[...document.querySelectorAll('.map')].map(each => each.getBoundingClientRect().top)"
        )
        assert len(tops) == 2
        assert tops[0] == tops[1], "maps share a page"
