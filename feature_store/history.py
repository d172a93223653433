"""Point-in-time histories: the events of a query that were known when an event happened."""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Ints, Jagged
from feature_store.core.sorting import stable_order

# A history of distinct items looks back over at most this many times `max_length` events.
MAX_STRETCH = 8


def past_history(
    *,
    query: Ints,
    rank: Ints,
    item: Ints,
    target_query: Ints,
    target_rank: Ints,
    target_item: Ints,
    max_length: int,
    distinct: bool = False,
) -> Jagged:
    """Returns the items of the latest events strictly before each target, oldest first.

    Args:
        query: Queries of the events that may be seen, [events], sorted by (query, rank).
        rank: Ranks of the events' times, [events]; equal times have equal ranks.
        item: Items of the events, [events].
        target_query: Queries of the targets, [targets].
        target_rank: Ranks of the targets' times, [targets]; only lower ranks are seen.
        target_item: Items of the targets, [targets], which their histories never hold; -1: none.
        max_length: Events in the window, from which those of the target's item are removed.
        distinct: Whether an item that repeats is kept only where it came last. The window is then
            as much longer as `max_length` items need, up to `MAX_STRETCH` times.
    """
    first, end = seen_before(query, rank, target_query, target_rank)
    if distinct:
        return _distinct_past(query, item, first, end, target_item, max_length)
    start = np.maximum(first, end - max_length)
    seen = windows(start, end - start)
    return _without_target(Jagged(item[seen.values], seen.offsets), target_item)


def seen_before(
    query: Ints, rank: Ints, target_query: Ints, target_rank: Ints
) -> tuple[Ints, Ints]:
    """Finds the events of each target's query that are strictly before the target.

    The arguments are those of `past_history`.

    Returns:
        first: Position of the query's first event, [targets].
        end: Position after the last event before the target, [targets].
    """
    width = int(max(rank.max(initial=0), target_rank.max(initial=0))) + 1
    keys = query.astype(np.int64) * width + rank
    targets = target_query.astype(np.int64) * width
    first = np.searchsorted(keys, targets, side="left")
    return first, np.searchsorted(keys, targets + target_rank, side="left")


def _distinct_past(
    query: Ints, item: Ints, first: Ints, end: Ints, target_item: Ints, max_length: int
) -> Jagged:
    """Does as `past_history` of distinct items, with the bounds that `seen_before` gives."""
    following = _following(query, item)
    histories: list[Jagged] = []
    rows: list[Ints] = []
    left = np.arange(len(end))
    length = max_length
    while len(left):
        start = np.maximum(first[left], end[left] - length)
        seen = windows(start, end[left] - start)
        # An event is the last of its item where the next one is not in the window.
        seen = seen.keep(following[seen.values] >= end[left][seen.row_of_value()])
        history = Jagged(item[seen.values], seen.offsets)
        history = _without_target(history, target_item[left])
        is_done = (history.lengths >= max_length) | (start == first[left])
        is_done |= length >= MAX_STRETCH * max_length
        done = np.flatnonzero(is_done)
        histories.append(_latest(history.take(done), max_length))
        rows.append(left[done])
        left = left[~is_done]
        length *= 2
    position = np.empty(len(end), np.int64)
    position[np.concatenate([*rows, left])] = np.arange(len(end))
    empty = Jagged(np.zeros(0, item.dtype), np.zeros(1, np.int64))
    return Jagged.concatenate([empty, *histories]).take(position)


def _following(query: Ints, item: Ints) -> Ints:
    """Returns the position of the query's next event of the same item, past the end if none."""
    order = stable_order(query, item)
    following = np.full(len(item), len(item))
    is_same = (query[order[1:]] == query[order[:-1]]) & (item[order[1:]] == item[order[:-1]])
    following[order[:-1][is_same]] = order[1:][is_same]
    return following


def _latest(bags: Jagged, length: int) -> Jagged:
    """Returns the last values of each bag, `length` at most."""
    start = np.maximum(bags.offsets[:-1], bags.offsets[1:] - length)
    seen = windows(start, bags.offsets[1:] - start)
    return Jagged(bags.values[seen.values], seen.offsets)


def others_history(
    *,
    query: Ints,
    item: Ints,
    key: Ints,
    target_query: Ints,
    target_item: Ints,
    target_key: Ints,
    max_length: int,
    distinct: bool = False,
) -> Jagged:
    """Chooses the items of other events of the query at random, for logs without an order.

    A query's events lie on a circle in the order of their keys, and a target sees those that follow
    its own key: so every event is seen equally often, and no target sees itself.

    Args:
        query: Queries of the training events, [events], sorted.
        item: Items of the events, [events].
        key: Hashes of the events' queries and items, [events].
        target_query: Queries of the targets, [targets].
        target_item: Items of the targets, [targets], which their histories never hold; -1: none.
        target_key: The same hashes of the targets, [targets].
        max_length: Greatest length of a history.
        distinct: Whether an item that repeats counts as one event.
    """
    order = stable_order(query, key, item)
    if distinct:
        pairs = np.stack([query[order], item[order]])
        is_new = np.ones(len(order), bool)
        is_new[1:] = (pairs[:, 1:] != pairs[:, :-1]).any(axis=0)
        order = order[is_new]
    query, item, key = query[order], item[order], key[order]
    first = np.searchsorted(query, target_query, side="left")
    end = np.searchsorted(query, target_query, side="right")
    size = end - first
    # Position of the target on its query's circle: one sort of events and targets together.
    targets = len(target_key)
    # Events come before targets of the same key, as they are given first.
    merged = stable_order(np.concatenate([query, target_query]), np.concatenate([key, target_key]))
    events_before = np.cumsum(merged < len(query))
    position = np.empty(targets, np.int64)
    is_target = merged >= len(query)
    position[merged[is_target] - len(query)] = events_before[is_target]
    position -= first
    lengths = np.minimum(size, max_length)
    steps = windows(np.zeros(targets, np.int64), lengths)
    parents = steps.row_of_value()
    around = (position[parents] + steps.values) % np.maximum(size, 1)[parents]
    return _without_target(Jagged(item[first[parents] + around], steps.offsets), target_item)


def windows(start: Ints, lengths: Ints) -> Jagged:
    """Returns bags of consecutive positions, from the starts and lengths."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    positions = np.arange(total) + np.repeat(start - (ends - lengths), lengths)
    return Jagged.from_lengths(positions, lengths)


def _without_target(history: Jagged, target_item: Ints) -> Jagged:
    is_other = history.values != np.repeat(target_item, history.lengths)
    return history if is_other.all() else history.keep(is_other)


Event = tuple[int, str]  # Microseconds since 1970, item id.

# Columns of the rows that hold a history.
HISTORY_SCHEMA = pa.schema(
    [
        pa.field("items", pa.list_(pa.string())),
        pa.field("timestamps", pa.list_(pa.timestamp("us", "UTC"))),
    ]
)


def recent(events: Iterable[Event], *, max_length: int, distinct: bool) -> list[Event]:
    """Returns the latest of some events, each once, oldest first.

    The result depends neither on the order of the events nor on repetitions: it is the history that
    `past_history` gives a target after the last event.

    Args:
        events: Events of one query.
        max_length: Greatest length of the result.
        distinct: Whether an item that repeats is kept only where it came last.
    """
    ordered = sorted(set(events))
    if distinct:
        last = {item: position for position, (_, item) in enumerate(ordered)}
        ordered = [event for position, event in enumerate(ordered) if last[event[1]] == position]
    return ordered[-max_length:]
