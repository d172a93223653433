"""Bins of items by their training events."""

import numpy as np

from recsys.evaluation.long_tail import frequency_bins
from recsys.evaluation.metrics import Ranks


def test_bins_hold_every_pair_and_every_place():
    frequency = np.array([0, 0, 1, 2, 3, 4, 7, 8])
    candidates = np.array([True, False, True, True, True, True, True, True])
    ranks = Ranks(
        query=np.array([0, 0, 1, 1]),
        item=np.array([0, 2, 4, 7]),
        rank=np.array([3, 60, 0, 49]),
        num_queries=2,
    )
    top = np.array([[7, 6, 5], [4, 0, -1]])
    found = frequency_bins(frequency, candidates, {"model": top}, {"model": ranks})
    assert [(b.low, b.high, b.items, b.pairs) for b in found] == [
        (0, 0, 1, 1),
        (1, 1, 1, 1),
        (2, 3, 2, 1),
        (4, 7, 2, 0),
        (8, 15, 1, 1),
    ]
    assert [b.recall["model"] for b in found] == [1.0, 0.0, 1.0, None, 1.0]
    assert [b.shown["model"] for b in found] == [0.2, 0.0, 0.2, 0.4, 0.2]


def test_a_log_without_events_has_one_bin():
    (only,) = frequency_bins(np.zeros(3, np.int64), np.ones(3, bool), {}, {})
    assert (only.low, only.high, only.items, only.recall) == (0, 0, 3, {})
