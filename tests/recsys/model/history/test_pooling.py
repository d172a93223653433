"""Poolings of a history: recency weights by hand, in numpy and in torch, and learned."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from feature_store.core.columns import Jagged
from feature_store.encoding.pooling import bag_weights, decay_rate
from recsys.model.history.histories import Histories
from recsys.model.history.pooling import recency_weights_of
from tests.support.histories import inputs, jagged, joined


def test_recency_halves_with_the_half_life():
    model = joined("recent", recent={"half_life": 2.0})
    table, default = inputs()
    items, offsets = jagged([5])
    found = model(table, Histories(items, offsets), default)
    weights = 0.5 ** (torch.arange(4, -1, -1) / 2)
    torch.testing.assert_close(found[0], weights @ table[items] / weights.sum())


@pytest.mark.parametrize("half_life", [0.02, 1.0, 7.5, 10_000.0])
def test_recency_weights_are_the_same_in_numpy_and_in_torch(half_life):
    """Compares batches, weighted by numpy, with exported towers and histories, by torch."""
    lengths = np.array([0, 1, 2, 0, 5, 300, 10_000])
    bags = Jagged.from_lengths(np.zeros(lengths.sum()), lengths)
    offsets, total = torch.from_numpy(bags.offsets), len(bags.values)
    expected = torch.from_numpy(bag_weights(bags, half_life))
    rate = torch.tensor(decay_rate(half_life), dtype=torch.float64)
    found = recency_weights_of(offsets, total, rate)
    torch.testing.assert_close(found.float(), expected, rtol=1e-7, atol=0)
    found = recency_weights_of(offsets, total, rate.float())
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-30)


def test_the_learned_half_life_learns():
    model = joined("recent")
    table, default = inputs()
    items, offsets = jagged([12] * 8)
    target = table[items[offsets[1:] - 1]]  # The last item alone: the half-life should shrink.
    optimizer = torch.optim.Adam(model.parameters(), 0.1)
    before = model["recent"].log_rate.item()
    for _ in range(50):
        optimizer.zero_grad()
        F.mse_loss(model(table, Histories(items, offsets), default), target).backward()
        optimizer.step()
    assert model["recent"].log_rate.item() > before + 1
