"""The page of all runs: the verdict on the champion, a metric from run to run, and the list."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from dash import dcc, html

from feature_store.core.errors import UserError
from pipelines.reports.opening import Verdict
from pipelines.reports.parts import Section, Text
from pipelines.reports.words import reworded_opening
from recsys.comparison.report import METRIC_TITLES
from recsys.dashboard.components import (
    choice,
    form,
    label,
    opening_components,
    part_components,
    search_field,
    section_component,
)
from recsys.dashboard.run_store import RunRow, RunStore
from recsys.dashboard.runs import history, runs_table
from recsys.dashboard.sections import in_use
from recsys.reports.opening import run_opening

_PAGE_ROWS = 50


def runs_page(store: RunStore, query: Mapping[str, str]) -> Any:
    """Returns the page of all runs.

    Args:
        store: Store of the runs.
        query: Choices on the page, by name.

    Raises:
        UserError: The metric is none.
    """
    rows = store.rows()
    if not rows:
        return [html.H1("Runs"), html.P("The store has no training yet: `recsys run CONFIG`.")]
    outputs = list(dict.fromkeys(row.output for row in rows))
    evaluated = [row for row in rows if row.metric("recall@50") is not None]
    output = query.get("output", (evaluated or rows)[0].output)
    shown = [row for row in rows if output in ("", row.output)]
    recall = _recall(shown)
    metric = query.get("metric", recall)
    if metric not in METRIC_TITLES:
        raise UserError(f"metric is {metric!r}, expected one of: {', '.join(METRIC_TITLES)}.")
    text = query.get("search", "").lower()
    listed = [row for row in shown if text in f"{row.title} {row.ssl} {row.status}".lower()]
    number = query.get("page", "")[:9]
    at = max(1, int(number)) if number.isdecimal() else 1
    champions = store.champions()
    fields = [
        choice("output", "Trained in", [("", "anywhere"), *((o, o) for o in outputs)], output),
        choice("metric", "Metric", list(METRIC_TITLES.items()), metric),
        search_field("search", "Name, id or status", query.get("search", "")),
    ]
    part = listed[(at - 1) * _PAGE_ROWS : at * _PAGE_ROWS]
    table = runs_table(part, champions, recall, total=len(listed), first=(at - 1) * _PAGE_ROWS)
    over_time = Section("history", "History", [history(shown, metric, champions)])
    reading = f"{len(rows):,} runs have been read so far; older ones are on their way: reload."
    return [
        html.H1("Runs"),
        *_list_opening(store, shown, champions),
        *([] if store.is_complete else part_components([Text(reading)])),
        form("/", fields, "Show"),
        section_component(over_time),
        section_component(Section("runs", "All runs", [table])),
        _pager(query, at, -(-len(listed) // _PAGE_ROWS)),
    ]


def _recall(rows: Sequence[RunRow]) -> str:
    """Returns the recall to show: Recall@50, but where all items of a catalogue are among 50."""
    values = [value for row in rows if (value := row.metric("recall@50")) is not None]
    return "recall@10" if values and min(values) == 1 else "recall@50"


def _list_opening(store: RunStore, rows: Sequence[RunRow], champions: Sequence[str]) -> list[Any]:
    """Returns the verdict on the champion, else on the latest evaluated run of the list."""
    evaluated = [row for row in rows if row.metric("recall@50") is not None]
    row = next((each for each in evaluated if each.run_id in champions), None)
    about = "The champion" if row is not None else "The latest run"
    if row is None and not evaluated:
        return []
    row = row or evaluated[0]
    run = store.data(row.run_id)
    verdict = run_opening(run)[0]
    assert isinstance(verdict, Verdict)
    verdict = in_use(verdict) if row.run_id in champions else verdict
    named = replace(verdict, sentence=f"{about}, {row.title}: {verdict.sentence}")
    return opening_components([reworded_opening(named, run.query)])


def _pager(query: Mapping[str, str], at: int, pages: int) -> Any:
    def link(text: str, to: int) -> Any:
        return dcc.Link(text, href=f"/?{urlencode({**query, 'page': to})}")

    links = [link("Newer", at - 1)] if at > 1 else []
    links += [html.Span(f"Page {at} of {max(1, pages)}")]
    links += [link("Older", at + 1)] if at < pages else []
    return html.Nav(links, className="pager", **label("Pages"))
