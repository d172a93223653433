"""Parts as components of Dash: native elements, which keyboards and screen readers know."""

import re
from collections.abc import Iterable, Sequence
from typing import Any
from urllib.parse import quote

from dash import dcc, html

from pipelines.reports.html import svg_file
from pipelines.reports.opening import SIGNS, Check, Judged, Mark, Opening, State, Verdict
from pipelines.reports.parts import (
    Band,
    Cell,
    Cells,
    Chart,
    Code,
    Entry,
    Facts,
    Part,
    Row,
    Section,
    Table,
    Text,
)
from pipelines.reports.plots import Graph, Heat, Plot
from pipelines.reports.words import pieces
from recsys.dashboard.plotly import OPTIONS, figure_of
from recsys.dashboard.runs import DAY

# Id of the chart whose points lead somewhere; a page has one.
KEYED = "keyed"

_SVG = "data:image/svg+xml,"
# Columns beyond which a table scrolls on a phone, and is set closer on paper; rows that stay on one
# page; columns and length of names beyond which those of a heat map are turned; columns whose
# headings break anywhere.
_SIDEWAYS, _MANY_COLUMNS, _FEW_ROWS = 3, 9, 10
_FEW_COLUMNS, _LONG_NAME, _CROWDED = 8, 14, 12
# Lengths from which a text and a name get some room.
_LONG_TEXT, _NAME = 40, 4
# Width in pixels of a picture for paper, which is three quarters as wide.
_WIDE_PICTURE = 940


def section_component(section: Section) -> Any:
    """Returns a section with its heading."""
    return html.Section(
        [html.H2(section.title), html.Div(part_components(section.parts), className="parts")]
    )


def part_components(parts: Iterable[Part], of: str = "") -> list[Any]:
    """Returns the components of parts.

    Args:
        parts: Parts in their order.
        of: Title that they stand under; a table of that title does not repeat it.
    """
    return [_part(part, of) for part in parts]


def opening_components(opening: Iterable[Opening]) -> list[Any]:
    """Returns the components of verdicts and checks."""
    return [
        _verdict(each)
        if isinstance(each, Verdict)
        else html.Ul([_check(check) for check in each.checks], className="checks")
        for each in opening
    ]


def label(text: str) -> Any:
    """Returns the name of an element for screen readers, an attribute that is no name of Python."""
    return {"aria-label": text}


def current_page() -> Any:
    """Returns the attribute that marks the current page in a list of links."""
    return {"aria-current": "page"}


def form(action: str, fields: Sequence[Any], button: str) -> Any:
    """Returns a form whose values become the page's address, so that a view can be linked to."""
    submit = html.Button(button, type="submit")
    return html.Form([*fields, submit], action=action, method="get", className="form")


def choice(name: str, title: str, options: Sequence[tuple[str, str]], value: str | None) -> Any:
    """Returns a field that chooses among options.

    Args:
        name: Name in the address.
        title: Title of the field.
        options: (value, text) of each.
        value: Value that is chosen at first.
    """
    chosen = [
        html.Option(text, value=key, selected="selected" if key == value else None)
        for key, text in options
    ]
    return html.Label([html.Span(title), html.Select(chosen, name=name)])


def search_field(name: str, title: str, value: str) -> Any:
    """Returns a field for a text to search for.

    Args:
        name: Name in the address.
        title: Title of the field.
        value: Text at first.
    """
    field = dcc.Input(name=name, id=f"search-{name}", type="search", value=value, maxLength=200)
    return html.Label([html.Span(title), field])


def _verdict(verdict: Verdict) -> Any:
    mark = html.Span(verdict.label, className="mark")
    parts: list[Any] = [html.P([mark, " ", *_said(verdict.sentence)], className="says")]
    if verdict.groups:
        parts.append(html.Dl([_judged(group) for group in verdict.groups], className="judged"))
    if verdict.todo:
        parts.append(html.P([html.Strong("Next:"), " ", *_said(verdict.todo)], className="todo"))
    return html.Div(parts, className=f"verdict {_class(verdict.mark)}")


def _judged(group: Judged) -> Any:
    mark = html.Span(f"{SIGNS[group.mark]} {group.mark}", className="mark")
    judged = html.Dd([mark, html.Small(_said(group.text))])
    return html.Div([html.Dt(group.name), judged], className=_class(group.mark))


def _check(check: Check) -> Any:
    head = html.Div([html.Strong(check.name), html.Span(check.label, className="mark")])
    return html.Li([head, html.Small(_said(check.text))], className=_class(check.state))


def _said(text: str) -> list[Any]:
    """Returns the pieces of a sentence, of which those between backticks are code."""
    return [html.Code(piece) if is_code else piece for piece, is_code in pieces(text)]


def _class(of: Mark | State) -> str:
    return of.replace(" ", "-")


def _part(part: Part, of: str) -> Any:
    if isinstance(part, Text):
        style = "soft" if part.style == "plain" else part.style
        return html.P(_said(part.text), className=style)
    if isinstance(part, Facts):
        pairs = [html.Div([html.Dt(name), html.Dd(value)]) for name, value in part.pairs]
        return html.Dl(pairs, className="large" if part.is_large else "")
    if isinstance(part, Table):
        return _table(part, of)
    if isinstance(part, Chart):
        return _chart(part)
    if isinstance(part, Code):
        return html.Pre(part.text, tabIndex=0)
    return _entry(part)


def _entry(entry: Entry) -> Any:
    content = [html.Summary(entry.title), *part_components(entry.parts, entry.title)]
    return html.Details(content, open=entry.is_open, className="entry")


def _chart(chart: Chart) -> Any:
    inner = [html.H3(chart.title), *_plot(chart), html.Figcaption(_said(chart.summary))]
    if chart.numbers is not None:
        inner.append(html.Details([html.Summary("The numbers"), _grid(chart.numbers)]))
    is_wide = chart.is_wide or isinstance(chart.plot, Heat)
    return html.Figure(inner, className="wide map" if chart.is_map else "wide" if is_wide else "")


def _plot(chart: Chart) -> list[Any]:
    """Returns a plot for the screen, and for paper a picture that nobody has to scroll to."""
    if isinstance(chart.plot, Heat):
        return [_heat(chart.title, chart.plot)]
    # Any: Dash lists the options that it knows, and passes on all.
    options: Any = OPTIONS
    names: Any = {"id": KEYED} if _is_keyed(chart.plot) else {}
    graph = dcc.Graph(figure=figure_of(chart.plot), config=options, className="graph", **names)
    shown = html.Div(graph, role="group", className="screen", **label(chart.title))
    width = _WIDE_PICTURE if chart.is_wide else _WIDE_PICTURE // 2
    drawn = svg_file(chart, is_titled=False, width=width)
    drawn = re.sub("<title>.*?</title>", "", drawn, flags=re.DOTALL)
    picture = html.Img(src=f"{_SVG}{quote(drawn)}", alt="", className="print")
    return [shown, picture]


def _is_keyed(plot: Plot) -> bool:
    return isinstance(plot, Graph) and any(series.keys for series in plot.series)


def _heat(title: str, heat: Heat) -> Any:
    """Returns a heat map as a table, whose texts people can read, select and print."""
    is_turned = len(heat.columns) > _FEW_COLUMNS
    turned = [is_turned or len(name) > _LONG_NAME for name in heat.columns]
    head = [
        html.Th(html.Span(name, className="tall" if is_tall else ""), scope="col")
        for name, is_tall in zip(heat.columns, turned, strict=True)
    ]
    body = [
        html.Tr(
            [
                html.Th(name, scope="row"),
                *(_shaded(text, *heat.shade(row, at)) for at, text in enumerate(texts)),
            ]
        )
        for row, (name, texts) in enumerate(zip(heat.rows, heat.texts, strict=True))
    ]
    parts = [html.Thead(html.Tr([html.Td(), *head])), html.Tbody(body)]
    table = html.Table(parts, className="heat", **label(title))
    return _scrolled(table, title, len(heat.columns))


def _shaded(text: str, colour: str, strength: float) -> Any:
    return html.Td(text, className=colour, style={"--share": f"{strength:.1f}%"})


def _scrolled(table: Any, title: str, columns: int) -> Any:
    """Returns a table that scrolls on its own where it is wider than the page."""
    is_wide = " sideways" * (columns > _SIDEWAYS)
    classes = f"scroll{is_wide}"
    return html.Div(table, className=classes, tabIndex=0, role="group", **label(title))


def _table(table: Table, of: str) -> Any:
    head = [html.H3(table.title)] if table.title != of else []
    note = [html.P(_said(table.note), className="soft")] if table.note else []
    short, dense = len(table.rows) <= _FEW_ROWS, len(table.columns) > _MANY_COLUMNS
    crowded = len(table.columns) > _CROWDED
    classes = f"table{' short' * short}{' dense' * dense}{' crowded' * crowded}"
    return html.Div([*head, *note, _grid(table)], className=classes)


def _grid(table: Table) -> Any:
    head = [
        html.Th(name, scope="col", className=_column(table, at)) if name else html.Td()
        for at, name in enumerate(table.columns)
    ]
    body = html.Tbody([_row(row, table) for row in table.rows])
    inner = html.Table([html.Thead(html.Tr(head)), body], **label(table.title))
    return _scrolled(inner, table.title, len(table.columns))


def _column(table: Table, at: int) -> str:
    """Returns the classes of a column."""
    return f"{'' if at < table.texts else 'number'}{' own' if at in table.own else ''}"


def _row(row: Row | Band | Cells, table: Table) -> Any:
    if isinstance(row, Band):
        note = [html.Small(row.note)] if row.note else []
        content = html.Th([row.title, *note], scope="rowgroup", colSpan=len(table.columns))
        return html.Tr(content, className="band")
    cells = row.cells if isinstance(row, Row) else row
    first, *others = (_cell(cell) for cell in cells)
    return html.Tr(
        [
            html.Th(
                first,
                scope="row",
                className="name" if isinstance(first, list) or len(first) > _NAME else "",
            ),
            *(
                html.Td(cell, className=f"{_column(table, at)}{' long' * _is_long(cell)}")
                for at, cell in enumerate(others, start=1)
            ),
        ],
        className="strong" if isinstance(row, Row) and row.is_strong else "",
    )


def _is_long(cell: Any) -> bool:
    return isinstance(cell, str) and len(cell) > _LONG_TEXT


def _cell(cell: str | Cell) -> Any:
    if isinstance(cell, str):
        return cell
    # The page of a day is a file, and no view of this one.
    link = html.A if cell.href.startswith(DAY) else dcc.Link
    text = link(cell.text, href=cell.href) if cell.href else cell.text
    parts = [html.Span(text, className=cell.tone), *map(html.Small, cell.notes)]
    if cell.share is not None:
        bar = html.I(style={"width": f"{100 * cell.share:.1f}%"})
        parts.append(html.Span(bar, className="share"))
    return parts
