"""Ranks by one order of all items against rankings of each query."""

import numpy as np
import pytest
import torch

from recsys.evaluation.common_ranking import common_ranks
from recsys.evaluation.metrics import ranks_of
from recsys.evaluation.ranking import top_items
from tests.support.bags import jagged, random_bags

QUERIES, ITEMS = 40, 30


@pytest.mark.parametrize("depth", [3, 12, 50])
@pytest.mark.parametrize("kinds", [4, 1000])
def test_ranks_are_those_of_the_rankings_of_each_query(depth, kinds):
    """Tests scores with many ties, too, which the lower index wins."""
    random = np.random.default_rng(depth)
    scores = random.integers(0, kinds, ITEMS).astype(np.float32)
    is_candidate = random.random(ITEMS) < 0.8
    excluded = random_bags(random, QUERIES, ITEMS, 12)
    held_out = [
        np.setdiff1d(bag, other)
        for bag, other in zip(random_bags(random, QUERIES, ITEMS, 6), excluded, strict=True)
    ]
    excluded = [np.concatenate([bag, bag[:2]]) for bag in excluded]
    by_item = torch.from_numpy(scores)
    top = top_items(
        lambda rows: lambda start, stop: by_item[start:stop].expand(len(rows), -1),
        num_items=ITEMS,
        excluded=jagged(excluded),
        k=depth,
        is_candidate=is_candidate,
    )
    expected = ranks_of(jagged(held_out), top)
    found = common_ranks(scores, jagged(held_out), jagged(excluded), is_candidate, depth)
    assert found.rank.tolist() == expected.rank.tolist()
    assert found.query.tolist() == expected.query.tolist()
    assert found.item.tolist() == expected.item.tolist()
    assert found.num_queries == QUERIES
