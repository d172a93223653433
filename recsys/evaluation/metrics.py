"""Ranking metrics of queries and of slices, with bootstrap intervals over queries.

A pair is a query and one of its held-out items. Overall, each query counts the same:

    recall@K      pairs ranked in the first K, over the query's pairs
    hit_rate@K    whether any pair is
    ndcg@K        sum of 1 / log2(rank + 1), over that of the best possible order
    map@K         sum over hits of the precision at their rank, over min(pairs, K)
    mrr@K         1 / rank of the first hit

In a slice of items, only its pairs count as relevant; the ranking stays that of the whole corpus.
Its recall@K is micro: the share of its pairs that are found. The other metrics are means over the
queries that have a pair in it. A slice of queries is measured as all queries are.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from feature_store.core.columns import Bools, Ints, Jagged
from feature_store.core.settings import Frozen
from pipelines.reports.format import Figures
from recsys.config.evaluation import CUTOFFS

SLICES = ("head", "torso", "tail", "cold")

_CONFIDENCE = 0.95
_BOOTSTRAP_SEED = 0
# Resampled queries at a time.
_DRAWS_AT_ONCE = 8_000_000

Doubles = npt.NDArray[np.float64]


class Measured(Frozen):
    """Metrics of a method by name, each with its 95 % interval; null where nothing is held out.

    Attributes:
        overall: Metrics over all queries.
        slices: Metrics by the items' training frequency: head, torso, tail and cold.
        by: Metrics of further slices, by the dividing attribute and then by its values.
        lists: Metrics of the lists; see `recsys.evaluation.list_metrics`.
    """

    overall: Figures
    slices: dict[str, Figures]
    by: dict[str, dict[str, Figures]] = Field(default_factory=dict)
    lists: dict[str, float | None] = Field(default_factory=dict)


@dataclass(frozen=True)
class Ranks:
    """Ranks of held-out items; pairs are in the order of their queries.

    Attributes:
        query: Position of the pair's query, [pairs].
        item: Index of the pair's item, [pairs].
        rank: Rank from 0, [pairs]; the length of the rankings for items below their end.
        num_queries: Number of queries, each with at least one pair.
    """

    query: Ints
    item: Ints
    rank: Ints
    num_queries: int


@dataclass(frozen=True)
class Ratios:
    """Metrics as ratios of sums over queries.

    Attributes:
        names: Names of the metrics.
        numerator: Numerators, [queries, metrics].
        denominator: Denominators, [queries, metrics].
        pairs: Number of held-out pairs.
    """

    names: tuple[str, ...]
    numerator: Doubles
    denominator: Doubles
    pairs: int

    def values(self) -> dict[str, float | None]:
        """Returns the metrics by name; None where nothing is held out."""
        ratios = _ratio(self.numerator.sum(axis=0), self.denominator.sum(axis=0))
        return {
            name: None if np.isnan(value) else float(value)
            for name, value in zip(self.names, ratios, strict=True)
        }


@dataclass(frozen=True)
class RankedPairs:
    """Held-out pairs, those of a query together and best ranked first.

    Attributes:
        query: Position of the pair's query, [pairs].
        rank: Rank of the pair's item from 0, [pairs].
        hits: Number of the query's pairs that are ranked at least as high, [pairs].
        counts: Number of pairs of each query, [queries].
    """

    query: Ints
    rank: Ints
    hits: Ints
    counts: Ints

    @classmethod
    def of(cls, ranks: Ranks) -> "RankedPairs":
        """Sorts the pairs of all queries."""
        order = np.lexsort((ranks.rank, ranks.query))
        query, rank = ranks.query[order], ranks.rank[order]
        hits = np.arange(1, len(query) + 1) - np.searchsorted(query, query, side="left")
        return cls(query, rank, hits, np.bincount(query, minlength=ranks.num_queries))

    def sums(self, values: npt.NDArray[Any], cutoff: int) -> Doubles:
        """Sums the values, [pairs], of a query's pairs within the cutoff, [queries]."""
        sums = np.bincount(self.query, values * (self.rank < cutoff), len(self.counts))
        return np.asarray(sums, np.float64)


@dataclass(frozen=True)
class Metric:
    """A ranking metric.

    Attributes:
        name: Name in files, without the cutoff.
        title: Name in tables, without the cutoff.
        of_query: Value of each query at a cutoff, [queries]; 0 for one without pairs.
        is_per_pair: Whether values are sums over pairs, to be divided by their number: a query's
            own overall, and in a slice of items the number of all its pairs.
    """

    name: str
    title: str
    of_query: Callable[[RankedPairs, int], Doubles]
    is_per_pair: bool = False


def _recall(pairs: RankedPairs, cutoff: int) -> Doubles:
    return pairs.sums(np.ones(len(pairs.rank)), cutoff)


def _hit_rate(pairs: RankedPairs, cutoff: int) -> Doubles:
    return pairs.sums(pairs.hits == 1, cutoff)


def _ndcg(pairs: RankedPairs, cutoff: int) -> Doubles:
    discounts = np.cumsum(1 / np.log2(np.arange(2, cutoff + 2)))
    ideal = np.concatenate([[1.0], discounts])[np.minimum(pairs.counts, cutoff)]
    return pairs.sums(1 / np.log2(pairs.rank + 2), cutoff) / ideal


def _average_precision(pairs: RankedPairs, cutoff: int) -> Doubles:
    most = np.maximum(np.minimum(pairs.counts, cutoff), 1)
    return pairs.sums(pairs.hits / (pairs.rank + 1), cutoff) / most


def _reciprocal_rank(pairs: RankedPairs, cutoff: int) -> Doubles:
    return pairs.sums((pairs.hits == 1) / (pairs.rank + 1), cutoff)


METRICS = (
    Metric("recall", "Recall", _recall, is_per_pair=True),
    Metric("hit_rate", "Hit rate", _hit_rate),
    Metric("ndcg", "NDCG", _ndcg),
    Metric("map", "MAP", _average_precision),
    Metric("mrr", "MRR", _reciprocal_rank),
)


def metric_names(cutoffs: tuple[int, ...] = CUTOFFS) -> tuple[str, ...]:
    """Returns names such as `recall@10`, by cutoff and then in the order of `METRICS`."""
    return tuple(f"{metric.name}@{k}" for k in cutoffs for metric in METRICS)


def metric_title(name: str) -> str:
    """Returns the title of a name such as `recall@10`: Recall@10."""
    metric, _, cutoff = name.partition("@")
    return next(f"{each.title}@{cutoff}" for each in METRICS if each.name == metric)


def ranks_of(held_out: Jagged, top: Ints) -> Ranks:
    """Looks held-out items up in rankings.

    Args:
        held_out: Distinct held-out items, [queries].
        top: Ranked items, best first, [queries, depth].
    """
    query, item = held_out.row_of_value(), held_out.values
    rank = np.full(len(item), top.shape[1], np.int64)
    for position in range(top.shape[1]):
        rank[top[query, position] == item] = position
    return Ranks(query, item, rank, len(held_out))


def overall_ratios(ranks: Ranks, cutoffs: tuple[int, ...] = CUTOFFS) -> Ratios:
    """Returns the metrics over all pairs; recall is the mean of the queries' recalls."""
    numerator, pairs = _sums(ranks, cutoffs)
    numerator[:, _is_per_pair(cutoffs)] /= np.maximum(pairs, 1)[:, None]
    has_pairs = np.broadcast_to((pairs > 0)[:, None], numerator.shape).astype(np.float64)
    return Ratios(metric_names(cutoffs), numerator, has_pairs, len(ranks.item))


def item_ratios(ranks: Ranks, members: Bools, cutoffs: tuple[int, ...] = CUTOFFS) -> Ratios:
    """Returns the metrics over the pairs whose item is in a slice; recall is that of its pairs.

    Args:
        ranks: Ranks of all pairs.
        members: Whether an item is in the slice, [items].
        cutoffs: Numbers of first ranks that count.
    """
    kept = members[ranks.item]
    within = Ranks(ranks.query[kept], ranks.item[kept], ranks.rank[kept], ranks.num_queries)
    numerator, pairs = _sums(within, cutoffs)
    names = metric_names(cutoffs)
    denominator = np.repeat((pairs > 0).astype(np.float64)[:, None], len(names), axis=1)
    denominator[:, _is_per_pair(cutoffs)] = pairs[:, None]
    return Ratios(names, numerator, denominator, len(within.item))


def query_ratios(overall: Ratios, members: Bools, pairs: Ints) -> Ratios:
    """Returns the metrics over the queries in a slice.

    Args:
        overall: Metrics over all queries.
        members: Whether a query is in the slice, [queries].
        pairs: Number of pairs of each query, [queries].
    """
    kept = members[:, None].astype(np.float64)
    numerator, denominator = overall.numerator * kept, overall.denominator * kept
    return Ratios(overall.names, numerator, denominator, int(pairs[members].sum()))


def measure(
    ranks: Ranks,
    slices: Mapping[str, Bools],
    *,
    bootstrap_samples: int,
    cutoffs: tuple[int, ...] = CUTOFFS,
    by_item: Mapping[str, Mapping[str, Bools]] | None = None,
    by_query: Mapping[str, Mapping[str, Bools]] | None = None,
) -> Measured:
    """Computes all metrics, overall and by slice, with bootstrap intervals.

    Args:
        ranks: Ranks of all held-out items.
        slices: Members of each slice, as `pipelines.statistics.popularity.item_slices` returns.
        bootstrap_samples: Number of resamples of the queries.
        cutoffs: Numbers of first ranks that count.
        by_item: Members of further slices of items, by the dividing attribute.
        by_query: Members of slices of queries, by the dividing attribute.
    """
    overall = overall_ratios(ranks, cutoffs)
    pairs = np.bincount(ranks.query, minlength=ranks.num_queries)
    groups = {("overall", ""): overall}
    groups |= {
        ("slices", name): item_ratios(ranks, members, cutoffs) for name, members in slices.items()
    }
    for kind, parts in (by_item or {}).items():
        groups |= {(kind, name): item_ratios(ranks, m, cutoffs) for name, m in parts.items()}
    for kind, parts in (by_query or {}).items():
        groups |= {(kind, name): query_ratios(overall, m, pairs) for name, m in parts.items()}
    bounds = bootstrap(list(groups.values()), bootstrap_samples)
    measured: dict[str, dict[str, Figures]] = {}
    for ((kind, name), ratios), bound in zip(groups.items(), bounds, strict=True):
        measured.setdefault(kind, {})[name] = {**_figures(ratios, bound), "count": ratios.pairs}
    whole = measured.pop("overall")[""]
    del whole["count"]
    return Measured(overall=whole, slices=measured.pop("slices", {}), by=measured)


def bootstrap(ratios: list[Ratios], samples: int) -> list[Doubles]:
    """Returns percentile intervals: queries are drawn with replacement, and ratios taken anew.

    All ratios are of the same queries, and see the same draws, in every call.

    Args:
        ratios: Ratios over the same queries.
        samples: Number of resamples.

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


def _sums(ranks: Ranks, cutoffs: tuple[int, ...]) -> tuple[Doubles, Ints]:
    """Returns the metrics of each query, [queries, metrics], and its number of pairs, [queries]."""
    pairs = RankedPairs.of(ranks)
    columns = [metric.of_query(pairs, k) for k in cutoffs for metric in METRICS]
    return np.stack(columns, axis=1), pairs.counts


def _is_per_pair(cutoffs: tuple[int, ...]) -> Bools:
    """Tells for each column of `_sums` whether it is divided by pairs, [metrics]."""
    return np.array([metric.is_per_pair for metric in METRICS] * len(cutoffs))


def _ratio(numerator: Doubles, denominator: Doubles) -> Doubles:
    """Divides, with NaN where the denominator is 0."""
    ratio = np.full(numerator.shape, np.nan)
    return np.divide(numerator, denominator, out=ratio, where=denominator > 0)
