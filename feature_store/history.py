"""Point-in-time history: what was known of a query when an event happened."""

import numpy as np
import numpy.typing as npt

from feature_store.columns import Ints, Jagged

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def hash64(seed: int, *keys: Ints | int) -> Ints:
    """SplitMix64 (Steele et al. 2014) over a seed and integer keys that broadcast; uint64.

    A counter-based generator: the value depends on the keys alone, so that it is the same whatever
    the order of rows, the number of partitions or of workers.
    """
    state = np.asarray(np.uint64(seed % 2**64))
    with np.errstate(over="ignore"):
        for key in keys:
            state = (state ^ np.asarray(key).astype(np.uint64)) * _GOLDEN + _GOLDEN
            state = (state ^ (state >> np.uint64(30))) * _MIX_1
            state = (state ^ (state >> np.uint64(27))) * _MIX_2
            state = state ^ (state >> np.uint64(31))
    return state


def hash_uniform(seed: int, *keys: Ints | int) -> npt.NDArray[np.float64]:
    """`hash64` as float64 in [0, 1)."""
    return (hash64(seed, *keys) >> np.uint64(11)).astype(np.float64) / float(2**53)


def past_history(
    *,
    query: Ints,
    rank: Ints,
    item: Ints,
    target_query: Ints,
    target_rank: Ints,
    target_item: Ints,
    max_length: int,
) -> Jagged:
    """The latest events strictly before each target, oldest first.

    Args:
        query: [events] of the events that may be seen, sorted by (query, rank).
        rank: [events] rank of the event's time; equal times have equal ranks.
        item: [events].
        target_query: [targets].
        target_rank: [targets]; only events with a lower rank are seen.
        target_item: [targets]; never in its own history. -1 for no target.
        max_length: Of the window of events; those of the target's own item are taken out of it.
    """
    width = int(max(rank.max(initial=0), target_rank.max(initial=0))) + 1
    keys = query.astype(np.int64) * width + rank
    targets = target_query.astype(np.int64) * width
    first = np.searchsorted(keys, targets, side="left")
    end = np.searchsorted(keys, targets + target_rank, side="left")
    start = np.maximum(first, end - max_length)
    windows = _windows(start, end - start)
    return _without_target(Jagged(item[windows.values], windows.offsets), target_item)


def others_history(
    *,
    query: Ints,
    item: Ints,
    target_query: Ints,
    target_item: Ints,
    max_length: int,
    seed: int,
) -> Jagged:
    """A pseudo-random choice of the query's other events, for logs whose order means nothing.

    Events lie on a circle in hash order, and a target sees those that follow its own place, so that
    every event is seen equally often and no target sees itself.

    Args:
        query: [events] of training events, sorted by query.
        item: [events].
        target_query: [targets].
        target_item: [targets]; never in its own history. -1 for no target.
        max_length: Of the history.
        seed: Of the hash.
    """
    place = hash64(seed, query, item)
    order = np.lexsort((item, place, query))
    query, item, place = query[order], item[order], place[order]
    first = np.searchsorted(query, target_query, side="left")
    end = np.searchsorted(query, target_query, side="right")
    size = end - first
    own = hash64(seed, target_query, target_item)
    # Position of the target on its query's circle: one sort of events and targets together.
    merged = np.lexsort(
        (
            np.concatenate([np.zeros(len(query), int), np.ones(len(own), int)]),
            np.concatenate([place, own]),
            np.concatenate([query, target_query]),
        )
    )
    events_before = np.cumsum(merged < len(query))
    position = np.empty(len(own), np.int64)
    is_target = merged >= len(query)
    position[merged[is_target] - len(query)] = events_before[is_target]
    position -= first
    lengths = np.minimum(size, max_length)
    steps = _windows(np.zeros(len(own), np.int64), lengths)
    parents = steps.row_of_value()
    around = (position[parents] + steps.values) % np.maximum(size, 1)[parents]
    return _without_target(Jagged(item[first[parents] + around], steps.offsets), target_item)


def _windows(start: Ints, lengths: Ints) -> Jagged:
    """Bags of consecutive positions."""
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    positions = np.arange(total) + np.repeat(start - (ends - lengths), lengths)
    return Jagged.from_lengths(positions, lengths)


def _without_target(history: Jagged, target_item: Ints) -> Jagged:
    return history.keep(history.values != target_item[history.row_of_value()])
