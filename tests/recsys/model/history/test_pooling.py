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


def test_zeros_plus_the_default_are_the_default_to_the_last_bit():
    histories = Histories(torch.tensor([0, 1, 2]), torch.tensor([0, 2, 2, 3]))
    default = torch.randn(4, requires_grad=True)
    encoded = torch.randn(3, 4).masked_fill(torch.tensor([[False], [True], [False]]), 0.0)
    encoded.requires_grad_()
    found = []
    for choose in (histories.or_default, histories.plus_default):
        chosen = choose(encoded, default)
        gradients = torch.autograd.grad(chosen.square().sum(), (encoded, default))
        found.append((chosen, gradients[0][::2], gradients[1]))  # Nothing reads an empty bag's.
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
