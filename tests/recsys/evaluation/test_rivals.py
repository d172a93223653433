"""A method that finds significantly more is named, one that differs by chance is not."""

import numpy as np
import pytest

from feature_store.core.columns import Jagged
from recsys.evaluation.metrics import ranks_of
from recsys.evaluation.rivals import judged_cutoff, rivals_of, standings_of

QUERIES, ITEMS, DEPTH = 300, 1000, 50
RANDOM = np.random.default_rng(0)
HELD_OUT = Jagged.from_lengths(np.arange(2 * QUERIES), np.full(QUERIES, 2))
IS_ODD = np.arange(ITEMS) % 2 == 1
SLICES = {"head": ~IS_ODD, "tail": IS_ODD, "cold": np.arange(ITEMS) < 20}


def ranks(of_even: float, of_odd: float, seed: int):
    """Returns ranks of a method that finds even and odd items with these probabilities."""
    random = np.random.default_rng(seed)
    found = random.random(2 * QUERIES) < np.where(IS_ODD[: 2 * QUERIES], of_odd, of_even)
    top = np.full((QUERIES, DEPTH), -1)
    top[:, :2] = np.where(found, HELD_OUT.values, -1).reshape(QUERIES, 2)
    return ranks_of(HELD_OUT, top)


def named(methods, slices):
    return rivals_of(standings_of("model", methods, slices, 50))


def test_a_method_that_finds_more_is_named_with_its_group():
    methods = {"model": ranks(0.7, 0.3, 1), "tail finder": ranks(0.2, 0.6, 2)}
    (rival,) = named(methods, SLICES)
    assert (rival.method, rival.group, rival.metric) == ("tail finder", "tail", "recall@50")
    assert rival.pairs == QUERIES
    hits = methods["tail finder"].rank[IS_ODD[methods["tail finder"].item]] < DEPTH
    assert rival.value == pytest.approx(hits.mean())
    assert rival.value > rival.model
    assert rival.adjusted_p < 0.05


def test_a_method_that_is_better_in_all_is_named_overall():
    methods = {"model": ranks(0.3, 0.3, 1), "better": ranks(0.6, 0.6, 2)}
    found = {(each.group, each.metric) for each in named(methods, SLICES)}
    assert found >= {("overall", "recall@10"), ("overall", "recall@50"), ("tail", "recall@50")}


def test_chance_and_few_pairs_name_nobody():
    methods = {"model": ranks(0.5, 0.5, 1)}
    methods |= {f"like it {seed}": ranks(0.5, 0.5, seed) for seed in range(2, 8)}
    assert named(methods, SLICES) == []
    perfect_for_few = {"model": ranks(0.0, 0.0, 1), "other": ranks(0.0, 0.0, 1)}
    perfect_for_few["other"].rank[:20] = 0
    groups = {each.group for each in named(perfect_for_few, SLICES)}
    assert "cold" not in groups


def test_every_method_has_its_place_in_every_group():
    methods = {"model": ranks(0.7, 0.3, 1), "tail finder": ranks(0.2, 0.6, 2)}
    methods["same"] = methods["model"]
    found = {(e.method, e.group, e.metric): e for e in standings_of("model", methods, SLICES, 50)}
    assert len(found) == 2 * (2 + len(SLICES))
    tail, head = (found["tail finder", group, "recall@50"] for group in ("tail", "head"))
    assert tail.value > tail.model
    assert head.value < head.model
    assert tail.is_significant
    assert head.is_significant
    cold = found["tail finder", "cold", "recall@50"]
    assert (cold.pairs, cold.p, cold.is_significant) == (20, None, False)
    for (method, group, _), each in found.items():
        if method == "same" and group != "cold":
            assert (each.p, each.is_significant) == (1.0, False)


def test_without_queries_there_is_nobody():
    empty = Jagged.from_lengths(np.empty(0, np.int64), np.empty(0, np.int64))
    none = ranks_of(empty, np.empty((0, DEPTH), np.int64))
    assert named({"model": none, "other": none}, SLICES) == []


def test_few_items_are_judged_by_their_first_ten():
    assert [judged_cutoff(items) for items in (40, 99, 100, 100_000)] == [10, 10, 50, 50]
    methods = {"model": ranks(0.7, 0.3, 1), "tail finder": ranks(0.2, 0.6, 2)}
    found = standings_of("model", methods, SLICES, judged_cutoff(40))
    assert {each.metric for each in found} == {"recall@10"}
    assert {each.group for each in found} == {"overall", *SLICES}
