"""Ranking metrics of queries and of slices of items, with bootstrap intervals over queries.

A pair is a query and one of its held-out items. Overall, each query counts the same:

    recall@K      pairs ranked in the first K, over the query's pairs
    hit_rate@K    whether any pair is
    ndcg@K        sum of 1 / log2(rank + 1), over that of the best possible order
    map@K         sum over hits of the precision at their rank, over min(pairs, K)
    mrr@K         1 / rank of the first hit

In a slice, only its pairs count as relevant; the ranking stays that of the whole corpus. Its
recall@K is micro: the share of its pairs that are found. The other metrics are means over the
queries that have a pair in it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from feature_store.columns import Bools, Ints, Jagged

METRICS = ("recall@10", "recall@50", "hit_rate@10", "ndcg@10", "map@10", "mrr@10")
RANKED = 50  # Items of a ranking that any metric reads.
_AT = 10

SLICES = ("head", "torso", "tail", "cold")

_CONFIDENCE = 0.95
_BOOTSTRAP_SEED = 0
# Resampled queries at a time.
_DRAWS_AT_ONCE = 8_000_000

Doubles = npt.NDArray[np.float64]
# `recall@10` is a number, `recall@10_ci` its interval, and a slice's `count` its pairs.
Value = int | float | tuple[float, float] | None
Figures = dict[str, Value]


class Measured(BaseModel):
    """What a method reaches: metrics by name, each with its 95 % interval, null where empty."""

    model_config = ConfigDict(frozen=True)

    overall: Figures
    slices: dict[str, Figures]


@dataclass(frozen=True)
class Ranks:
    """Where held-out items were ranked; pairs are in the order of their queries.

    Attributes:
        query: [pairs] position of the pair's query.
        item: [pairs].
        rank: [pairs] from 0; RANKED for those that were ranked lower.
        num_queries: Each has at least one pair.
    """

    query: Ints
    item: Ints
    rank: Ints
    num_queries: int


@dataclass(frozen=True)
class Ratios:
    """Metrics as ratios of sums over queries, in the order of METRICS.

    Attributes:
        numerator: [queries, metrics].
        denominator: [queries, metrics].
        pairs: How many pairs they are of.
    """

    numerator: Doubles
    denominator: Doubles
    pairs: int

    def values(self) -> dict[str, float | None]:
        """By name; None where there is nothing to find."""
        found = _ratio(self.numerator.sum(axis=0), self.denominator.sum(axis=0))
        return {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(METRICS, found, strict=True)
        }


def ranks_of(held_out: Jagged, top: Ints) -> Ranks:
    """Looks held-out items up in rankings.

    Args:
        held_out: [queries] distinct items to be found.
        top: [queries, RANKED] items, best first.
    """
    query, item = held_out.row_of_value(), held_out.values
    rank = np.full(len(item), RANKED, np.int64)
    for place in range(top.shape[1]):
        rank[top[query, place] == item] = place
    return Ranks(query, item, rank, len(held_out))


def overall_ratios(ranks: Ranks) -> Ratios:
    """Of all pairs; recall is the mean of the queries' recalls."""
    numerator, pairs = _sums(ranks)
    numerator[:, :2] /= np.maximum(pairs, 1)[:, None]
    has_pairs = np.broadcast_to((pairs > 0)[:, None], numerator.shape).astype(np.float64)
    return Ratios(numerator, has_pairs, len(ranks.item))


def slice_ratios(ranks: Ranks, members: Bools) -> Ratios:
    """Of the pairs whose item is in a slice; recall is that of its pairs.

    Args:
        ranks: Of all pairs.
        members: [items] whether an item is in the slice.
    """
    kept = members[ranks.item]
    within = Ranks(ranks.query[kept], ranks.item[kept], ranks.rank[kept], ranks.num_queries)
    numerator, pairs = _sums(within)
    denominator = np.repeat((pairs > 0).astype(np.float64)[:, None], len(METRICS), axis=1)
    denominator[:, :2] = pairs[:, None]
    return Ratios(numerator, denominator, len(within.item))


def measure(ranks: Ranks, slices: dict[str, Bools], *, bootstrap_samples: int) -> Measured:
    """All metrics, overall and by slice, with bootstrap intervals.

    Args:
        ranks: Of every held-out item.
        slices: As from `pipelines.popularity.item_slices`.
        bootstrap_samples: How often the queries are resampled.
    """
    overall = overall_ratios(ranks)
    by_slice = {name: slice_ratios(ranks, members) for name, members in slices.items()}
    bounds = bootstrap([overall, *by_slice.values()], bootstrap_samples)
    return Measured(
        overall=_figures(overall, bounds[0]),
        slices={
            name: {**_figures(ratios, bound), "count": ratios.pairs}
            for (name, ratios), bound in zip(by_slice.items(), bounds[1:], strict=True)
        },
    )


def bootstrap(ratios: list[Ratios], samples: int) -> list[Doubles]:
    """Percentile intervals: queries are drawn with replacement, and the ratios taken anew.

    All ratios are of the same queries, and see the same draws, in every call.

    Args:
        ratios: Of the same queries.
        samples: How often.

    Returns:
        For each of `ratios` [2, metrics]: the ends of the 95 % interval, NaN where there is none.
    """
    numerator = np.concatenate([each.numerator for each in ratios], axis=1)
    denominator = np.concatenate([each.denominator for each in ratios], axis=1)
    queries, columns = numerator.shape
    drawn = np.full((samples, columns), np.nan)
    random = np.random.default_rng(_BOOTSTRAP_SEED)
    step = max(1, _DRAWS_AT_ONCE // max(1, queries))
    for start in range(0, samples if queries else 0, step):
        size = min(step, samples - start)
        draws = random.integers(queries, size=(size, queries))
        cells = draws + queries * np.arange(size)[:, None]
        times = np.bincount(cells.reshape(-1), minlength=size * queries).reshape(size, queries)
        times = times.astype(np.float64)
        drawn[start : start + size] = _ratio(times @ numerator, times @ denominator)
    ends = (1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2
    bounds = np.full((2, columns), np.nan)
    # A small slice can be missing from a sample.
    known = ~np.isnan(drawn).all(axis=0)
    bounds[:, known] = np.nanquantile(drawn[:, known], ends, axis=0)
    return np.split(bounds, len(ratios), axis=1)


def _figures(ratios: Ratios, bounds: Doubles) -> Figures:
    figures: Figures = {}
    for (name, value), (low, high) in zip(ratios.values().items(), bounds.T, strict=True):
        figures[name] = value
        figures[f"{name}_ci"] = None if value is None else (float(low), float(high))
    return figures


def _sums(ranks: Ranks) -> tuple[Doubles, Doubles]:
    """Of each query: hits and other metrics, [queries, metrics], and the number of pairs."""

    def by_query(query: Ints, weights: Doubles | Bools) -> Doubles:
        return np.bincount(query, weights, ranks.num_queries).astype(np.float64)

    pairs = by_query(ranks.query, np.ones(len(ranks.query), bool))
    order = np.lexsort((ranks.rank, ranks.query))
    order = order[ranks.rank[order] < _AT]
    query, rank = ranks.query[order], ranks.rank[order]
    # How many of the query's hits are ranked at least as high.
    hits = np.arange(1, len(query) + 1) - np.searchsorted(query, query, side="left")
    most = np.minimum(pairs, _AT)
    ideal = np.concatenate([[1.0], np.cumsum(1 / np.log2(np.arange(2, _AT + 2)))])
    columns = [
        by_query(ranks.query, ranks.rank < 10),
        by_query(ranks.query, ranks.rank < 50),
        by_query(query, hits == 1),
        by_query(query, 1 / np.log2(rank + 2)) / ideal[most.astype(np.int64)],
        by_query(query, hits / (rank + 1)) / np.maximum(most, 1),
        by_query(query, (hits == 1) / (rank + 1)),
    ]
    return np.stack(columns, axis=1), pairs


def _ratio(numerator: Doubles, denominator: Doubles) -> Doubles:
    """NaN where there is nothing to divide by."""
    found = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=found, where=denominator > 0)
