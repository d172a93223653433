"""Metrics against arithmetic by hand and a naive loop; slices; intervals."""

import json
from math import log2

import numpy as np
import pytest
import torch
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_normalized_dcg,
    retrieval_recall,
    retrieval_reciprocal_rank,
)

from pipelines.statistics.slices import item_slices
from recsys.evaluation.metrics import (
    Ratios,
    bootstrap,
    item_ratios,
    measure,
    metric_names,
    overall_ratios,
    ranks_of,
)
from tests.support.bags import jagged, random_bags

DEPTH = 50


def rankings(*rows):
    """Pads lists of items to [rows, DEPTH]."""
    return np.array([[*row, *[-1] * (DEPTH - len(row))] for row in rows])


def naive_query(top, held_out):
    """Computes the metrics of one query by their definitions, in a plain loop."""
    hits = [item in held_out for item in top]
    count = len(held_out)
    found = {}
    for k in (10, 50):
        ideal = sum(1 / log2(place + 2) for place in range(min(k, count)))
        precisions = [sum(hits[: i + 1]) / (i + 1) for i in range(k) if hits[i]]
        found |= {
            f"recall@{k}": sum(hits[:k]) / count,
            f"hit_rate@{k}": float(any(hits[:k])),
            f"ndcg@{k}": sum(1 / log2(i + 2) for i in range(k) if hits[i]) / ideal,
            f"map@{k}": sum(precisions) / min(k, count),
            f"mrr@{k}": next((1 / (i + 1) for i in range(k) if hits[i]), 0.0),
        }
    return found


def random_case(seed, queries=60, items=130):
    rng = np.random.default_rng(seed)
    top = np.array([rng.permutation(items)[:DEPTH] for _ in range(queries)])
    held_out = [bag if len(bag) else [0] for bag in random_bags(rng, queries, items, 25)]
    return top, held_out, rng.integers(0, 12, items)


def test_metrics_by_hand():
    # Held out: 7, 8 and 9; ranked first, fourth, and not at all.
    found = overall_ratios(ranks_of(jagged([[7, 8, 9]]), rankings([7, 1, 2, 8])), (10,)).values()
    ideal = 1 + 1 / log2(3) + 1 / log2(4)
    assert found == pytest.approx(
        {
            "recall@10": 2 / 3,
            "hit_rate@10": 1.0,
            "ndcg@10": (1 + 1 / log2(5)) / ideal,
            "map@10": (1 + 2 / 4) / 3,
            "mrr@10": 1.0,
        }
    )


def test_the_tenth_place_counts_and_the_eleventh_does_not():
    top = rankings([*range(100, 109), 1, 2])
    found = overall_ratios(ranks_of(jagged([[1, 2]]), top)).values()
    assert found["recall@10"] == pytest.approx(0.5)
    assert found["recall@50"] == pytest.approx(1.0)
    assert found["map@10"] == pytest.approx((1 / 10) / 2)
    assert found["mrr@10"] == pytest.approx(1 / 10)


def test_more_held_out_items_than_places_can_still_be_perfect():
    found = overall_ratios(ranks_of(jagged([range(20)]), rankings(range(10)))).values()
    assert found["recall@10"] == pytest.approx(0.5)
    assert found["ndcg@10"] == found["map@10"] == found["mrr@10"] == pytest.approx(1.0)


def test_metrics_equal_a_naive_loop():
    top, held_out, _ = random_case(1)
    found = overall_ratios(ranks_of(jagged(held_out), top)).values()
    each = [naive_query(t.tolist(), set(map(int, h))) for t, h in zip(top, held_out, strict=True)]
    for name in metric_names():
        assert found[name] == pytest.approx(np.mean([query[name] for query in each]), rel=1e-12)


def test_a_slice_counts_only_its_own_items_in_the_ranking_of_all():
    top, held_out, frequency = random_case(2)
    ranks = ranks_of(jagged(held_out), top)
    for members in item_slices(frequency).values():
        within = [{int(i) for i in bag if members[i]} for bag in held_out]
        queries = [(t.tolist(), h) for t, h in zip(top, within, strict=True) if h]
        found = item_ratios(ranks, members).values()
        pairs = sum(len(h) for _, h in queries)
        for k in (10, 50):
            hits = sum(len(h & set(t[:k])) for t, h in queries)
            assert found[f"recall@{k}"] == pytest.approx(hits / pairs, rel=1e-12)
        for name in (name for name in metric_names() if not name.startswith("recall")):
            mean = np.mean([naive_query(t, h)[name] for t, h in queries])
            assert found[name] == pytest.approx(mean, rel=1e-12)


def test_a_slice_of_queries_is_measured_as_all_are():
    top, held_out, frequency = random_case(5)
    members = np.arange(len(top)) % 3 == 0
    found = measure(
        ranks_of(jagged(held_out), top),
        item_slices(frequency),
        bootstrap_samples=100,
        by_query={"third": {"yes": members, "no": ~members, "none": members & ~members}},
        by_item={"even": {"yes": np.arange(len(frequency)) % 2 == 0}},
    ).by
    kept = [bag for bag, is_in in zip(held_out, members, strict=True) if is_in]
    alone = measure(ranks_of(jagged(kept), top[members]), {}, bootstrap_samples=100)
    third = found["third"]
    assert {n: third["yes"][n] for n in metric_names()} == pytest.approx(
        {n: alone.overall[n] for n in metric_names()}
    )
    assert third["yes"]["count"] + third["no"]["count"] == sum(map(len, held_out))
    assert (third["none"]["count"], third["none"]["map@10"]) == (0, None)
    assert 0 < found["even"]["yes"]["count"] < sum(map(len, held_out))


def test_metrics_equal_those_of_torchmetrics():
    top, held_out, _ = random_case(6)
    found = overall_ratios(ranks_of(jagged(held_out), top), (5, 20, DEPTH))
    for row, bag in enumerate(held_out):
        is_wanted = np.isin(top[row], bag)
        # Held-out items that are not ranked come last, beyond every cutoff.
        wanted = torch.from_numpy(np.append(is_wanted, [True] * (len(bag) - is_wanted.sum())))
        scores = -torch.arange(len(wanted)).float()
        for k in (5, 20, DEPTH):
            expected = {
                "recall": retrieval_recall(scores, wanted, top_k=k),
                "hit_rate": retrieval_hit_rate(scores, wanted, top_k=k),
                "ndcg": retrieval_normalized_dcg(scores, wanted.long(), top_k=k),
                "mrr": retrieval_reciprocal_rank(scores[:k], wanted[:k]),
            }
            for name, value in expected.items():
                column = found.names.index(f"{name}@{k}")
                assert found.numerator[row, column] == pytest.approx(float(value), abs=1e-6)
            hits = np.flatnonzero(wanted[:k].numpy())
            if len(hits):
                # torchmetrics divides by the number of hits, we by the largest possible number.
                mean = retrieval_average_precision(scores[:k], wanted[:k])
                ours = found.numerator[row, found.names.index(f"map@{k}")]
                assert ours == pytest.approx(float(mean) * len(hits) / min(k, len(bag)), abs=1e-6)


def test_slices_divide_the_items_at_their_borders():
    # Above 0: 1, 5, 6, 6, 6, 6, 7, 7, 8, 30; the smallest that 8 of 10 do not exceed is 7.
    frequency = np.array([0, 1, 5, 6, 6, 6, 6, 7, 7, 8, 30, 0])
    slices = item_slices(frequency)
    members = {name: frequency[is_in].tolist() for name, is_in in slices.items()}
    assert members == {
        "head": [8, 30],
        "torso": [6, 6, 6, 6, 7, 7],
        "tail": [1, 5],
        "cold": [0, 0],
    }
    assert (np.sum(list(slices.values()), axis=0) == 1).all()


@pytest.mark.parametrize(
    ("frequency", "sizes"),
    [
        ([0, 0, 0], [0, 0, 0, 3]),
        ([1, 2, 3, 4, 5, 6], [2, 2, 2, 0]),  # The percentile lies in the tail: by share of events.
        ([1, 1, 9, 9], [0, 2, 2, 0]),  # Two frequencies have no better bounds.
        ([9, 9, 9], [0, 3, 0, 0]),  # No item is above the percentile.
    ],
)
def test_slices_of_odd_catalogues(frequency, sizes):
    slices = item_slices(np.array(frequency))
    assert [int(slices[name].sum()) for name in ("head", "torso", "tail", "cold")] == sizes


def test_an_empty_slice_has_no_metrics_and_json_has_no_nan():
    slices = item_slices(np.array([9, 9, 1, 0]))
    found = measure(ranks_of(jagged([[2]]), rankings([0])), slices, bootstrap_samples=100)
    assert found.slices["cold"]["count"] == 0
    assert found.slices["cold"]["recall@10"] is None
    assert found.slices["cold"]["recall@10_ci"] is None
    assert found.slices["tail"]["count"] == 1
    assert found.slices["tail"]["recall@10"] == 0.0
    json.dumps(found.model_dump(mode="json"), allow_nan=False)


def test_nothing_held_out_gives_no_metrics():
    nothing = ranks_of(jagged([]), rankings().reshape(0, DEPTH))
    found = measure(nothing, item_slices(np.array([1, 0])), bootstrap_samples=100)
    assert found.overall["recall@10"] is None
    assert found.slices["tail"] == {**found.overall, "count": 0}


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    rng = np.random.default_rng(3)
    values = (rng.random((4000, len(metric_names()))) < 0.3).astype(float)
    (bounds,) = bootstrap([Ratios(metric_names(), values, np.ones_like(values), 4000)], 2000)
    error = 1.96 * values.std(axis=0) / np.sqrt(4000)
    assert bounds[0] == pytest.approx(values.mean(axis=0) - error, abs=0.1 * error.max())
    assert bounds[1] == pytest.approx(values.mean(axis=0) + error, abs=0.1 * error.max())


def test_the_interval_of_a_ratio_resamples_queries_and_not_pairs():
    # One query has most of the pairs: whether a sample draws it decides most of the ratio.
    numerator = np.zeros((50, len(metric_names())))
    denominator = np.ones((50, len(metric_names())))
    numerator[0], denominator[0] = 100, 100
    (bounds,) = bootstrap([Ratios(metric_names(), numerator, denominator, 149)], 1000)
    assert bounds[0, 0] == 0.0  # A third of the samples miss that query.
    assert 0.8 < bounds[1, 0] < 0.95


def test_intervals_are_the_same_every_time_and_hold_the_value():
    top, held_out, frequency = random_case(4)
    ranks, slices = ranks_of(jagged(held_out), top), item_slices(frequency)
    first = measure(ranks, slices, bootstrap_samples=300)
    assert first == measure(ranks, slices, bootstrap_samples=300)
    for figures in (first.overall, *first.slices.values()):
        for name in metric_names():
            low, high = figures[f"{name}_ci"]
            assert low <= figures[name] <= high
