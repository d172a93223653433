"""What the examples and the queries know of earlier events."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Bools, Ints, Jagged
from feature_store.core.hashing import hash64
from feature_store.encoding.context import NO_TIME
from feature_store.history import others_history, past_history, seen_before
from pipelines.prepare.splits import TEST, TRAIN, VALIDATION
from pipelines.prepared.query_state import QueryState
from pipelines.prepared.reader import SPLITS
from pipelines.settings import History

# Of the choice of `others`; it is part of what a configuration means.
_SEED = 2


@dataclass(frozen=True)
class Events:
    """Events of whole queries, sorted by (query, time, item id); every field is [events].

    Attributes:
        query: Index.
        item: Index.
        time: Microseconds since 1970, or 0 throughout.
        rank: Of the time; equal times have equal ranks.
        weight: float32.
        split: Index into `SPLITS`.
        query_key: Hash of the query's id.
        item_key: Hash of the item's id.
        place: Of the event's context, among the bucket's.
    """

    query: Ints
    item: Ints
    time: Ints
    rank: Ints
    weight: npt.NDArray[np.float32]
    split: Ints
    query_key: Ints
    item_key: Ints
    place: Ints

    def __len__(self) -> int:
        return len(self.query)


def example_history(events: Events, rows: slice | Bools, settings: History) -> Jagged:
    """What some events' examples know of their queries, oldest first, [rows].

    With `past`, training and validation examples see training events, test examples also those of
    validation, all strictly before their own time. With `others`, all see training events. None
    sees its own item.
    """
    chosen = np.zeros(len(events), bool)
    chosen[rows] = True
    is_train, is_test = events.split == TRAIN, events.split == TEST
    if settings.kind == "others":
        return _history(events, is_train, _targets(events, chosen), settings)
    early = _history(events, is_train, _targets(events, chosen & ~is_test), settings)
    late = _history(events, ~is_test, _targets(events, chosen & is_test), settings)
    is_late = is_test[rows]
    place = np.empty(len(is_late), np.int64)
    place[~is_late] = np.arange(len(early))
    place[is_late] = len(early) + np.arange(len(late))
    return Jagged.concatenate([early, late]).take(place)


def query_state(events: Events, settings: History) -> tuple[Ints, QueryState]:
    """The queries of a bucket, sorted, and what is known of each.

    A history is what may be seen when the query's held-out items of a split are ranked: events
    strictly before the earliest of them, and none of these items. A query without any sees all
    events of the earlier splits.
    """
    queries, first, query = np.unique(events.query, return_index=True, return_inverse=True)
    items = [
        _distinct(query[events.split == split], events.item[events.split == split], len(queries))
        for split in range(len(SPLITS))
    ]
    histories = []
    for split in (VALIDATION, TEST):
        held_out = events.split == split
        has_held_out = np.bincount(query[held_out], minlength=len(queries)) > 0
        seen = events.split < split
        if settings.kind == "others":  # What training queries see is training events, too.
            seen &= (events.split == TRAIN) | ~has_held_out[query]
        rank = np.full(len(queries), events.rank.max(initial=0) + 1)
        np.minimum.at(rank, query[held_out], events.rank[held_out])
        key = hash64(_SEED, events.query_key[first])
        targets = _Targets(queries, rank, np.full(len(queries), -1), key)
        histories.append(_without(_history(events, seen, targets, settings), items[split]))
    return queries, QueryState(*items, *histories)


def previous_times(events: Events) -> Ints:
    """When the latest event was that each event's `example_history` of `past` may show, [events].

    Microseconds; `NO_TIME` where there is none.
    """
    is_test = events.split == TEST
    early = _previous_times(events, events.split == TRAIN)
    late = _previous_times(events, ~is_test)
    return np.where(is_test, late, early)


def _previous_times(events: Events, seen: Bools) -> Ints:
    """Of the latest seen event before each, of its query and of another item."""
    query, item, time = events.query[seen], events.item[seen], events.time[seen]
    starts_run = np.ones(len(query), bool)
    starts_run[1:] = (query[1:] != query[:-1]) | (item[1:] != item[:-1])
    run_start = np.maximum.accumulate(np.where(starts_run, np.arange(len(query)), 0))
    first, end = seen_before(query, events.rank[seen], events.query, events.rank)
    latest = end - 1
    known = np.flatnonzero(latest >= first)
    own = known[item[latest[known]] == events.item[known]]
    latest[own] = run_start[latest[own]] - 1
    return _time_at(time, latest, latest >= first)


@dataclass(frozen=True)
class Questions:
    """The moments at which queries are asked for their held-out items of a split, [queries].

    Attributes:
        event: The earliest of these items' events; -1 where a query has none.
        previous: Time of the latest event of its history, see `query_state`; `NO_TIME`: none.
    """

    event: Ints
    previous: Ints


def questions(events: Events, split: int) -> Questions:
    """Of each query of a bucket, in the order of `query_state`, with a history of `past`."""
    queries, query = np.unique(events.query, return_inverse=True)
    held_out = np.flatnonzero(events.split == split)
    event = np.full(len(queries), len(events))
    np.minimum.at(event, query[held_out], held_out)
    is_asked = event < len(events)
    rank = np.full(len(queries), events.rank.max(initial=0) + 1)
    rank[is_asked] = events.rank[event[is_asked]]
    width = int(events.item.max(initial=0)) + 1
    keys = query * width + events.item
    seen = (events.split < split) & ~np.isin(keys, keys[held_out])
    first, end = seen_before(query[seen], events.rank[seen], np.arange(len(queries)), rank)
    previous = _time_at(events.time[seen], end - 1, end > first)
    return Questions(np.where(is_asked, event, -1), previous)


def _time_at(time: Ints, place: Ints, known: Bools) -> Ints:
    found = np.full(len(place), NO_TIME)
    found[known] = time[place[known]]
    return found


@dataclass(frozen=True)
class _Targets:
    query: Ints
    rank: Ints
    item: Ints
    key: Ints


def _targets(events: Events, chosen: Bools) -> _Targets:
    key = _pair_key(events, chosen)
    return _Targets(events.query[chosen], events.rank[chosen], events.item[chosen], key)


def _pair_key(events: Events, chosen: Bools) -> Ints:
    """Of ids and not of indices, so that it does not depend on the vocabulary's history."""
    return hash64(_SEED, events.query_key[chosen], events.item_key[chosen])


def _history(events: Events, seen: Bools, targets: _Targets, settings: History) -> Jagged:
    query, item, rank = events.query[seen], events.item[seen], events.rank[seen]
    if settings.kind == "others":
        return others_history(
            query=query,
            item=item,
            key=_pair_key(events, seen),
            target_query=targets.query,
            target_item=targets.item,
            target_key=targets.key,
            max_length=settings.max_length,
            distinct=settings.distinct,
        )
    return past_history(
        query=query,
        rank=rank,
        item=item,
        target_query=targets.query,
        target_rank=targets.rank,
        target_item=targets.item,
        max_length=settings.max_length,
        distinct=settings.distinct,
    )


def _distinct(row: Ints, item: Ints, rows: int) -> Jagged:
    """The distinct items of each row, ascending."""
    width = int(item.max(initial=0)) + 1
    row, item = np.divmod(np.unique(row * width + item), width)
    return Jagged.from_lengths(item, np.bincount(row, minlength=rows))


def _without(history: Jagged, items: Jagged) -> Jagged:
    """Each row's history without the row's items."""
    width = int(max(history.values.max(initial=0), items.values.max(initial=0))) + 1
    taken = np.isin(
        history.row_of_value() * width + history.values,
        items.row_of_value() * width + items.values,
    )
    return history.keep(~taken)
