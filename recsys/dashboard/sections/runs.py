"""All runs: how metrics went from run to run, and a list."""

import time
from collections.abc import Sequence

from pipelines.reports.parts import Cell, Chart, Link, Table, shown
from recsys.dashboard.data.run_store import RunRow
from recsys.dashboard.sections import figures
from recsys.evaluation.results import SHOWN

METRICS = {**SHOWN, "hit_rate@10": "Hit rate@10", "mrr@10": "MRR@10"}
GROUPS = ("overall", "head", "torso", "tail", "cold")


def history_chart(rows: Sequence[RunRow], metric: str, champion: str | None) -> Chart:
    """A metric from run to run, overall and by slice, and popularity beside it.

    Args:
        rows: The latest first.
        metric: Such as `recall@50`.
        champion: Id of the run in use, where there is one.
    """
    ordered = [row for row in reversed(rows) if row.metric(metric) is not None]
    series, labels = {}, {}
    for group in (*GROUPS, "popularity"):
        points = [(row, row.metric(metric, group)) for row in ordered]
        if any(value is not None for _, value in points):
            series[group] = [(_iso(row.started), value) for row, value in points]
            labels[group] = [f"{group}: {shown(value)}<br>{row.title}" for row, value in points]
    title = f"{METRICS[metric]} from run to run"
    if not ordered:
        return Chart(title, "No run here was evaluated.", figures.lines({}, x="", y=""), None, True)
    first, last = ordered[0].metric(metric), ordered[-1].metric(metric)
    in_use = next((_iso(row.started) for row in ordered if row.run_id == champion), None)
    figure = figures.lines(
        series, x="trained at (UTC)", y=METRICS[metric], marked=in_use, labels=labels
    )
    figure["layout"]["xaxis"]["type"] = "date"
    summary = f"{len(ordered):,} evaluated runs, from {shown(first)} to {shown(last)}."
    if in_use is not None:
        summary += " The vertical line is the champion."
    return Chart(title, summary, figure, is_wide=True)


def runs_table(rows: Sequence[RunRow], champion: str | None, *, total: int, first: int) -> Table:
    """Of a page of the list.

    Args:
        rows: Of the page.
        champion: Id of the run in use, where there is one.
        total: Runs in all.
        first: Rows before the page.
    """
    cells: list[list[Cell]] = []
    for row in rows:
        ours, popular = row.metric("recall@50"), row.metric("recall@50", "popularity")
        remarks = ["champion"] if row.run_id == champion else []
        if ours is not None and popular is not None and ours < popular:
            remarks.append("worse than popularity")
        link = f"/run/{row.run_id}/{'results' if ours is not None else 'training'}"
        cells.append(
            [
                Link(row.title, link),
                row.status.lower(),
                row.ssl,
                ", ".join(remarks) or "-",
                shown(ours),
                shown(row.metric("recall@50", "tail")),
                shown(row.metric("recall@50", "cold")),
                shown(row.metric("ndcg@10")),
            ]
        )
    headings = ["Run", "Status", "Self-supervision", "Remarks"]
    headings += ["Recall@50", "of tail", "of cold", "NDCG@10"]
    caption = f"Runs {first + 1 if rows else 0} to {first + len(rows)} of {total:,}, latest first"
    return Table(caption, headings, cells, texts=4)


def _iso(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))
