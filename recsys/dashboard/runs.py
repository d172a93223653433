"""All runs: a metric from run to run, and a list."""

from collections.abc import Sequence

from pipelines.reports.format import shown
from pipelines.reports.parts import Cell, Chart, Facts, Row, Table
from pipelines.reports.plots import Axis, Graph, Mark, Series
from recsys.comparison.report import METRIC_TITLES
from recsys.dashboard.run_store import RunRow

# Address of the page of the day that trained a run, before the run's id.
DAY = "/day/"

_GROUPS = ("overall", "head", "torso", "tail", "cold", "popularity")


def history(rows: Sequence[RunRow], metric: str, champions: Sequence[str]) -> Chart | Facts:
    """Returns a metric from run to run, overall and by slice, and popularity beside it.

    A single run has no time axis: its figures are a card.

    Args:
        rows: Runs, the latest first.
        metric: Metric to show, such as `recall@50`.
        champions: Ids of the runs in use.
    """
    ordered = [row for row in reversed(rows) if row.metric(metric) is not None]
    if len(ordered) == 1:
        figures = [(group, shown(ordered[0].metric(metric, group))) for group in _GROUPS]
        named = [(f"{METRIC_TITLES[metric]}, {group}", figure) for group, figure in figures]
        return Facts(named, is_large=True)
    series = []
    for group in _GROUPS:
        values = [(row, row.metric(metric, group)) for row in ordered]
        if any(value is not None for _, value in values):
            labels = [f"{group}: {shown(value)}\n{row.title}" for row, value in values]
            points = [(row.started, value) for row, value in values]
            series.append(Series(group, points, labels=labels))
    title = f"{METRIC_TITLES[metric]} from run to run"
    x, y = Axis("trained at (UTC)", scale="time"), Axis(METRIC_TITLES[metric])
    if not ordered:
        return Chart(title, "No run here was evaluated.", Graph([], x, y), is_wide=True)
    marks = [Mark("x", row.started, "champion") for row in ordered if row.run_id in champions]
    summary = (
        f"{len(ordered):,} evaluated runs; higher is better. Look for a curve that falls while the "
        "others stay, and for runs below popularity. Slices are by the training events of each run."
    )
    if marks:
        summary += " The vertical line is the champion."
    return Chart(title, summary, Graph(series, x, y, marks), is_wide=True)


def runs_table(
    rows: Sequence[RunRow], champions: Sequence[str], recall: str, *, total: int, first: int
) -> Table:
    """Returns a page of the list.

    Args:
        rows: Runs of the page.
        champions: Ids of the runs in use.
        recall: Name of the recall that is shown.
        total: Number of runs on all pages.
        first: Number of runs before the page.
    """
    rows_of: list[Row] = []
    for row in rows:
        ours, popular = row.metric(recall), row.metric(recall, "popularity")
        remarks = ["champion"] if row.run_id in champions else []
        if row.day:
            remarks.append(row.day)
        if ours is not None and popular is not None and ours < popular:
            remarks.append("below popularity")
        remark = ", ".join(remarks) or "-"
        link = f"/run/{row.run_id}/{'results' if ours is not None else 'training'}"
        rows_of.append(
            Row(
                [
                    Cell(row.title, href=link),
                    row.status.lower(),
                    row.ssl,
                    Cell(remark, href=f"{DAY}{row.run_id}") if row.day else remark,
                    shown(ours),
                    shown(row.metric(recall, "tail")),
                    shown(row.metric(recall, "cold")),
                    shown(row.metric("ndcg@10")),
                ],
                row.run_id in champions,
            )
        )
    headings = ["Run", "Status", "Self-supervision", "Remarks"]
    headings += [METRIC_TITLES[recall], "of tail", "of cold", "NDCG@10"]
    title = f"Runs {first + 1 if rows else 0} to {first + len(rows)} of {total:,}, latest first"
    return Table(title, headings, rows_of, texts=4)
