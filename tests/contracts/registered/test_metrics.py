"""Properties of every registered metric: a new one is tested by being listed."""

import numpy as np
import pytest

from recsys.evaluation.metrics import (
    METRICS,
    Metric,
    RankedPairs,
    Ranks,
    metric_names,
    metric_title,
)

QUERIES, ITEMS, DEPTH, CUTOFF = 40, 60, 50, 10


def random_ranks(seed: int) -> Ranks:
    """Draws one to five held-out items per query at distinct ranks, some beyond the list."""
    random = np.random.default_rng(seed)
    counts = random.integers(1, 6, QUERIES)
    rank = np.concatenate([random.choice(DEPTH + 10, n, replace=False) for n in counts])
    query = np.repeat(np.arange(QUERIES), counts)
    return Ranks(query, random.integers(0, ITEMS, len(query)), np.minimum(rank, DEPTH), QUERIES)


def values(metric: Metric, ranks: Ranks, cutoff: int = CUTOFF) -> np.ndarray:
    pairs = RankedPairs.of(ranks)
    found = metric.of_query(pairs, cutoff)
    return found / np.maximum(pairs.counts, 1) if metric.is_per_pair else found


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
class TestEveryMetric:
    def test_is_between_none_and_all(self, metric: Metric) -> None:
        found = values(metric, random_ranks(0))
        assert found.shape == (QUERIES,)
        assert found.dtype == np.float64
        assert (found >= 0).all()
        assert (found <= 1).all()

    def test_is_one_where_the_list_is_perfect(self, metric: Metric) -> None:
        counts = np.arange(1, 6)
        query = np.repeat(np.arange(5), counts)
        rank = np.concatenate([np.arange(n) for n in counts])
        found = values(metric, Ranks(query, rank, rank, 5))
        assert found == pytest.approx(np.ones(5))

    def test_is_zero_where_nothing_is_found(self, metric: Metric) -> None:
        none = Ranks(np.arange(3), np.zeros(3, int), np.full(3, DEPTH), 3)
        assert (values(metric, none) == 0).all()

    def test_a_query_without_pairs_has_zero(self, metric: Metric) -> None:
        ranks = random_ranks(1)
        more = Ranks(ranks.query, ranks.item, ranks.rank, QUERIES + 1)
        assert values(metric, more)[-1] == 0

    def test_depends_on_no_order_of_pairs(self, metric: Metric) -> None:
        ranks = random_ranks(2)
        order = np.random.default_rng(3).permutation(len(ranks.query))
        mixed = Ranks(ranks.query[order], ranks.item[order], ranks.rank[order], QUERIES)
        assert (values(metric, mixed) == values(metric, ranks)).all()

    def test_a_higher_rank_is_never_worse(self, metric: Metric) -> None:
        ranks = random_ranks(4)
        first = np.searchsorted(ranks.query, np.arange(QUERIES))
        best = np.minimum.reduceat(ranks.rank, first)
        raised = ranks.rank.copy()
        is_best = ranks.rank == best[ranks.query]
        raised[is_best & (ranks.rank < DEPTH)] = 0
        higher = Ranks(ranks.query, ranks.item, raised, QUERIES)
        assert (values(metric, higher) >= values(metric, ranks)).all()

    def test_has_a_name_and_a_title(self, metric: Metric) -> None:
        assert f"{metric.name}@10" in metric_names()
        assert metric_title(f"{metric.name}@10") == f"{metric.title}@10"
