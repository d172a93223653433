"""The pages by their addresses; everything chosen on a page is in its address."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from dash import dcc, html

from feature_store.core.errors import UserError
from pipelines.reports.opening import Opening
from pipelines.reports.parts import Section, Text
from pipelines.reports.words import explained, reworded_opening, reworded_part, reworded_section
from recsys.comparison.report import comparison_verdict
from recsys.dashboard.components import (
    choice,
    current_page,
    form,
    label,
    opening_components,
    part_components,
    search_field,
    section_component,
)
from recsys.dashboard.list_page import runs_page
from recsys.dashboard.run_store import RunRow, RunStore
from recsys.dashboard.runs import DAY
from recsys.dashboard.sections import (
    SECTIONS,
    compared,
    comparison_section,
    opening_of,
    tests_of,
)
from recsys.reports.item_map import colours_of, map_section
from recsys.reports.long_tail import tail_section
from recsys.reports.lookup import example_ids, item_name, item_parts, query_parts
from recsys.reports.run.items import ItemTable
from recsys.reports.run.queries import QueryTable
from recsys.reports.run.run_data import RunData
from recsys.reports.slices import slices_section

Query = Mapping[str, str]

# Number of runs that can be chosen without typing.
_CHOICES = 200
_SAMPLES = 12


def page(store: RunStore, address: str) -> tuple[str, Any]:
    """Returns the title and the content of a page.

    Args:
        store: Store of the runs.
        address: Path and query.
    """
    parts = urlsplit(address)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    try:
        if parts.path in ("", "/"):
            return "Runs", runs_page(store, query)
        if parts.path == "/compare":
            return "Compare", _compare_page(store, query)
        match = re.fullmatch(r"/run/(\w+)/(\w+)", parts.path)
        if match is not None and match[2] in SECTIONS:
            row = store.row(match[1])
            title = f"{SECTIONS[match[2]][0]} of {row.title}"
            return title, _run_page(store, row, match[2], query)
        raise UserError(f"there is no page {parts.path}.")
    except UserError as error:
        lines = [html.H1("That did not work"), html.P(str(error), className="warning")]
        return "Error", [*lines, html.P(dcc.Link("All runs", href="/"))]


def _run_page(store: RunStore, row: RunRow, key: str, query: Query) -> Any:
    run = store.data(row.run_id)
    here = f"/run/{row.run_id}/{key}"
    content: list[Any]
    if key in ("slices", "tail"):
        content = _against_page(store, row, key, query)
    elif key == "map" and run.items is not None:
        content = _map_page(run, here, query)
    elif key == "examples" and run.queries is not None:
        content = _query_page(run, run.queries, here, query.get("query", ""))
    elif key == "similar" and run.items is not None:
        content = _item_page(run.items, here, query.get("item", ""))
    else:
        content = [_section(SECTIONS[key][1](run), run)]
    said = [reworded_opening(each, run.query) for each in _opening(store, row, run)]
    opening = opening_components(said)
    # The verdict stands above all tabs; what else is to be checked, above the results.
    shown = opening if key == "results" else opening[:1]
    return [html.H1(f"Run {row.title}"), *_day(row), *shown, _tabs(row, key), *content]


def _section(section: Section, run: RunData) -> Any:
    """Returns a section in the words of the run's log."""
    return section_component(reworded_section(section, run.query))


def _day(row: RunRow) -> list[Any]:
    """Returns a link to the page of the day of the nightly job; nothing of other runs."""
    if not row.day:
        return []
    link = html.A("page of the day", href=f"{DAY}{row.run_id}")
    return [html.P([f"{row.day[:1].upper()}{row.day[1:]}: ", link], className="soft")]


def _opening(store: RunStore, row: RunRow, run: RunData) -> list[Opening]:
    """Returns the verdicts against the best baseline and the champion, and the checks."""
    champion = store.champion(row.experiment)
    return opening_of(run, None if champion is None else store.data(champion))


def _against_page(store: RunStore, row: RunRow, key: str, query: Query) -> list[Any]:
    against = query.get("against", _earlier(store, row) or "")
    other = store.data(against) if against else None
    run = store.data(row.run_id)
    if key == "tail":
        section = tail_section(run, other)
    else:
        section = slices_section(run, other, tests_of(other, run) if other is not None else None)
    here = f"/run/{row.run_id}/{key}"
    return [_against_form(store, row, here, against), _section(section, run)]


def _map_page(run: RunData, here: str, query: Query) -> list[Any]:
    assert run.items is not None
    features, search = colours_of(run.items), query.get("search", "")
    chosen = query.get("feature", features[0])
    if chosen not in features:
        raise UserError(f"feature is {chosen!r}, expected one of: {', '.join(features)}.")
    fields = [
        choice("feature", "Colour by", [(f, f) for f in features], chosen),
        search_field("search", "Mark items by id or title", search),
    ]
    similar = here.replace("/map", "/similar")
    return [
        form(here, fields, "Show"),
        *_marked(run.items, search, similar),
        _section(map_section(run, [chosen], search), run),
    ]


def _marked(items: ItemTable, search: str, similar: str) -> list[Any]:
    """Returns links to the neighbours of the items that were searched for."""
    if not search:
        return []
    rows = items.search(search, _SAMPLES)
    if not rows:
        return part_components([Text(f"No item has the id {search}, or it in its title.")])
    names = [(items.names["item_id"][row].as_py(), item_name(items, row)) for row in rows]
    return [_samples(names, similar, "item", "Neighbours of:")]


def _query_page(run: RunData, queries: QueryTable, here: str, wanted: str) -> list[Any]:
    samples = example_ids(run, queries, _SAMPLES)
    asked = wanted or (samples[0] if samples else "")
    parts = [reworded_part(part, run.query) for part in query_parts(run, queries, asked, here)]
    word = run.query.capitalize()
    return [
        *part_components([Text(text) for text in [explained(run.query)] if text]),
        form(here, [search_field("query", f"{word} id", wanted)], "Look up"),
        _samples([(name, name) for name in samples], here, "query"),
        html.Section([html.H2(f"{word} {asked}"), *part_components(parts)]),
    ]


def _item_page(items: ItemTable, here: str, wanted: str) -> list[Any]:
    samples = items.names.take(items.spread(_SAMPLES)).to_pylist()
    names = [(entry["item_id"], entry["title"] or entry["item_id"]) for entry in samples]
    asked = wanted or (names[0][0] if names else "")
    parts, row = item_parts(items, asked, here), items.row_of(asked)
    title = f"Items like {asked if row is None else item_name(items, row)}"
    return [
        form(here, [search_field("item", "Item id or title", wanted)], "Look up"),
        _samples(names, here, "item"),
        html.Section([html.H2(title), *part_components(parts, title)]),
    ]


def _tabs(row: RunRow, key: str) -> Any:
    def tab(name: str, title: str) -> Any:
        if name == key:
            return html.Span(title, className="current", **current_page())
        return dcc.Link(title, href=f"/run/{row.run_id}/{name}")

    links = [html.Li(tab(name, title)) for name, (title, _) in SECTIONS.items()]
    return html.Nav(html.Ul(links), className="tabs", **label("Sections of the run"))


def _samples(
    names: list[tuple[str, str]], here: str, field: str, title: str = "For instance:"
) -> Any:
    links = [
        html.Li(dcc.Link(text, href=f"{here}?{urlencode({field: key})}")) for key, text in names
    ]
    return html.Div([html.Span(title), html.Ul(links)], className="samples")


def _against_form(store: RunStore, row: RunRow, here: str, against: str) -> Any:
    champion = store.champion(row.experiment)
    options = [("", "the best baseline")]
    for other in store.rows():
        if other.metric("recall@50") is not None and other.run_id != row.run_id:
            mark = " (champion)" if other.run_id == champion else ""
            options.append((other.run_id, other.title + mark))
    return form(here, [choice("against", "Against", _few(options, {against}), against)], "Show")


def _few(options: list[tuple[str, str]], chosen: set[str]) -> list[tuple[str, str]]:
    """Returns the first options, and those that are chosen."""
    return [option for at, option in enumerate(options) if at < _CHOICES or option[0] in chosen]


def _earlier(store: RunStore, row: RunRow) -> str | None:
    """Returns the champion, else the run trained before in the same output."""
    champion = store.champion(row.experiment)
    if champion is not None and champion != row.run_id:
        return champion
    for other in store.rows():
        is_earlier = other.started < row.started and other.output == row.output
        if is_earlier and other.metric("recall@50") is not None:
            return other.run_id
    return None


def _compare_page(store: RunStore, query: Query) -> Any:
    evaluated = [row for row in store.rows() if row.metric("recall@50") is not None]
    options = [(row.run_id, row.title) for row in evaluated]
    a, b = query.get("a", ""), query.get("b", "")
    shown = _few(options, {a, b})
    fields = [
        choice("a", "A, in use", [("", "choose a run"), *shown], a),
        choice("b", "B, which may replace it", [("", "choose a run"), *shown], b),
    ]
    content = [html.H1("Compare two runs"), form("/compare", fields, "Compare")]
    if len(options) < 2:
        content.append(html.P("There are fewer than two evaluated runs."))
    elif a and b:
        before, after = store.data(a), store.data(b)
        comparison = compared(before, after)
        section = comparison_section(comparison, before, after)
        verdict = reworded_opening(comparison_verdict(comparison), after.query)
        shown_first = opening_components([verdict])
        content = [content[0], *shown_first, *content[1:], _section(section, after)]
    else:
        text = Text("Queries that both runs were evaluated on are compared one by one.")
        content += part_components([text])
    return content
