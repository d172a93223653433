"""Histories: the earlier events that examples and queries may see."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Bools, Ints, Jagged
from feature_store.core.hashing import hash64
from feature_store.core.sorting import sorted_distinct
from feature_store.encoding.context import NO_TIME
from feature_store.history import others_history, past_history, seen_before
from pipelines.prepare.examples.splits import TEST, TRAIN, VALIDATION
from pipelines.prepared.examples import SPLITS
from pipelines.prepared.query_state import QueryState
from pipelines.settings import History, Repeats

# Seed of the choice of `others`: with another one a configuration would give other histories.
_SEED = 2
# Item of a target whose history hides none.
_NO_ITEM = -1


@dataclass(frozen=True)
class Events:
    """Events of whole queries, sorted by (query, time, item id); every field is [events].

    Attributes:
        query: Query's index.
        item: Item's index.
        time: Microseconds since 1970, or 0 throughout.
        time_rank: Rank of the time; equal times have equal ranks.
        weight: Weight in the loss, float32.
        split: Index into `SPLITS`.
        query_key: Hash of the query's id.
        item_key: Hash of the item's id.
        context_row: Row of the event's context in the bucket.
    """

    query: Ints
    item: Ints
    time: Ints
    time_rank: Ints
    weight: npt.NDArray[np.float32]
    split: Ints
    query_key: Ints
    item_key: Ints
    context_row: Ints

    def __len__(self) -> int:
        return len(self.query)


def example_history(
    events: Events, rows: slice | Bools, settings: History, repeats: Repeats = "exclude"
) -> Jagged:
    """Returns the history of each of some events' examples, oldest first, [rows].

    With `past`, training and validation examples see training events, test examples also those of
    validation, all strictly before their own time. With `others`, all see training events. None
    sees its own item; where repeats are allowed, it sees earlier events of the item, as the queries
    do that are ranked later, but never its own event, which is not before itself.
    """
    chosen = np.zeros(len(events), bool)
    chosen[rows] = True
    is_train, is_test = events.split == TRAIN, events.split == TEST
    targets = _targets(events, chosen, repeats)
    if settings.kind == "others":
        return _history(events, is_train, targets, settings)
    # Test examples see more, so each query is there twice, with a number of its own for them.
    early, late = np.flatnonzero(is_train), np.flatnonzero(~is_test)
    seen, shift = np.concatenate([early, late]), int(events.query.max(initial=0)) + 1
    return past_history(
        query=events.query[seen] + np.repeat([0, shift], [len(early), len(late)]),
        rank=events.time_rank[seen],
        item=events.item[seen],
        target_query=targets.query + shift * is_test[chosen],
        target_rank=targets.time_rank,
        target_item=targets.item,
        max_length=settings.max_length,
        distinct=settings.distinct,
    )


def query_state(
    events: Events, settings: History, repeats: Repeats = "exclude"
) -> tuple[Ints, QueryState]:
    """Returns the queries of a bucket, sorted, and the state of each.

    A history is what may be seen when the query's held-out items of a split are ranked: events
    strictly before the earliest of them, and none of these items unless repeats are allowed. A
    query without any sees all events of the earlier splits.
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
        if settings.kind == "others":  # In training, queries see training events, too.
            seen &= (events.split == TRAIN) | ~has_held_out[query]
        time_rank = np.full(len(queries), events.time_rank.max(initial=0) + 1)
        np.minimum.at(time_rank, query[held_out], events.time_rank[held_out])
        key = hash64(_SEED, events.query_key[first])
        targets = _Targets(queries, time_rank, np.full(len(queries), _NO_ITEM), key)
        history = _history(events, seen, targets, settings)
        histories.append(history if repeats == "allow" else _without(history, items[split]))
    return queries, QueryState(*items, *histories)


def previous_times(events: Events, repeats: Repeats = "exclude") -> Ints:
    """Returns the time of the latest event that each event's history of `past` may show, [events].

    Times are microseconds; `NO_TIME` where there is none.
    """
    is_test = events.split == TEST
    early = _previous_times(events, events.split == TRAIN, repeats)
    late = _previous_times(events, ~is_test, repeats)
    return np.where(is_test, late, early)


def _previous_times(events: Events, seen: Bools, repeats: Repeats) -> Ints:
    """Returns the time of the latest seen event of its query before each.

    It is one of another item, unless repeats are allowed.
    """
    query, item, time = events.query[seen], events.item[seen], events.time[seen]
    first, end = seen_before(query, events.time_rank[seen], events.query, events.time_rank)
    latest = end - 1
    if repeats == "exclude":
        starts_run = np.ones(len(query), bool)
        starts_run[1:] = (query[1:] != query[:-1]) | (item[1:] != item[:-1])
        run_start = np.maximum.accumulate(np.where(starts_run, np.arange(len(query)), 0))
        known = np.flatnonzero(latest >= first)
        own = known[item[latest[known]] == events.item[known]]
        latest[own] = run_start[latest[own]] - 1
    return _time_at(time, latest, latest >= first)


@dataclass(frozen=True)
class Requests:
    """The moments at which held-out items of a split are ranked; every field is [queries].

    Attributes:
        event: Earliest event of the query's held-out items; -1 where it has none.
        previous: Time of the latest event of its history, see `query_state`; `NO_TIME`: none.
    """

    event: Ints
    previous: Ints


def requests(events: Events, split: int, repeats: Repeats = "exclude") -> Requests:
    """Returns the request of each query of a bucket, as sorted by `query_state`, for `past`."""
    queries, query = np.unique(events.query, return_inverse=True)
    held_out = np.flatnonzero(events.split == split)
    event = np.full(len(queries), len(events))
    np.minimum.at(event, query[held_out], held_out)
    has_event = event < len(events)
    time_rank = np.full(len(queries), events.time_rank.max(initial=0) + 1)
    time_rank[has_event] = events.time_rank[event[has_event]]
    seen = events.split < split
    if repeats == "exclude":
        width = int(events.item.max(initial=0)) + 1
        keys = query * width + events.item
        seen &= ~np.isin(keys, keys[held_out])
    rows = np.arange(len(queries))
    first, end = seen_before(query[seen], events.time_rank[seen], rows, time_rank)
    previous = _time_at(events.time[seen], end - 1, end > first)
    return Requests(np.where(has_event, event, -1), previous)


def _time_at(time: Ints, position: Ints, is_known: Bools) -> Ints:
    times = np.full(len(position), NO_TIME)
    times[is_known] = time[position[is_known]]
    return times


@dataclass(frozen=True)
class _Targets:
    query: Ints
    time_rank: Ints
    item: Ints
    key: Ints


def _targets(events: Events, chosen: Bools, repeats: Repeats) -> _Targets:
    """Returns the events as targets; without their items where histories may hold these."""
    item, key = events.item[chosen], _pair_key(events, chosen)
    hidden = item if repeats == "exclude" else np.full(len(item), _NO_ITEM)
    return _Targets(events.query[chosen], events.time_rank[chosen], hidden, key)


def _pair_key(events: Events, chosen: Bools) -> Ints:
    """Hashes ids and not indices, so that nothing depends on the vocabulary's history."""
    return hash64(_SEED, events.query_key[chosen], events.item_key[chosen])


def _history(events: Events, seen: Bools, targets: _Targets, settings: History) -> Jagged:
    query, item, time_rank = events.query[seen], events.item[seen], events.time_rank[seen]
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
        rank=time_rank,
        item=item,
        target_query=targets.query,
        target_rank=targets.time_rank,
        target_item=targets.item,
        max_length=settings.max_length,
        distinct=settings.distinct,
    )


def _distinct(row: Ints, item: Ints, rows: int) -> Jagged:
    """Returns the distinct items of each row, ascending."""
    width = int(item.max(initial=0)) + 1
    row, item = np.divmod(sorted_distinct(row * width + item), width)
    return Jagged.from_lengths(item, np.bincount(row, minlength=rows))


def _without(history: Jagged, items: Jagged) -> Jagged:
    """Removes the row's items from each row's history."""
    width = int(max(history.values.max(initial=0), items.values.max(initial=0))) + 1
    taken = np.isin(
        history.row_of_value() * width + history.values,
        items.row_of_value() * width + items.values,
    )
    return history.keep(~taken)
