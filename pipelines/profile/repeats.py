"""Share of held-out pairs whose query had the item before, from the events of a profile."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Bools

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RepeatShare:
    """A share of held-out pairs, which a sample of the events only bounds.

    Attributes:
        at_least: Share of the pairs that have an earlier event among those read.
        at_most: Upper bound of the share; the same where queries were read whole.
    """

    at_least: float
    at_most: float


def repeats_after(queries: Ints, items: Ints, times: Ints, start: int, share: float) -> RepeatShare:
    """Measures the pairs from a time on: how many of them have an event before it.

    Args:
        queries: Queries of the events, [events].
        items: Items of the events, [events].
        times: Times of the events, [events].
        start: Time from which events are held out.
        share: Share of the events that was read; 1 where queries were read whole.
    """
    pairs = _pairs(queries, items)
    is_held_out = times >= start
    held_out = np.unique(pairs[is_held_out])
    return _share_of(np.isin(held_out, pairs[~is_held_out]), share)


def repeats_of_last(queries: Ints, items: Ints, times: Ints, share: float) -> RepeatShare:
    """Measures the last events of queries with at least three, in the order of `prepare`.

    Args:
        queries: Queries of the events, [events], sorted by query, time and item.
        items: Items of the events, [events].
        times: Times of the events, [events].
        share: Share of the events that was read; 1 where queries were read whole.
    """
    is_new = np.ones(len(queries), bool)
    is_new[1:] = (np.diff(queries) != 0) | (np.diff(times) != 0) | (np.diff(items) != 0)
    queries, pairs = queries[is_new], _pairs(queries, items)[is_new]
    is_last = np.append(queries[1:] != queries[:-1], True)
    is_long = np.bincount(queries)[queries] >= 3
    return _share_of(np.isin(pairs[is_last & is_long], pairs[~is_last]), share)


def _pairs(queries: Ints, items: Ints) -> Ints:
    return queries * (int(items.max(initial=0)) + 1) + items


def _share_of(had: Bools, share: float) -> RepeatShare:
    found = float(had.mean()) if len(had) else 0.0
    return RepeatShare(found, min(1.0, found / share))
