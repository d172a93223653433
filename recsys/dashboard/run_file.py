"""One self-contained HTML file of a run: it opens without the network, and from MLflow."""

import base64
import gzip
import json
from functools import cache
from html import escape
from importlib.resources import files
from string import Template

from pipelines.reports.parts import Cell, Chart, Entry, Link, Part, Section, Table, Text
from recsys.dashboard.data.run_data import RunData
from recsys.dashboard.sections.run import SECTIONS


def render_run(run: RunData, title: str) -> str:
    """The file.

    Args:
        run: What to show.
        title: Of the page.
    """
    sections = [make(run) for _, make in SECTIONS.values()]
    here = files("recsys.dashboard")
    template = Template((here / "run_file.html").read_text(encoding="utf-8"))
    figures: list[object] = []
    body = "".join(_section(section, figures) for section in sections)
    data = _script_json(figures)
    return template.substitute(
        title=escape(title),
        run_id=escape(run.run_id),
        style=(here / "dashboard.css").read_text(encoding="utf-8"),
        navigation="".join(f'<li><a href="#{s.key}">{escape(s.title)}</a></li>' for s in sections),
        sections=body,
        figures=data,
        plotly=_plotly(),
    )


def _script_json(value: object) -> str:
    """JSON within a script element, whose end no title can spell."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c")


@cache
def _plotly() -> str:
    """Plotly's script, compressed, for it is most of the file; the browser unpacks it."""
    script = (files("plotly") / "package_data" / "plotly.min.js").read_bytes()
    return base64.b64encode(gzip.compress(script, mtime=0)).decode("ascii")


def _section(section: Section, figures: list[object]) -> str:
    parts = "".join(_part(part, figures) for part in section.parts)
    search = ""
    if section.is_searched:
        search = (
            f'<p class="form"><label><span>Search</span><input type="search" '
            f'data-searches="{section.key}"></label></p>'
        )
    return (
        f'<section id="{section.key}"><h2>{escape(section.title)}</h2>{search}'
        f'<div class="parts">{parts}</div></section>'
    )


def _part(part: Part, figures: list[object]) -> str:
    if isinstance(part, Text):
        return f'<p class="{"warning" if part.is_warning else "text"}">{escape(part.text)}</p>'
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Entry):
        inner = "".join(_part(each, figures) for each in part.parts)
        return f"<details class='entry'><summary>{escape(part.title)}</summary>{inner}</details>"
    return _chart(part, figures)


def _chart(chart: Chart, figures: list[object]) -> str:
    figures.append(chart.figure)
    title, height = escape(chart.title), chart.figure["layout"]["height"]
    numbers = ""
    if chart.numbers is not None:
        numbers = f"<details><summary>The numbers</summary>{_table(chart.numbers)}</details>"
    return (
        f'<figure class="{"wide" if chart.is_wide else ""}"><h3>{title}</h3>'
        f'<div class="graph" role="group" aria-label="{title}" '
        f'data-figure="{len(figures) - 1}" style="height:{height}px"></div>'
        f"<figcaption>{escape(chart.summary)}</figcaption>{numbers}</figure>"
    )


def _table(table: Table) -> str:
    def cell(tag: str, content: Cell, at: int, scope: str = "") -> str:
        text = content.text if isinstance(content, Link) else content
        kind = "" if at < table.texts else ' class="number"'
        return f"<{tag}{scope}{kind}>{escape(text)}</{tag}>"

    head = "".join(cell("th", name, at, ' scope="col"') for at, name in enumerate(table.columns))
    rows = "".join(
        "<tr>"
        + cell("th", row[0], 0, ' scope="row"')
        + "".join(cell("td", value, at) for at, value in enumerate(row[1:], start=1))
        + "</tr>"
        for row in table.rows
    )
    caption = escape(table.caption)
    return (
        f'<div class="scroll" tabindex="0" role="group" aria-label="{caption}"><table>'
        f"<caption>{caption}</caption><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        "</div>"
    )
