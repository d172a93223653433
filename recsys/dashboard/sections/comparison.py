"""Two runs, query by query; the same test as `recsys compare`."""

import pyarrow.parquet as pq

from feature_store.core.errors import UserError
from pipelines.reports.parts import Cell, Chart, Entry, Part, Section, Table, Text
from recsys.comparison.runs import EvaluatedRun
from recsys.comparison.statistics import Comparison, ExampleQuery, compare_runs
from recsys.dashboard.data.items import ItemTable
from recsys.dashboard.data.run_data import RunData
from recsys.dashboard.sections import figures
from recsys.evaluation.results import SHOWN


def comparison_section(before: RunData, after: RunData) -> Section:
    """The verdict on B against A, differences by slice, and who wins and loses.

    Raises:
        UserError: A run was not evaluated, or the two have no query in common.
    """
    comparison = compare_runs(_evaluated(before), _evaluated(after))
    parts: list[Part] = [Text(comparison.sentence())]
    if comparison.left_out:
        parts.append(
            Text(
                f"{comparison.left_out:,} queries are left out: only one run has them, or their "
                "held-out items differ.",
                is_warning=True,
            )
        )
    overlap = ", ".join(f"{value:.2f} {cutoff}" for cutoff, value in comparison.overlap.items())
    parts.append(
        Text(
            f"{comparison.queries:,} queries in common. Mean overlap of the lists (items in both, "
            f"over items in either): {overlap}."
        )
    )
    parts += [_forest(comparison), _differences(comparison)]
    items = after.items or before.items
    for title, queries in (("gains", comparison.gains), ("loses", comparison.losses)):
        parts += [_example(title, query, items) for query in queries]
    return Section("compare", f"B, {after.name}, against A, {before.name}", parts)


def _evaluated(run: RunData) -> EvaluatedRun:
    if run.queries is None:
        raise UserError(f"run {run.name} has no evaluation; run `recsys evaluate` on it first.")
    return EvaluatedRun(run.name, pq.read_table(run.queries.path))


def _forest(comparison: Comparison) -> Chart:
    rows = [
        (f"{row.group} ({row.count:,})", row.found.difference, row.found.low, row.found.high)
        for row in comparison.rows
        if row.metric == comparison.metric
    ]
    known = [
        (name, value, low, high)
        for name, value, low, high in rows
        if value is not None and low is not None and high is not None
    ]
    title = f"B less A in {SHOWN.get(comparison.metric, comparison.metric)}, by group"
    spoken = ", ".join(
        f"{name}: {value:+.4f} ({low:+.4f} to {high:+.4f})" for name, value, low, high in known
    )
    return Chart(
        title,
        f"Right of 0 B is better; whiskers are 95 % intervals. {spoken}.",
        figures.intervals(known, x="B less A"),
        is_wide=True,
    )


def _differences(comparison: Comparison) -> Table:
    rows: list[list[Cell]] = []
    for row in comparison.rows:
        found, head = row.found, [row.group, SHOWN.get(row.metric, row.metric)]
        if found.difference is None or found.low is None or found.high is None:
            continue
        p = row.adjusted_p
        is_sure = p is not None and p < comparison.level
        rows.append(
            [
                *head,
                "yes" if is_sure else "no",
                f"{found.before:.4f}",
                f"{found.after:.4f}",
                f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f})",
                "-" if p is None else f"{p:.4f}",
                f"{found.wins:,}",
                f"{found.losses:,}",
            ]
        )
    caption = (
        "Paired by query: 95 % intervals of a bootstrap, p of a permutation test, in slices by "
        f"Holm's method; significant is a p below {comparison.level:g}"
    )
    headings = ["Group", "Metric", "Significant", "A", "B", "B less A", "p", "Wins", "Losses"]
    return Table(caption, headings, rows, texts=3)


def _example(title: str, query: ExampleQuery, items: ItemTable | None) -> Entry:
    wanted = set(query.held_out)

    def named(ids: tuple[str, ...]) -> list[str]:
        names = items.titles(list(ids)) if items is not None else list(ids)
        return [
            f"{name} ✓ held out" if item_id in wanted else name
            for name, item_id in zip(names, ids, strict=True)
        ]

    before, after = named(query.before), named(query.after)
    depth = max(len(before), len(after))
    rows: list[list[Cell]] = [
        [str(at + 1), *(cells[at] if at < len(cells) else "" for cells in (before, after))]
        for at in range(depth)
    ]
    return Entry(
        f"Query {query.query} {title}: {query.change:+.3f}",
        [Table("What each recommends", ["Rank", "A", "B"], rows, texts=3)],
    )
