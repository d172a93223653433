"""One query's sums are those of many queries, in any order of queries and from any thread."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from recsys.channels.sources import Sources
from recsys.fusion import one_query
from recsys.fusion.one_query import OneQuery, Said
from recsys.fusion.weights import Weights
from tests.support.fused.tiny_fusion import WEIGHTS, random_fused
from tests.support.indexes import bags

ITEMS = 83  # The lists do not end with a block.
FUSED = random_fused(ITEMS, of_each=7)
ALL_ITEMS = np.arange(ITEMS)
EVERY_WEIGHTS = (WEIGHTS, Weights(), Weights(channels={"transitions": 0.4, "content": 0.0}))


def queries():
    random = np.random.default_rng(3)
    history = [random.choice(ITEMS, length).tolist() for length in (0, 1, 3, 12, 40)]
    history[1] = [ITEMS - 1]
    return Sources(bags(history), bags(history[::-1]), bags([[4], [], [7], [], [82]]))


# With two places for all items, nearly every bound is too high.
@pytest.mark.parametrize("bits", [14, 1])
def test_sums_are_those_of_many_queries(bits, monkeypatch):
    monkeypatch.setattr(one_query, "_BITS", bits)
    monkeypatch.setattr(one_query, "_PLACES", 1 << bits)
    sources = queries()
    one = OneQuery(FUSED)
    for weights in EVERY_WEIGHTS:
        items, scores = FUSED.channels(sources, weights)

        def check(row, items=items, scores=scores, weights=weights):
            span = slice(items.offsets[row], items.offsets[row + 1])
            expected = np.zeros(ITEMS)
            expected[items.values[span]] = scores[span]
            said = one(sources.take(np.array([row])), weights, ALL_ITEMS)
            np.testing.assert_allclose(said.asked, expected, rtol=1e-6)
            said = one(sources.take(np.array([row])), weights, ALL_ITEMS[row:5])
            np.testing.assert_allclose(said.asked, expected[row:5], rtol=1e-6)
            for least in (-np.inf, 0.1, 0.3, 9.0):
                others = ALL_ITEMS[50:60]
                least_of_others = np.where(others < 55, -0.1, 0.2)
                found, high = said.above(least, others, least_of_others)
                np.testing.assert_allclose(high, expected[found], rtol=1e-6)
                assert (np.diff(found) > 0).all()
                is_high = (expected > 0) & (expected >= least)
                is_high[others] |= expected[others] >= least_of_others
                assert set(np.flatnonzero(is_high)) <= set(found)

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(check, [*range(5), *range(4, -1, -1)] * 2))


def test_few_items_are_summed_one_by_one():
    fused = random_fused(5000, of_each=40)
    history = bags([list(range(0, 5000, 100))])
    said = OneQuery(fused)(Sources(history, history, bags([[]])), WEIGHTS, ALL_ITEMS[:10])
    everything, scores = said.everything()
    named = everything[scores > 0]
    least = float(np.sort(scores)[-20])
    found, _ = said.above(least, ALL_ITEMS[:0], np.empty(0))
    assert len(named) > 1000
    assert len(found) < 60


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers_end_after_a_full_pass(score, monkeypatch):
    passes, entries = [], Said._entries

    def noted(said, is_wanted):
        passes.append(is_wanted)
        assert len(passes) <= 2
        return entries(said, is_wanted)

    monkeypatch.setattr(Said, "_entries", noted)
    known = FUSED.lists["co_occurrence"]
    lists = dataclasses.replace(known, scores=np.full_like(known.scores, score))
    broken = dataclasses.replace(FUSED, lists={**FUSED.lists, "co_occurrence": lists})
    sources = queries().take(np.array([2]))
    found = OneQuery(broken)(sources, WEIGHTS, ALL_ITEMS).asked
    passes.clear()
    others = WEIGHTS.model_copy(update={"channels": WEIGHTS.channels | {"co_occurrence": 0.0}})
    expected = OneQuery(FUSED)(sources, others, ALL_ITEMS).asked
    is_number = np.isfinite(found)
    assert is_number.any()
    np.testing.assert_allclose(found[is_number], expected[is_number])
