"""Drift of a log's columns since the run before, with a plain verdict on each."""

import math
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np

from feature_store.core.settings import Frozen
from feature_store.core.times import DAY
from pipelines.quality.stability import (
    OTHERS,
    chance_index,
    group_bins,
    group_values,
    stability_index,
)
from pipelines.statistics.sketches import Distinct
from pipelines.statistics.summaries import ColumnSummary, Summary, iso_time

Verdict = Literal["stable", "shifted", "large shift"]
Measure = Literal[
    "rows", "rejected", "columns", "missing", "distinct", "new", "gone", "values", "last time"
]

# Changes from which a verdict is `shifted`, and `large shift`. The change of `values` is the
# population stability index, for which 0.1 and 0.25 are customary; that of `last time` is in days.
THRESHOLDS: dict[Measure, tuple[float, float]] = {
    "rows": (0.2, 0.5),
    "rejected": (0.01, 0.05),
    "columns": (1.0, 1.0),
    "missing": (0.02, 0.1),
    "distinct": (0.2, 0.5),
    "new": (0.2, 0.5),
    "gone": (0.1, 0.3),
    "values": (0.1, 0.25),
    "last time": (1.0, 7.0),
}

# A column with fewer rows in either run is not compared.
MIN_ROWS = 30
# A change of up to this many standard deviations may be chance, and is no shift.
_DEVIATIONS = 4
# Only where values occur this often on average is a missing one really new or gone.
_REPEATS = 10


class Drift(Frozen):
    """One comparison.

    Attributes:
        column: Column; None where the comparison is of the whole table.
        before: Figure in the earlier run; None where it is not one number.
        now: Figure in this run; None where it is not one number.
        change: Change that is held against the thresholds.
        chance: Largest change that may be chance, or the error of an estimate; it is stable.
        sentence: Sentence that says all of it.
    """

    table: str
    column: str | None
    measure: Measure
    before: float | None
    now: float | None
    change: float
    chance: float
    verdict: Verdict
    sentence: str

    @property
    def name(self) -> str:
        """Name of the table or column, such as `items.genres`."""
        return self.table if self.column is None else f"{self.table}.{self.column}"


def drift(
    earlier: dict[str, Summary],
    later: dict[str, Summary],
    ids: set[str],
    *,
    is_forgetful: bool = False,
) -> Iterator[Drift]:
    """Compares the tables of two runs.

    Args:
        earlier: Summaries of the earlier run, by table.
        later: Summaries of this run, by table.
        ids: Columns of ids; their order as numbers means nothing, and no id is named.
        is_forgetful: Whether rows were forgotten: values that only they had are not named either.
    """
    for table in dict.fromkeys([*earlier, *later]):
        if table not in earlier or table not in later:
            yield _appeared(table, None, "table", table in later)
            continue
        before, now = earlier[table], later[table]
        change = abs(now.rows - before.rows) / max(before.rows, 1)
        sentence = f"{now.rows:,} rows, before {before.rows:,}"
        yield _judge(table, None, "rows", before.rows, now.rows, change, 0.0, sentence)
        for name in dict.fromkeys([*before.columns, *now.columns]):
            if name not in before.columns or name not in now.columns:
                yield _appeared(table, name, "column", name in now.columns)
                continue
            yield from _columns(
                table, name, before.columns[name], now.columns[name], name in ids, is_forgetful
            )


def rejected_drift(
    earlier: dict[str, int], earlier_read: int, later: dict[str, int], later_read: int
) -> Iterator[Drift]:
    """Compares the shares of the events that each rule rejected.

    Args:
        earlier: Rejected rows of the earlier run by reason, `events: <reason>`.
        earlier_read: Events that the earlier run read.
        later: Rejected rows of this run by reason.
        later_read: Events that this run read.
    """
    for reason in dict.fromkeys([*earlier, *later]):
        if not reason.startswith("events: "):
            continue
        before, now = earlier.get(reason, 0), later.get(reason, 0)
        yield _shares(
            "events", None, "rejected", (before, earlier_read), (now, later_read),
            f"rejected as {reason.removeprefix('events: ')!r}",
        )  # fmt: skip


def by_severity(drifts: Iterable[Drift]) -> tuple[Drift, ...]:
    """Returns comparisons, the worst first."""
    order = {"large shift": 0, "shifted": 1, "stable": 2}
    return tuple(
        sorted(
            drifts, key=lambda d: (order[d.verdict], -d.change / THRESHOLDS[d.measure][0], d.name)
        )
    )


def _columns(
    table: str,
    name: str,
    before: ColumnSummary,
    now: ColumnSummary,
    is_id: bool,
    is_forgetful: bool,
) -> Iterator[Drift]:
    if before.values and now.values and before.type != now.type:
        sentence = f"its type is {now.type}, before {before.type}"
        yield _judge(table, name, "columns", None, None, 1.0, 0.0, sentence)
    if min(before.rows, now.rows) < MIN_ROWS:
        return
    counts = [(column.nulls + column.empty, column.rows) for column in (before, now)]
    yield _shares(table, name, "missing", counts[0], counts[1], "without a value")
    if before.kind != now.kind:
        return
    if before.kind == "times" and before.numbers and now.numbers:
        yield _last_time(table, name, before.numbers.largest, now.numbers.largest)
        return
    if before.distinct and now.distinct:
        # Two samples of values that hardly repeat have little in common.
        repeats = all(
            column.values >= _REPEATS * column.distinct.count
            for column in (before, now)
            if column.distinct is not None
        )
        is_set = is_id or (now.kind == "tokens" and repeats)
        yield from _distinct(table, name, before.distinct, now.distinct, is_set)
    yield from _values(table, name, before, now, is_id, is_forgetful)


def _distinct(
    table: str, name: str, before: Distinct, now: Distinct, is_set: bool
) -> Iterator[Drift]:
    first, second = before.count, now.count
    errors = (first * before.error, second * now.error)
    spread = math.hypot(*errors, math.sqrt(abs(second - first)))
    change, chance = abs(second - first) / max(first, 1), _DEVIATIONS * spread / max(first, 1)
    sentence = f"{second:,} distinct values, before {first:,}"
    yield _judge(table, name, "distinct", first, second, change, chance, sentence)
    if not is_set:
        return
    new, gone = now.not_in(before), before.not_in(now)
    # The share of a sample of the values is off by half of the error of their number at most.
    unsure = _DEVIATIONS / 2 * max(before.error, now.error)

    def judge(measure: Measure, count: int, total: int, words: str) -> Drift:
        share = min(1.0, count / max(total, 1))
        chance = max(unsure, _DEVIATIONS * math.sqrt(count) / max(total, 1))
        sentence = f"{share:.1%} of {total:,} distinct values {words}"
        return _judge(table, name, measure, None, count, share, chance, sentence)

    yield judge("new", new, second, "were not there before")
    yield judge("gone", gone, first, "of before are gone")


def _values(
    table: str,
    name: str,
    before: ColumnSummary,
    now: ColumnSummary,
    is_id: bool,
    is_forgetful: bool,
) -> Iterator[Drift]:
    """Compares distributions: over the values where they are few or frequent, else over bins."""
    is_listed = before.top and now.top and not before.top.error + now.top.error
    if before.kind == "tokens" or is_listed:
        if not (before.top and now.top):
            return
        totals = [column.values - column.invalid for column in (before, now)]
        groups = group_values(before.top, totals[0], now.top, totals[1])
    elif before.numbers and now.numbers and not is_id:
        groups = group_bins(before.numbers.histogram, now.numbers.histogram)
    else:
        return
    names, first, second = groups
    if len(names) < 2:
        return
    index, parts = stability_index(first, second)
    worst = int(np.argmax(parts))
    shares = [counts[worst] / max(counts.sum(), 1) for counts in (first, second)]
    # An id of the run before may have been forgotten since: none is named.
    group = "one id" if is_id and names[worst] != OTHERS else names[worst]
    if is_forgetful and not second[worst]:
        group = "a value that is gone"
    sentence = (
        f"stability index {index:.3f}; most of all {group}: {shares[1]:.1%} of the values, "
        f"before {shares[0]:.1%}"
    )
    chance = chance_index(len(names), int(first.sum()), int(second.sum()), _DEVIATIONS)
    yield _judge(table, name, "values", None, None, index, chance, sentence)


def _shares(
    table: str,
    column: str | None,
    measure: Measure,
    before: tuple[int, int],
    now: tuple[int, int],
    what: str,
) -> Drift:
    """Compares (some, all) of two runs."""
    totals = [max(total, 1) for _, total in (before, now)]
    first, second = before[0] / totals[0], now[0] / totals[1]
    pooled = (before[0] + now[0]) / sum(totals)
    spread = math.sqrt(pooled * (1 - pooled) * sum(1 / total for total in totals))
    sentence = f"{second:.2%} of rows {what}, before {first:.2%}"
    change = abs(second - first)
    return _judge(table, column, measure, first, second, change, _DEVIATIONS * spread, sentence)


def _last_time(table: str, name: str, before: float, now: float) -> Drift:
    sentence = f"the last is {iso_time(now)}, before {iso_time(before)}"
    days = max(0.0, before - now) / DAY  # A log that goes on is what is expected.
    return _judge(table, name, "last time", before, now, days, 0.0, sentence)


def _appeared(table: str, column: str | None, what: str, is_new: bool) -> Drift:
    sentence = f"the {what} is new" if is_new else f"the {what} is gone"
    return _judge(table, column, "columns", None, None, 1.0, 0.0, sentence)


def _judge(
    table: str,
    column: str | None,
    measure: Measure,
    before: float | None,
    now: float | None,
    change: float,
    chance: float,
    sentence: str,
) -> Drift:
    shifted, large = THRESHOLDS[measure]
    verdict: Verdict = "stable"
    if change >= shifted and change > chance:
        verdict = "large shift" if change >= large else "shifted"
    return Drift(
        table=table,
        column=column,
        measure=measure,
        before=before,
        now=now,
        change=change,
        chance=chance,
        verdict=verdict,
        sentence=sentence,
    )
