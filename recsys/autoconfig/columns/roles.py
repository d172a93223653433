"""Roles of the log's columns: by their names, and where names fail by their contents."""

from collections.abc import Collection
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from feature_store.schema import Side
from pipelines.logs.clock import Clock
from pipelines.logs.sampling import ParquetTable
from recsys.autoconfig.columns.given_split import find_split, split_notes
from recsys.autoconfig.columns.ids import certain_ids, find_ids
from recsys.autoconfig.columns.times import WantedTime, choose_time, time_candidates
from recsys.autoconfig.columns.wanted import Problems, WantedIds
from recsys.autoconfig.names import named

RATING_NAMES = "rating ratings stars star score overall reviewscore"
WEIGHT_NAMES = "weight sampleweight exampleweight"


@dataclass(frozen=True)
class Wanted:
    """The columns that the user names; those that are None are found.

    Attributes:
        ids: Columns of the ids.
        time: Column and unit of the times.
    """

    ids: WantedIds = field(default_factory=WantedIds)
    time: WantedTime = field(default_factory=WantedTime)


@dataclass(frozen=True)
class Roles:
    """Columns of the log by role.

    Args:
        query: Column of query ids.
        item: Column of item ids.
        query_key: Column of the ids in the table of queries; None: named as in the events.
        item_key: Column of the ids in the table of items; None: named as in the events.
        timestamp: Column of timestamps.
        clock: Reading of the timestamps.
        times: Columns that hold times, or have the name of one.
        notes: Sentences on times and splits for the terminal.
        rating: Column of ratings.
        weight: Column of weights.
        split: Column that says which split an event belongs to.
        guesses: Reasons by role: a column without a known name was taken, or a known name was not.
    """

    query: str
    item: str
    query_key: str | None = None
    item_key: str | None = None
    timestamp: str | None = None
    clock: Clock = field(default_factory=lambda: Clock(None, False))
    times: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    rating: str | None = None
    weight: str | None = None
    split: str | None = None
    guesses: dict[str, str] = field(default_factory=dict)

    @property
    def columns(self) -> set[str]:
        """All columns that have a role."""
        names = [self.query, self.item, self.timestamp, self.rating, self.weight, self.split]
        return {name for name in (*names, self.query_key, self.item_key) if name is not None}

    def key_of(self, side: Side) -> str:
        """Returns the column of the items or the queries that holds their ids."""
        key, own = (self.item_key, self.item) if side == "item" else (self.query_key, self.query)
        return key or own


def find_roles(
    events: ParquetTable,
    items: ParquetTable | None,
    queries: ParquetTable | None,
    bookkeeping: Collection[str] = (),
    wanted: Wanted | None = None,
) -> Roles:
    """Finds the columns of a log.

    Args:
        events: Events.
        items: Items, if there is a table.
        queries: Queries, if there is a table.
        bookkeeping: Columns of the events that are ids only if their name says so.
        wanted: Columns that the user names.

    Raises:
        UserError: There is no plausible id, it cannot be read, the tables call it differently, or
            a column that the user names is none; all of these at once.
    """
    wanted, problems = wanted or Wanted(), Problems()
    ids = find_ids(events, {"item": items, "query": queries}, bookkeeping, wanted.ids, problems)
    # Where a file lacks the column, no event of it could be used.
    taken = [choice.column for choice in ids.values()]
    free = [n for n in events.schema.names if n not in (*taken, *events.partial)]
    candidates = problems.attempt(partial(time_candidates, events, free, wanted.time)) or []
    times = tuple(candidate.name for candidate in candidates)
    rating = _find_number(events, free, RATING_NAMES)
    weight = _find_number(events, free, WEIGHT_NAMES)
    split = find_split(events, free)
    known = (*times, rating, weight, split, *bookkeeping)
    free = [name for name in free if name not in known]
    query, item = certain_ids(events, ids, free, problems)
    problems.refuse()
    time = choose_time(events, candidates, query.column, item.column, bookkeeping)
    whys = {"query": query.why, "item": item.why, "timestamp": time.why}
    return Roles(
        query.column,
        item.column,
        query.key,
        item.key,
        timestamp=time.column,
        clock=time.clock,
        times=times,
        notes=(*time.notes, *split_notes(events, free if split is None else [])),
        rating=rating,
        weight=weight,
        split=split,
        guesses={role: why for role, why in whys.items() if why},
    )


def _find_number(events: ParquetTable, free: list[str], names: str) -> str | None:
    for name in named(free, names):
        kind = events.schema.field(name).type
        if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
            return name
    return None
