"""The result of a comparison of two runs: its figures, its verdicts, and their words."""

from dataclasses import asdict
from typing import Literal

import pyarrow as pa

from feature_store.core.settings import Frozen
from feature_store.core.tabular import Tabular, rows_table
from pipelines.reports.words import plural_of
from pipelines.statistics.slices import SliceBounds
from recsys.comparison.example_queries import ExampleQuery
from recsys.evaluation.results import SHOWN
from recsys.evaluation.significance import Difference

Verdict = Literal["better", "worse", "no difference"]


class Row(Frozen):
    """One metric of one group.

    Attributes:
        group: `overall` or a slice.
        metric: Name of the metric, such as `recall@10`.
        count: Number of held-out pairs.
        found: Difference of the two runs.
        adjusted_p: P-value adjusted by Holm's method over all tested rows of slices; overall the
            test's own; None of a group with fewer than `FEW_PAIRS` pairs, which is not tested.
    """

    group: str
    metric: str
    count: int
    found: Difference
    adjusted_p: float | None


class Comparison(Frozen, Tabular):
    """Comparison of two runs on the queries that both were evaluated on.

    Attributes:
        before: Name of the first run.
        after: Name of the second run.
        metric: Metric of the verdict.
        verdict: Whether the second is better, by the test's p below `level`.
        worse_slices: Slices in which the second is worse, by the adjusted p below `level`.
        level: Significance level.
        queries: Number of common queries with the same held-out items.
        left_out: Number of other queries of either run.
        rows: Every metric of every group.
        overlap: Mean Jaccard similarity of the two lists, by cutoff.
        gains: Queries that gain most.
        losses: Queries that lose most.
        tail_at_loss: Recall@50 of the tail of both runs, where the popularity dial costs 1 % of the
            overall Recall@50; None of a run without the curve.
        slice_bounds: Bounds of the slices of either run, of which those of the first are used; None
            of an earlier version's evaluation.
        query: Word of the first run's log for a query.
    """

    before: str
    after: str
    metric: str
    verdict: Verdict
    worse_slices: tuple[str, ...]
    level: float
    queries: int
    left_out: int
    rows: tuple[Row, ...]
    overlap: dict[str, float]
    gains: tuple[ExampleQuery, ...]
    losses: tuple[ExampleQuery, ...]
    tail_at_loss: tuple[float | None, float | None] = (None, None)
    slice_bounds: tuple[SliceBounds | None, SliceBounds | None] = (None, None)
    query: str = "query"

    def to_arrow(self) -> pa.Table:
        """Returns a row for each group and metric.

        Returns:
            Columns group, metric, held_out (pairs), before, after, difference with the ends of its
            interval (low, high), p, wins, losses, adjusted_p and verdict; null where there are too
            few pairs.
        """
        rows = [
            {
                "group": row.group,
                "metric": row.metric,
                "held_out": row.count,
                **asdict(row.found),
                "adjusted_p": row.adjusted_p,
                "verdict": verdict_of(row.found, row.adjusted_p, self.level)
                if row.adjusted_p is not None
                else None,
            }
            for row in self.rows
        ]
        return rows_table(rows)

    @property
    def is_safe(self) -> bool:
        """Whether a gate lets the second run pass: worse neither overall nor in a slice."""
        return self.is_of_most and not self.is_worse

    @property
    def is_worse(self) -> bool:
        """Whether the second run is worse, overall or in a slice.

        Everything that chooses between two models goes by this: `recsys compare --gate`, the gate
        of an export, and the promotion of a bundle.
        """
        return self.verdict == "worse" or bool(self.worse_slices)

    @property
    def is_of_most(self) -> bool:
        """Whether most queries of the two runs were compared."""
        return 2 * self.queries >= self.left_out

    def other_slices(self) -> str:
        """Returns what to know where the second run was evaluated with other bounds, or nothing."""
        before, after = self.slice_bounds
        if before is None or after is None or before.ranges() == after.ranges():
            return ""
        return f"B was evaluated with other slices ({after.ranges()}); all here are A's"

    def verdict_in(self, group: str) -> Verdict | None:
        """Returns the verdict in a group, by all its metrics; None where there are too few pairs.

        Overall it is that of the metric of the verdict.
        """
        rows = [row for row in self.rows if row.group == group and row.adjusted_p is not None]
        if group == "overall":
            return self.verdict if rows else None
        verdicts = {verdict_of(row.found, row.adjusted_p, self.level) for row in rows}
        either: tuple[Verdict, ...] = ("worse", "better", "no difference")
        return next((verdict for verdict in either if verdict in verdicts), None)

    def deciding(self, group: str) -> Row:
        """Returns the row that the verdict in a group rests on; without one, that of its recall."""
        rows = {row.metric: row for row in self.rows if row.group == group}
        if group == "overall":
            return rows[self.metric]
        of_cutoff = f"recall@{self.metric.partition('@')[2]}"
        first = rows.get(of_cutoff, rows["recall@50"])
        verdict = self.verdict_in(group)
        found = [
            row
            for row in (first, *rows.values())
            if verdict == verdict_of(row.found, row.adjusted_p, self.level)
        ]
        return found[0] if found else first

    def changes(self, metric: str) -> dict[str, float]:
        """Returns the relative change of a metric in each group that was tested."""
        return {
            row.group: row.found.after / row.found.before - 1
            for row in self.rows
            if row.metric == metric and row.adjusted_p is not None
            if row.found.before and row.found.after is not None
        }

    def sentence(self) -> str:
        """Returns the verdict in words."""
        row = next(r for r in self.rows if r.group == "overall" and r.metric == self.metric)
        d = row.found
        figures = (
            f"{SHOWN.get(self.metric, self.metric)} {_number(d.before)} to {_number(d.after)} "
            f"(difference {_number(d.difference, sign=True)}, 95 % interval "
            f"{_number(d.low, sign=True)} to {_number(d.high, sign=True)}, p = {_number(d.p)})"
        )
        text = {
            "better": "B is better than A",
            "worse": "B is worse than A",
            "no difference": "no significant difference between A and B",
        }[self.verdict]
        if self.left_out:
            queries = plural_of(self.query)
            text += f" ({self.queries:,} {queries} in common, {self.left_out:,} left out)"
        worse = ", ".join(self._slice_in_words(name) for name in self.worse_slices)
        text += f": {figures}" + (f"; but B is worse in {worse}" if worse else "")
        other = self.other_slices()
        return f"{text}; {other}" if other else text

    def _slice_in_words(self, name: str) -> str:
        row = self.deciding(name)
        figures = f"{_number(row.found.before)} to {_number(row.found.after)}"
        return f"{name} ({SHOWN[row.metric]} {figures})"


def verdict_of(found: Difference, p: float | None, level: float) -> Verdict:
    """Returns the verdict of a difference, by its p-value; None: it was not tested."""
    if p is None or found.difference is None or p >= level:
        return "no difference"
    return "better" if found.difference > 0 else "worse"


def _number(value: float | None, *, sign: bool = False) -> str:
    if value is None:
        return "-"
    return f"{value:+.4f}" if sign else f"{value:.4f}"
