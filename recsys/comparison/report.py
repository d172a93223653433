"""The page of `recsys compare`."""

from collections.abc import Mapping
from html import escape
from importlib.resources import files

from pipelines.reports.page import render_page
from pipelines.reports.parts import table
from recsys.comparison.statistics import Comparison, ExampleQuery, Row
from recsys.evaluation.results import SHOWN

# The plot of differences, in SVG units.
_WIDTH, _ROW, _LABEL = 720, 26, 230
_TITLES = {**SHOWN, "hit_rate@10": "Hit rate@10", "mrr@10": "MRR@10"}


def render_comparison(comparison: Comparison, titles: Mapping[str, str]) -> str:
    """The page as HTML.

    Args:
        comparison: Of two runs.
        titles: Names of items by id; an item without one is shown by its id.
    """
    warnings = []
    if comparison.left_out:
        warnings.append(
            f"{comparison.left_out:,} queries are left out: only one run has them, or their "
            "held-out items differ."
        )
    return render_page(
        title="Comparison of two models",
        subtitle=f"A: {comparison.before}; B: {comparison.after}",
        warnings=warnings,
        sections=[
            ("verdict", "Verdict", _verdict(comparison)),
            ("differences", "Differences", _differences(comparison)),
            ("gains", "Queries that gain", _examples(comparison.gains, titles)),
            ("losses", "Queries that lose", _examples(comparison.losses, titles)),
        ],
        style=(files("recsys.reports") / "report.css").read_text(encoding="utf-8"),
    )


def _verdict(comparison: Comparison) -> str:
    overlap = ", ".join(f"{value:.2f} {cutoff}" for cutoff, value in comparison.overlap.items())
    return (
        f"<p><strong>{escape(comparison.sentence())}</strong></p>"
        f'<p class="soft">{comparison.queries:,} queries in common. Mean overlap of the lists '
        f"(items in both, over items in either): {overlap}.</p>{_forest(comparison)}"
    )


def _forest(comparison: Comparison) -> str:
    """Each group's difference in the metric of the verdict, with its interval."""
    rows = [
        row
        for row in comparison.rows
        if row.metric == comparison.metric and row.found.low is not None
    ]
    bounds = [abs(b) for row in rows for b in (row.found.low, row.found.high) if b is not None]
    reach = max([*bounds, 1e-9]) * 1.1
    middle, half = (_LABEL + _WIDTH) / 2, (_WIDTH - _LABEL) / 2 - 8

    def x(value: float) -> float:
        return middle + half * value / reach

    parts = [f'<line class="axis" x1="{middle}" x2="{middle}" y1="0" y2="{_ROW * len(rows)}"/>']
    for place, row in enumerate(rows):
        y, found = _ROW * (place + 0.5), row.found
        assert found.low is not None
        assert found.high is not None
        assert found.difference is not None
        parts.append(
            f'<text x="0" y="{y + 4}">{escape(row.group)} ({row.count:,})</text>'
            f'<line class="curve" x1="{x(found.low):.1f}" x2="{x(found.high):.1f}" '
            f'y1="{y}" y2="{y}"/>'
            f'<circle class="dot" cx="{x(found.difference):.1f}" cy="{y}" r="4"/>'
        )
    label = f"B less A in {_TITLES.get(comparison.metric, comparison.metric)}, by group"
    return (
        f'<figure><svg viewBox="0 0 {_WIDTH} {_ROW * len(rows)}" role="img" '
        f'aria-label="{escape(label)}">{"".join(parts)}</svg>'
        f"<figcaption>{escape(label)}: right of the line B is better. The ends are 95 % "
        f"intervals, and the outermost is {reach / 1.1:.4f} away.</figcaption></figure>"
    )


def _differences(comparison: Comparison) -> str:
    rows = [_row(row, comparison.level) for row in comparison.rows]
    note = (
        "Paired by query. Intervals are 95 %, of a bootstrap over queries; p is of a permutation "
        "test, in slices by Holm's method over all of them. Recall of slices of items is the share "
        "of their held-out items that are found. Wins and losses are queries."
    )
    numbers = ["A", "B", "B less A", "p", "Wins", "Losses"]
    return table("Differences", note, ["Group", "Metric"], numbers, rows)


def _row(row: Row, level: float) -> str:
    found = row.found
    head = (
        f'<th scope="row">{escape(row.group)}<small>{row.count:,} held out</small></th>'
        f'<td class="text">{_TITLES.get(row.metric, escape(row.metric))}</td>'
    )
    if found.difference is None or found.low is None or found.high is None:
        return f'<tr>{head}<td class="text" colspan="6">nothing held out</td></tr>'
    p = row.adjusted_p
    is_sure = ' class="model"' if p is not None and p < level else ""
    return (
        f"<tr{is_sure}>{head}<td>{found.before:.4f}</td><td>{found.after:.4f}</td>"
        f"<td>{found.difference:+.4f}<small>{found.low:+.4f} to {found.high:+.4f}</small></td>"
        f"<td>{p:.4f}</td><td>{found.wins:,}</td><td>{found.losses:,}</td></tr>"
    )


def _examples(queries: tuple[ExampleQuery, ...], titles: Mapping[str, str]) -> str:
    if not queries:
        return "<p>None.</p>"

    def listed(items: tuple[str, ...], wanted: set[str]) -> str:
        return "".join(
            f"<li>{'<strong>' if i in wanted else ''}{escape(titles.get(i, i))}"
            f"{' (held out)</strong>' if i in wanted else ''}</li>"
            for i in items
        )

    parts = []
    for query in queries:
        wanted = set(query.held_out)
        parts.append(
            f'<h3>{escape(query.query)} <small>{query.change:+.3f}</small></h3><div class="two">'
            f"<div><h4>A recommends</h4><ol>{listed(query.before, wanted)}</ol></div>"
            f"<div><h4>B recommends</h4><ol>{listed(query.after, wanted)}</ol></div></div>"
        )
    return "".join(parts)
