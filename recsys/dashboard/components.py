"""Parts as components of Dash: native elements, which keyboards and screen readers know."""

from collections.abc import Iterable, Sequence
from typing import Any

from dash import dcc, html

from pipelines.reports.parts import Cell, Chart, Entry, Link, Part, Section, Table, Text

_GRAPH: Any = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["lasso2d"]}


def section_component(section: Section) -> Any:
    """A section with its heading."""
    return html.Section(
        [html.H2(section.title), html.Div(part_components(section.parts), className="parts")]
    )


def part_components(parts: Iterable[Part]) -> list[Any]:
    """In their order."""
    return [_part(part) for part in parts]


def label(text: str) -> Any:
    """What screen readers call an element; the attribute's name is none of Python's."""
    return {"aria-label": text}


def current_page() -> Any:
    """Of what stands for the page that is shown, in a list of links."""
    return {"aria-current": "page"}


def form(action: str, fields: Sequence[Any], button: str) -> Any:
    """Fields whose values become the page's address, so that what is seen can be linked to."""
    submit = html.Button(button, type="submit")
    return html.Form([*fields, submit], action=action, method="get", className="form")


def choice(name: str, title: str, options: Sequence[tuple[str, str]], value: str | None) -> Any:
    """One of (value, text); named as in the address."""
    chosen = [
        html.Option(text, value=key, selected="selected" if key == value else None)
        for key, text in options
    ]
    return html.Label([html.Span(title), html.Select(chosen, name=name)])


def search_field(name: str, title: str, value: str) -> Any:
    """A text to search for."""
    field = dcc.Input(name=name, id=f"search-{name}", type="search", value=value, maxLength=200)
    return html.Label([html.Span(title), field])


def _part(part: Part) -> Any:
    if isinstance(part, Text):
        return html.P(part.text, className="warning" if part.is_warning else "text")
    if isinstance(part, Table):
        return table_component(part)
    if isinstance(part, Chart):
        return _chart(part)
    return _entry(part)


def _entry(entry: Entry) -> Any:
    return html.Details([html.Summary(entry.title), *part_components(entry.parts)])


def _chart(chart: Chart) -> Any:
    graph = dcc.Graph(figure=chart.figure, config=_GRAPH, className="graph")
    inner = [html.H3(chart.title), html.Div(graph, role="group", **label(chart.title))]
    inner.append(html.Figcaption(chart.summary))
    if chart.numbers is not None:
        inner.append(html.Details([html.Summary("The numbers"), table_component(chart.numbers)]))
    return html.Figure(inner, className="wide" if chart.is_wide else "")


def table_component(table: Table) -> Any:
    """A table that scrolls on its own where it is wider than the page."""
    head = [
        html.Th(name, scope="col", className="" if at < table.texts else "number")
        for at, name in enumerate(table.columns)
    ]
    rows = [
        html.Tr(
            [
                html.Th(_cell(row[0]), scope="row"),
                *(
                    html.Td(_cell(cell), className="" if at < table.texts else "number")
                    for at, cell in enumerate(row[1:], start=1)
                ),
            ]
        )
        for row in table.rows
    ]
    inner = html.Table([html.Caption(table.caption), html.Thead(html.Tr(head)), html.Tbody(rows)])
    return html.Div(inner, className="scroll", tabIndex=0, role="group", **label(table.caption))


def _cell(cell: Cell) -> Any:
    return dcc.Link(cell.text, href=cell.href) if isinstance(cell, Link) else cell
