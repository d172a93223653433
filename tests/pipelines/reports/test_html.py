"""Static pages: escaped, self-contained, with every number of their data."""

import ast
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from pipelines.reports.html import render_page, svg_file
from pipelines.reports.palette import DARK, LIGHT
from pipelines.reports.parts import (
    Band,
    Cell,
    Chart,
    Code,
    Entry,
    Facts,
    Page,
    Row,
    Section,
    Table,
    Text,
)
from pipelines.reports.plots import Axis, Bars, Graph, Heat, Mark, Range, Ranges, Series
from tests.support.colours import contrast
from tests.support.outline import Outline

ROOT = Path(__file__).parents[3]
EVIL = "<script>alert('1')</script>\"><img src=x onerror=alert(1)>&amp; {{ 7 * 7 }} {% raw %}"


def charts(name: str) -> list[Chart]:
    """Builds one chart of each kind, with the name wherever a name can be."""
    graph = Graph(
        [
            Series(name, [(1.0, 0.25), (2.0, None), (3.0, 0.75)], labels=[name] * 3),
            Series(name, [(1.0, 0.5), (3.0, 0.5)], is_faint=True),
            Series(f"{name}2", [(2.0, 0.125)], "points"),
        ],
        Axis(name, categories=[name, f"{name}1", f"{name}2", f"{name}3"]),
        Axis(name),
        [Mark("x", 2.0, name), Mark("y", 0.5, name)],
    )
    table = Table(name, [name, ""], [[name, "1"]])
    return [
        Chart(name, name, graph, table),
        Chart(name, name, Bars([name], {name: [0.375], f"{name}2": [None]}, name)),
        Chart(name, name, Heat([name], [name, f"{name}2"], [[0.5, None]], [[name, "-"]])),
        Chart(name, name, Ranges([Range(name, 0.1, 0.05, 0.2, [0.15])], name), is_wide=True),
    ]


def page(name: str) -> Page:
    table = Table(
        f"{name} table",
        [name, "number"],
        [
            Band(name, name),
            Row([Cell(name, [name], tone="bad", href=name), Cell("0.5", share=0.5)], True),
            [name, "2"],
        ],
        note=name,
    )
    parts = [
        Text(name),
        Text(name, "warning", see=(name, "second")),
        Facts([(name, name)]),
        table,
        *charts(name),
        Code(name),
        Entry(name, [table], is_open=True),
    ]
    return Page(name, name, [Section("first", name, parts), Section("second", name, [])])


def test_hostile_names_are_text_everywhere() -> None:
    html = render_page(page(EVIL))
    outline = Outline(html)
    assert {"script", "img"}.isdisjoint(outline.tags)
    assert outline.text.count(EVIL) > 20
    assert "49" not in outline.text
    assert set(outline.links) <= {f"#{each}" for each in outline.ids}


def test_a_page_needs_nothing_from_outside() -> None:
    html = render_page(page("name"))
    assert not re.search(r"https?:|url\(|@import|<link|src=", html)


def test_every_chart_has_a_name_and_a_caption() -> None:
    outline = Outline(render_page(Page("p", "l", [Section("s", "t", charts("chart"))])))
    assert outline.spoken == ["chart: chart"] * 3  # The heat map is a table, which has a name.


def test_a_table_does_not_repeat_the_title_above_it() -> None:
    section = Section("s", "Rows", [Table("Rows", ["a"], [["b"]]), Table("More", ["a"], [])])
    tags = Outline(render_page(Page("p", "l", [section]))).tags
    assert tags.count("h3") == 1


@pytest.mark.parametrize("chart", [chart for chart in charts(EVIL) if chart.plot.kind != "heat"])
def test_a_chart_as_a_file_is_a_document_of_its_own(chart: Chart) -> None:
    root = ElementTree.fromstring(svg_file(chart))
    tags = {each.tag.removeprefix("{http://www.w3.org/2000/svg}") for each in root.iter()}
    assert {"title", "desc", "style"} <= tags
    assert "script" not in tags
    used = {each.get("href") for each in root.iter() if each.get("href")}
    assert used <= {f"#{each.get('id')}" for each in root.iter() if each.get("id")}


@pytest.mark.parametrize(
    ("colours", "background"), [(LIGHT, "#ffffff"), (DARK, "#1a2029")], ids=["light", "dark"]
)
def test_series_stand_out_from_the_page(colours: tuple[str, ...], background: str) -> None:
    # WCAG 2.2, 1.4.11: 3 to 1 for graphics.
    assert min(contrast(colour, background) for colour in colours) >= 3


@pytest.mark.parametrize(
    "plot",
    [
        Graph([], Axis(), Axis()),
        Graph([Series("a", [])], Axis(scale="time"), Axis(scale="log")),
        Graph([Series("a", [(1.0, None)])], Axis(), Axis()),
        Graph([Series("a", [(1.0, 5.0)])], Axis(scale="log"), Axis()),
        Graph([Series("a", [(0.0, 0.0)], "bars")], Axis(scale="time"), Axis()),
        Graph([Series("a", [(1.0, float("nan")), (2.0, 1.0)])], Axis(), Axis()),
        Bars([], {}),
        Bars(["a"], {"b": [None]}),
        Heat([], [], [], []),
        Ranges([]),
        Ranges([Range("a", 0.0, None, None)], is_difference=True),
    ],
)
def test_nearly_nothing_can_be_drawn(plot) -> None:
    html = render_page(Page("p", "l", [Section("s", "t", [Chart("c", "d", plot)])]))
    Outline(html)
    assert "nan" not in html.lower().replace("nano", "")


def modules() -> list[Path]:
    packages = ("feature_store", "pipelines", "recsys", "serving")
    kit = ROOT / "pipelines" / "reports"
    files = [path for name in packages for path in sorted((ROOT / name).rglob("*.py"))]
    return [path for path in files if kit not in path.parents]


# This module writes JSON for Plotly, which interprets labels as markup.
ESCAPING = {ROOT / "recsys" / "dashboard" / "plotly.py"}


def test_no_module_outside_of_the_kit_writes_html() -> None:
    markup = re.compile(r"</?(table|tr|td|th|svg|path|section|figure|p|dl|details|ul|ol|h\d)\b")
    for path in modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if id(node) in docs:
                continue
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                assert not markup.search(node.value), where
            if isinstance(node, ast.ImportFrom) and node.module == "html":
                assert path in ESCAPING, where


def test_ticks_of_a_time_axis_do_not_run_into_each_other_on_a_phone() -> None:
    # Midnight of New Year's Eve of 2021, and 400 days later: the first two ticks are close.
    first = 1_640_908_800.0
    ends = [(first, 1.0), (first + 400 * 86_400, 2.0)]
    drawn = svg_file(Chart("t", "t.", Graph([Series("", ends)], Axis(scale="time"), Axis())))
    assert "2022-01</text>" in drawn
    assert "2022-04</text>" not in drawn
    assert "2022-07</text>" in drawn
