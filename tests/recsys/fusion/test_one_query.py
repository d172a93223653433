"""One query's sums are those of many queries, in any order of queries and from any thread."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from recsys.channels.sources import Sources
from recsys.fusion.one_query import OneQuery
from recsys.fusion.weights import Weights
from tests.support.fused.tiny_fusion import WEIGHTS, random_fused
from tests.support.indexes import bags

ITEMS = 80
FUSED = random_fused(ITEMS)


def queries():
    random = np.random.default_rng(3)
    history = [random.choice(ITEMS, length).tolist() for length in (0, 1, 3, 12, 40)]
    return Sources(bags(history), bags(history[::-1]), bags([[4], [], [7], [], [79]]))


def test_sums_are_those_of_many_queries():
    sources = queries()
    one = OneQuery(FUSED)
    for weights in (WEIGHTS, Weights(), Weights(channels={"transitions": 0.4, "content": 0.0})):
        items, scores = FUSED.channels(sources, weights)

        def check(row, items=items, scores=scores, weights=weights):
            span = slice(items.offsets[row], items.offsets[row + 1])
            with one(sources.take(np.array([row])), weights) as said:
                everything = said.at(np.arange(ITEMS))
                np.testing.assert_array_equal(said.named(), items.values[span])
                for least in (0.1, 0.3):
                    high = np.flatnonzero(everything >= least)
                    assert set(high.tolist()) <= set(said.named(least / said.most).tolist())
            np.testing.assert_allclose(everything[items.values[span]], scores[span], rtol=1e-6)
            everything[items.values[span]] = 0
            assert not everything.any()

        with ThreadPoolExecutor(3) as pool:
            list(pool.map(check, [*range(5), *range(4, -1, -1)] * 5))
