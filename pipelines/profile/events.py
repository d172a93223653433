"""Profiles of a log's events: its queries, and whether its timestamps are usable."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import missing_ids
from feature_store.core.columns import Bools
from feature_store.core.times import DAY, HOUR, SECOND, moment_of
from pipelines.logs.clock import Clock
from pipelines.logs.sampling import ParquetTable
from pipelines.profile.order import OrderProfile, profile_order
from pipelines.profile.repeats import RepeatShare, repeats_after, repeats_of_last

# Greatest number of events read, of which only query, item and time.
_MAX_EVENTS = 2_000_000

# The last tenth of the events is the test, the tenth before it the validation.
_CUTS = (0.8, 0.9)
# Events of a query that comes back, and is no single visit.
_SEVERAL = 2
# Shares of queries are not meaningful with fewer queries than this.
_MIN_QUERIES = 10

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TimeCut:
    """A split at two times, and the parts that it would give.

    Attributes:
        validation: Length of the validation, which ends where the test begins.
        test: Length of the test, which ends with the last event.
        train_share: Share of the training events.
        validation_share: Share of the validation events.
        test_share: Share of the test events.
        known_at_least: Share of test events whose query has training events among those read.
        known_at_most: Upper bound of that share; the same where queries were read whole.
        repeats: Share of test pairs whose query had the item before.
    """

    validation: timedelta
    test: timedelta
    train_share: float
    validation_share: float
    test_share: float
    known_at_least: float
    known_at_most: float
    repeats: RepeatShare


@dataclass(frozen=True)
class TimeProfile:
    """The profile of the timestamps.

    Attributes:
        same_start: Share of queries that begin at the most common first timestamp.
        same_step: Share of the steps between a query's events that are the most common step, which
            is not zero.
        ties: Share of the steps between a query's events that are zero.
        by_item: Share, of the queries with at least three events at different times, whose order in
            time is the order of their item ids.
        clock: First and last time, where the timestamps can be dates of our age.
        cut: Split by time; None without a clock, or where no cut leaves all parts some events.
        order: Profile of the order of events; None where queries were not read whole.
        repeats_of_last: Share of queries whose last event is of an item that they had before.
    """

    same_start: float
    same_step: float
    ties: float
    by_item: float
    clock: tuple[datetime, datetime] | None
    cut: TimeCut | None
    order: OrderProfile | None
    repeats_of_last: RepeatShare


@dataclass(frozen=True)
class EventsProfile:
    """The profile of the events of a log.

    Attributes:
        rows: Number of events.
        read: Number of events that were read.
        queries: Number of distinct queries among the events read.
        items: Number of distinct items among the events read.
        whole_queries: Whether the events of a query were read together: all were read, or files are
            ordered by query. Otherwise figures per query are too low.
        median: Median of the events of a query.
        p90: 90th percentile of the events of a query.
        time: Profile of the timestamps, if any.
    """

    rows: int
    read: int
    queries: int
    items: int
    whole_queries: bool
    median: float
    p90: float
    time: TimeProfile | None

    @property
    def has_single_visits(self) -> bool:
        """Whether most queries have one event, as far as queries were read whole."""
        return self.whole_queries and self.median < _SEVERAL


def profile_events(
    table: ParquetTable,
    query: str,
    item: str,
    timestamp: str | None,
    clock: Clock,
    positives: tuple[Sequence[str], Callable[[pa.Table], Bools]] | None = None,
) -> EventsProfile:
    """Reads the events, or a sample of them, and sums them up.

    Args:
        table: Table of the events.
        query: Column of query ids.
        item: Column of item ids.
        timestamp: Column of timestamps, if any.
        clock: Reading of the timestamps.
        positives: Columns that tell positives, and function that returns which rows are; None: all
            events are positives, and others are not profiled.
    """
    names = [query, item] + ([timestamp] if timestamp is not None else [])
    parts, share = _positives(table, names, positives)
    rows = round(share * table.rows)
    events = pa.concat_tables(parts).combine_chunks()
    query_codes = _codes(events[query])
    item_ranks = _codes(events[item])
    counts = np.bincount(query_codes) if len(query_codes) else np.zeros(1, np.int64)
    exact = table.rows_are_exact and table.rows <= _MAX_EVENTS
    whole_queries = exact or _is_clustered(parts, query)
    time = None
    if timestamp is not None and len(events):
        times = clock.read(_one(events[timestamp]))
        known = times.is_valid().to_numpy(zero_copy_only=False)
        share = 1.0 if whole_queries else len(events) / rows
        if known.any():
            some = times.drop_null().to_numpy()
            time = _profile_time(query_codes[known], item_ranks[known], some, share, clock)
    return EventsProfile(
        rows=rows,
        read=len(events),
        queries=int((counts > 0).sum()),
        items=len(np.unique(item_ranks)),
        whole_queries=whole_queries,
        median=float(np.median(counts)),
        p90=float(np.percentile(counts, 90)),
        time=time,
    )


def _positives(
    table: ParquetTable,
    names: list[str],
    positives: tuple[Sequence[str], Callable[[pa.Table], Bools]] | None,
) -> tuple[list[pa.Table], float]:
    """Reads the rows of positives without nulls; also returns the share of positives."""
    if positives is None:
        return [_whole(part, names[:2]) for part in table.sample(names, _MAX_EVENTS)], 1.0
    columns, are_positives = positives
    parts, read, found = [], 0, 0
    for part in table.sample(list(dict.fromkeys([*names, *columns])), _MAX_EVENTS):
        kept = part.filter(pa.array(are_positives(part)))
        parts.append(_whole(kept.select(names), names[:2]))
        read, found = read + len(part), found + len(kept)
    return parts, found / max(1, read)


def _whole(part: pa.Table, ids: Sequence[str]) -> pa.Table:
    """Leaves out the rows without an id, or with a null in another column."""
    for name in ids:
        missing = missing_ids(part[name])
        if missing.true_count > part[name].null_count:
            given = pc.if_else(missing, None, _one(part[name]))
            part = part.set_column(part.column_names.index(name), name, given)
    return part.drop_null()


def _one(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays(column.chunks) if column.num_chunks != 1 else column.chunk(0)


def _codes(column: pa.ChunkedArray) -> Ints:
    """Computes the rank of each value among the distinct ones, [rows]."""
    if not len(column):
        return np.empty(0, np.int64)
    encoded = _one(column).dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks[encoded.indices.to_numpy()]


def _is_clustered(parts: list[pa.Table], query: str) -> bool:
    """Checks whether rows are grouped by query, so that a part of a file holds whole queries."""
    repeats = breaks = rows = 0
    for part in parts:
        codes = _codes(part[query])
        distinct = len(np.unique(codes))
        repeats += len(codes) - distinct
        breaks += 1 + int((codes[1:] != codes[:-1]).sum()) - distinct if len(codes) else 0
        rows += len(codes)
    return repeats > 0.01 * rows and breaks < 0.05 * repeats


def _profile_time(
    queries: Ints, items: Ints, times: Ints, share: float, clock: Clock
) -> TimeProfile:
    order = np.lexsort((items, times, queries))
    queries, items, times = queries[order], items[order], times[order]
    starts = np.concatenate([[True], queries[1:] != queries[:-1]])
    within = ~starts[1:]
    steps = (times[1:] - times[:-1])[within]
    ties = float((steps == 0).mean()) if len(steps) else 0.0
    span = (moment_of(int(times.min())), moment_of(int(times.max())))
    return TimeProfile(
        same_start=_share_of_mode(times[starts]) if starts.sum() >= _MIN_QUERIES else 0.0,
        same_step=_share_of_mode(steps[steps > 0]) * (1 - ties),
        ties=ties,
        by_item=_share_by_item(queries, items, times),
        clock=span if clock.is_real else None,
        cut=_cut(queries, items, times, share) if clock.is_real else None,
        order=profile_order(queries, items, times) if share == 1 else None,
        repeats_of_last=repeats_of_last(queries, items, times, share),
    )


def _share_of_mode(values: Ints) -> float:
    if not len(values):
        return 0.0
    return float(np.unique(values, return_counts=True)[1].max() / len(values))


def _share_by_item(queries: Ints, items: Ints, times: Ints) -> float:
    """Computes `TimeProfile.by_item`; the events are sorted by query, time and item."""
    forward = (queries[1:] == queries[:-1]) & (times[1:] > times[:-1]) & (items[1:] != items[:-1])
    steps = np.bincount(queries[1:][forward], minlength=int(queries[-1]) + 1)
    backward = forward & (items[1:] < items[:-1])
    broken = np.bincount(queries[1:][backward], minlength=len(steps)) > 0
    long = steps >= 2
    return float((~broken[long]).mean()) if long.sum() >= _MIN_QUERIES else 0.0


def _cut(queries: Ints, items: Ints, times: Ints, share: float) -> TimeCut | None:
    """Cuts by round lengths where the parts stay about as large, otherwise by exact seconds."""
    edges, last = np.quantile(times, _CUTS, method="higher"), int(times.max())
    for grain in (DAY, HOUR, SECOND):
        before, of_test = (_window(last - int(edge), grain) for edge in edges)
        is_train, is_test = times <= last - before, times > last - of_test
        train, test = float(is_train.mean()), float(is_test.mean())
        validation = 1 - train - test
        if of_test and min(validation, test) >= 0.05 and train >= 0.5:
            known = np.zeros(int(queries[-1]) + 1, bool)
            known[queries[is_train]] = True
            seen = float(known[queries[is_test]].mean())
            return TimeCut(
                validation=timedelta(microseconds=before - of_test),
                test=timedelta(microseconds=of_test),
                train_share=train,
                validation_share=validation,
                test_share=test,
                known_at_least=seen,
                known_at_most=min(1.0, seen / share),
                repeats=repeats_after(queries, items, times, last - of_test + 1, share),
            )
    return None


def _window(span: int, grain: int) -> int:
    """Rounds the time from an edge to the last event to a window with about the same events.

    Events at the very beginning of a window are not in it, so that a week of dates has seven.
    """
    grains, rest = divmod(span, grain)
    return (grains if rest else grains + 1) * grain
