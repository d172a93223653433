"""The fused score against a loop over items."""

import numpy as np
import pytest
import torch

from feature_store.core.columns import Jagged
from recsys.channels.neighbours import Neighbours
from recsys.channels.sources import Sources
from recsys.fusion.fused import ChannelInfo, Fused, FusionInfo, rarity
from recsys.fusion.scorer import fused_scorer
from recsys.fusion.weights import Weights
from tests.support.bags import jagged

ITEMS, DIM = 12, 4
HISTORY = jagged([[3, 1, 5], [], [7]])
KNOWN = jagged([[1, 3, 4, 5], [8], [7]])
OWN = jagged([[2], [4], []])
SOURCES = Sources(HISTORY, KNOWN, OWN)
WEIGHTS = Weights(
    model=0.5, channels={"near": 0.3, "own": 0.7}, rare={"near": 0.6}, trend=0.2, dial=0.4
)


def fused(reads: str = "history") -> Fused:
    random = np.random.default_rng(0)
    lists = {}
    for name in ("a", "b"):
        is_near = random.random((ITEMS, ITEMS)) < 0.4
        offsets = np.concatenate([[0], np.cumsum(is_near.sum(axis=1))])
        items = np.nonzero(is_near)[1].astype(np.int32)
        lists[name] = Neighbours(Jagged(items, offsets), random.random(len(items)).astype("f4"))
    channels = {
        "near": ChannelInfo(lists="a", reads=reads),
        "own": ChannelInfo(lists="b", reads="own"),
    }
    info = FusionInfo(weights=WEIGHTS, channels=channels, neighbours=5)
    dial, trend = random.normal(size=ITEMS).astype("f4"), random.random(ITEMS).astype("f4")
    return Fused(info, lists, rarity(np.arange(ITEMS)), dial, trend)


def matrix(neighbours: Neighbours) -> np.ndarray:
    dense = np.zeros((ITEMS, ITEMS))
    dense[neighbours.lists.row_of_value(), neighbours.lists.values] = neighbours.scores
    return dense


@pytest.mark.parametrize("reads", ["history", "known"])
def test_a_score_is_the_weighted_sum_of_its_parts(reads):
    ranking, random = fused(reads), np.random.default_rng(1)
    queries, items = (random.normal(size=(n, DIM)).astype("f4") for n in (3, ITEMS))
    near, own = (matrix(ranking.lists[name]) for name in ("a", "b"))
    expected = np.zeros((3, ITEMS))
    for query in range(3):
        read = HISTORY if reads == "history" else KNOWN
        history = read.take(np.array([query])).values
        later = np.arange(len(history))[::-1]
        weight = 0.5 ** (later / 3) if reads == "history" else np.ones(len(history))
        said = weight @ near[history] if len(history) else np.zeros(ITEMS)
        page = OWN.take(np.array([query])).values
        by_own = own[page].sum(axis=0)
        for item in range(ITEMS):
            near_weight = 0.3 + 0.6 / (1 + (item / 5) ** 2)
            channels = near_weight * said[item] / (said.max() or 1) + 0.7 * by_own[item] / (
                by_own.max() or 1
            )
            expected[query, item] = (
                0.5 * float(queries[query] @ items[item])
                + channels
                + 0.2 * ranking.trend[item]
                - 0.4 * ranking.dial[item]
            )
    score = fused_scorer(
        ranking, WEIGHTS, sources=SOURCES, query_vectors=queries, item_vectors=items
    )
    whole = score(np.arange(3))(0, ITEMS)
    np.testing.assert_allclose(whole.numpy(), expected, rtol=1e-5, atol=1e-6)
    parts = [score(np.arange(3))(start, start + 5) for start in range(0, ITEMS, 5)]
    assert torch.equal(torch.cat(parts, dim=1), whole)


def test_channels_without_weight_are_not_asked():
    items, scores = fused().channels(SOURCES, Weights())
    assert len(items) == 3
    assert not len(scores)


def test_what_is_saved_scores_the_same(tmp_path):
    ranking = fused()
    ranking.save(tmp_path)
    again = Fused.read(tmp_path)
    assert again.info == ranking.info
    for one, two in zip(
        ranking.channels(SOURCES, WEIGHTS), again.channels(SOURCES, WEIGHTS), strict=True
    ):
        np.testing.assert_array_equal(getattr(one, "values", one), getattr(two, "values", two))
    np.testing.assert_array_equal(again.of_items(WEIGHTS), ranking.of_items(WEIGHTS))
