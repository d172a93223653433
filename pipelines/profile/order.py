"""Tests of whether the order of events within a query can be an order in time.

Where the log has no real clock, its order may be worthless: shuffled, or the order of the items'
numbers, names or positions in a hash table, the same for every query. Both show where two items are
neighbours in several queries.

- In time, events that happen together are similar, so the same neighbours return more often than
  when each query's events are shuffled.
- In time, two neighbours come now in one order, now in the other. A fixed order of the items gives
  always the same, even where it begins at another position in every query.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Ints

# Events that are tested, of whole queries.
_MAX_EVENTS = 100_000
# Number of shuffles of each query's events.
_SHUFFLES = 20
# With fewer returns than this, shuffled queries could not be told from others.
_MIN_RETURNS = 50


@dataclass(frozen=True)
class OrderProfile:
    """Statistics of neighbouring events, from which their order is judged.

    Attributes:
        returns: Number of neighbours (both items, in any order) that another query had before.
        same_order: Number of returns in the same order as in the query that had them last.
        shuffled_returns: Mean number of returns over shuffles of the events within queries.
        excess: Returns above those of shuffles, in standard deviations of a shuffle.
    """

    returns: int
    same_order: int
    shuffled_returns: float
    excess: float

    @property
    def share_of_same_order(self) -> float:
        """Share of returns in the same order; about 0.5 where the order is random."""
        return self.same_order / max(1, self.returns)

    def is_fixed(self, share: float, p: float) -> bool:
        """Tests whether more than `share` of all returning neighbours have the same order.

        An exact binomial test: were it only `share`, as many as these would be in the same order
        with a probability below `p`.
        """
        from scipy.stats import binom

        return bool(binom.sf(self.same_order - 1, self.returns, share) < p)

    def is_like_time(self, p: float) -> bool:
        """Tests whether neighbours return more often than in shuffled queries.

        Student's test: a shuffled log would have such an excess with a probability below `p`.
        """
        from scipy.stats import t

        return bool(t.sf(self.excess, _SHUFFLES - 1) < p)

    def is_shuffled(self, p: float) -> bool:
        """Tests whether neighbours return no more often, and are frequent enough to tell."""
        return self.shuffled_returns >= _MIN_RETURNS and not self.is_like_time(p)


def profile_order(queries: Ints, items: Ints, times: Ints) -> OrderProfile:
    """Counts returning neighbours among each query's distinct items, ordered by first event.

    Args:
        queries: Queries of the events, [events], sorted.
        items: Numbers of the events' items, [events].
        times: Times, [events], ascending within a query; equal times have no order.
    """
    kept = _some_queries(queries)
    random = np.random.default_rng(0)
    queries, items = _distinct(queries[kept], items[kept], times[kept], random)
    returns, same_order = _returns(queries, items)
    shuffled = []
    for _ in range(_SHUFFLES):
        order = np.argsort(queries + random.random(len(items)))
        shuffled.append(_returns(queries, items[order])[0])
    mean, deviation = float(np.mean(shuffled)), float(np.std(shuffled, ddof=1))
    return OrderProfile(returns, same_order, mean, (returns - mean) / max(1.0, deviation))


def _some_queries(queries: Ints) -> npt.NDArray[np.bool_]:
    """Chooses the events of queries at even intervals, about `_MAX_EVENTS` of them."""
    every = -(-len(queries) // _MAX_EVENTS)
    number = np.cumsum(np.concatenate([[0], queries[1:] != queries[:-1]]))
    return number % every == 0


def _distinct(
    queries: Ints, items: Ints, times: Ints, random: np.random.Generator
) -> tuple[Ints, Ints]:
    """Returns each query's items in the order of their first event; repeats tell no order."""
    chance = random.random(len(items))
    order = np.lexsort((chance, times, items, queries))
    is_first = np.ones(len(items), bool)
    is_first[1:] = (np.diff(queries[order]) != 0) | (np.diff(items[order]) != 0)
    first = order[is_first]
    first = first[np.lexsort((chance[first], times[first], queries[first]))]
    return queries[first], items[first]


def _returns(queries: Ints, items: Ints) -> tuple[int, int]:
    """Counts neighbours that return in another query, and those of them in the same order."""
    first, second = items[:-1], items[1:]
    are_neighbours = queries[:-1] == queries[1:]
    first, second = first[are_neighbours], second[are_neighbours]
    pair = np.minimum(first, second) * (int(items.max(initial=0)) + 1) + np.maximum(first, second)
    order = np.argsort(pair, kind="stable")
    pair, ascends = pair[order], (first < second)[order]
    is_return = pair[1:] == pair[:-1]
    same = is_return & (ascends[1:] == ascends[:-1])
    return int(is_return.sum()), int(same.sum())
