"""A synthetic log of any size, for benchmarks and tests: `recsys generate -o DIR`.

Every event, item and query is a function of the seed and its number, so that the log does not
depend on how it is cut into blocks, and only one block is in memory at a time.
"""

import math
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.columns import Ints
from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically, never
from pipelines.datasets.generate_catalogue import (
    GROUP_EXPONENT,
    ITEM_EXPONENT,
    ITEMS,
    QUERIES,
    Log,
    id_column,
    items_block,
    power_law,
    preferred_groups,
    queries_block,
)

Progress = Callable[[str], None]

BLOCK = 1_000_000
BLOCKS_PER_LINE = 5

START = 1_704_067_200  # 2024-01-01T00:00:00Z
DAY = 86_400
DAYS = 366

QUERY_EXPONENT = 0.5
PREFERRED_SHARE = 0.8
FIRST_GROUP_SHARE = 0.6  # of the events in a preferred group

EVENTS = pa.schema(
    [
        pa.field("query_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("timestamp", pa.int64(), nullable=False),
    ]
)


def generate(
    output: Path,
    *,
    events: int,
    items: int,
    queries: int,
    seed: int = 0,
    by_date: bool = False,
    progress: Progress = print,
) -> Path:
    """Writes a synthetic log to the directory `output`, whole or not at all.

    Items, groups of items and queries follow power laws. Each query prefers two groups, which the
    features of items and queries reflect. A tenth of the items exists from the start; the others
    arrive over the year 2024. Events are in the order of time, across the files too.

    Args:
        output: Directory to create: `events/part-*.parquet`, `items.parquet`, `queries.parquet`.
        events: Rows of the log; the memory in use does not depend on it.
        items: Rows of `items.parquet`; rare items may have no event.
        queries: Rows of `queries.parquet`; rare queries may have no event.
        seed: Seed of all draws; another seed gives another log of the same kind.
        by_date: Whether the events of each day have a directory of their own,
            `events/date=2024-01-01/part-*.parquet`.
        progress: Function that is called with one line at a time.

    Returns:
        The absolute path of `output`.

    Raises:
        UserError: A number is not positive, or `output` is in use or not writable.
    """
    for name, number in (("events", events), ("items", items), ("queries", queries)):
        if number < 1:
            raise UserError(f"{name} is {number}; give a whole number of at least 1.")
    output = output.resolve()
    log = Log(events=events, items=items, queries=queries, seed=seed)
    start = time.monotonic()
    try:
        with directory_written_atomically(output, never) as directory:
            _write_table(directory / "items.parquet", ITEMS, items, log, items_block)
            _write_table(directory / "queries.parquet", QUERIES, queries, log, queries_block)
            _write_events(directory / "events", log, by_date, progress)
    except OSError as error:
        raise UserError(f"cannot write {output} ({error}); choose another -o.") from error
    progress(
        f"generated {events:,} events, {items:,} items and {queries:,} queries in {output} "
        f"({time.monotonic() - start:.1f} s)"
    )
    return output


def _write_table(
    path: Path, schema: pa.Schema, rows: int, log: Log, block: Callable[[Log, Ints], pa.Table]
) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for first in range(0, rows, BLOCK):
            writer.write_table(block(log, np.arange(first, min(first + BLOCK, rows))))


def _write_events(directory: Path, log: Log, by_date: bool, progress: Progress) -> None:
    start = time.monotonic()
    for part, first in enumerate(range(0, log.events, BLOCK)):
        end = min(first + BLOCK, log.events)
        events = events_block(log, np.arange(first, end))
        for folder, rows in _by_date(events) if by_date else [("", events)]:
            path = directory / folder / f"part-{part:05d}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(rows, path, compression="zstd")
        if (part + 1) % BLOCKS_PER_LINE == 0:
            rate = end / (time.monotonic() - start)
            progress(f"{end:,} of {log.events:,} events ({rate:,.0f} a second)")


def _by_date(events: pa.Table) -> Iterator[tuple[str, pa.Table]]:
    """Yields the name of each day's directory and the day's events, which are in order of time."""
    day = events["timestamp"].to_numpy() // DAY
    bounds = [0, *(np.flatnonzero(np.diff(day)) + 1).tolist(), len(day)]
    for first, end in pairwise(bounds):
        yield f"date={np.datetime64(int(day[first]), 'D')}", events.slice(first, end - first)


def events_block(log: Log, event: Ints) -> pa.Table:
    """Generates the events of these numbers, with the schema EVENTS."""
    elapsed = (event + log.uniform("event time", event)) * (DAYS * DAY / log.events)
    # Rounding may carry the last event of a large log over the end of the year.
    second = np.minimum(elapsed.astype(np.int64), DAYS * DAY - 1)

    activity = power_law(log.uniform("event query", event), log.queries, QUERY_EXPONENT)
    query = _scattered(activity, np.int64(log.queries))
    first_group, second_group = preferred_groups(log, query)
    choice = log.uniform("event group", event)
    group = np.where(choice < PREFERRED_SHARE * FIRST_GROUP_SHARE, first_group, second_group)
    any_group = power_law(log.uniform("event any group", event), log.groups, GROUP_EXPONENT)
    group = np.where(choice < PREFERRED_SHARE, group, any_group)

    size = log.group_size(group)
    rank = power_law(log.uniform("event item", event), size, ITEM_EXPONENT)
    shift = log.below("group shift", group, size)
    wanted = (_scattered(rank, size) + shift) % size
    position = arrived(log, group, wanted, arrivals(size, second // DAY))
    return pa.table(
        [id_column("q", query), id_column("i", position * log.groups + group), START + second],
        schema=EVENTS,
    )


def _scattered(rank: Ints, size: Ints | np.int64) -> Ints:
    """Maps ranks in [0, size) one to one, so that neighbours in rank are far apart.

    So popular items arrive all through the year. No table is needed: ranks are multiplied by about
    the golden ratio of the size, a factor that must have no divisor in common with it.
    """
    sizes, inverse = np.unique(size, return_inverse=True)
    factors = np.array([_coprime_near_golden(int(n)) for n in sizes])
    return (rank * factors[inverse].reshape(np.shape(size))) % size


def _coprime_near_golden(size: int) -> int:
    factor = max(1, round(size * (math.sqrt(5) - 1) / 2))
    while math.gcd(factor, size) != 1:
        factor += 1
    return factor


def arrivals(size: Ints, day: Ints) -> Ints:
    """Counts the items of a group of `size` that exist on `day`: from a tenth on day 0 to all."""
    last = DAYS - 1
    return np.maximum(1, size * (last + 9 * day) // (10 * last))


def first_day(log: Log, item: Ints) -> Ints:
    """Returns the first day, in [0, DAYS), of an item's events: the inverse of `arrivals`."""
    size, position, last = log.group_size(item % log.groups), item // log.groups, DAYS - 1
    day = -((size * last - 10 * last * (position + 1)) // (9 * size))
    return np.where(position == 0, 0, np.maximum(0, day))


def arrived(log: Log, group: Ints, position: Ints, count: Ints) -> Ints:
    """Replaces an item that has not arrived by an older one of its group.

    The older item is drawn once for each item, not for each event: so a new item takes over a part
    of the demand for one item, and no other changes.

    Args:
        log: Log of these items.
        group: Groups of the items, [draws].
        position: Positions of the items in their groups' order of arrival, [draws].
        count: Number of the group's items that have arrived, at least 1, [draws].

    Returns:
        Positions, each below `count`, [draws].
    """
    position = position.copy()
    missing = np.flatnonzero(position >= count)
    while len(missing):
        item = position[missing] * log.groups + group[missing]
        position[missing] = log.below("item stand-in", item, position[missing])
        missing = missing[position[missing] >= count[missing]]
    return position
