"""Noise by hand: its length and direction, and that it is of step, view and position alone."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from feature_store.core.hashing import hash64
from recsys.config.ssl.noise import Noise
from recsys.ssl.methods.contrastive import contrastive_loss
from recsys.ssl.methods.noise import noised
from tests.recsys.losses.test_losses import unit_rows
from tests.support.ssl_batches import method_of, random_batch

KEY = torch.tensor([7])


def test_noise_equals_a_naive_loop():
    vectors = unit_rows(4, 3, 0)
    copies = noised(vectors, key=KEY, view=1, epsilon=0.3)
    for row, vector in enumerate(vectors.numpy()):
        bits = hash64(7, 1, row, np.arange(3))
        uniform = (bits >> np.uint64(40)) / 2**24
        expected = vector + 0.3 * np.sign(vector) * uniform / np.linalg.norm(uniform)
        assert copies[row].numpy() == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)


def test_noise_stays_in_the_orthant_and_is_small():
    vectors = unit_rows(200, 16, 1).float()
    copies = noised(vectors, key=KEY, view=0, epsilon=0.1)
    assert torch.equal(copies.sign(), vectors.sign())
    torch.testing.assert_close(copies.norm(dim=1), torch.ones(200))
    distances = (copies - vectors).norm(dim=1)
    assert distances.min() > 0.02
    assert distances.max() < 0.1


def test_noise_differs_between_views_steps_and_positions():
    vectors = F.normalize(torch.ones(3, 8), dim=1)
    copies = noised(vectors, key=KEY, view=0, epsilon=0.1)
    assert len(torch.unique(copies, dim=0)) == 3
    assert not torch.isclose(copies, noised(vectors, key=KEY, view=1, epsilon=0.1)).all(dim=1).any()
    assert not torch.isclose(copies, noised(vectors, key=KEY + 1, view=0, epsilon=0.1)).all()
    assert torch.equal(copies, noised(vectors, key=KEY, view=0, epsilon=0.1))


def test_the_loss_is_the_softmax_of_two_noised_copies():
    settings, items = Noise(epsilon=0.2, temperature=0.5), torch.tensor([3, 1, 3, 8])
    batch = random_batch(settings, items)
    copies = [noised(batch.vectors[0], key=batch.key, view=v, epsilon=0.2) for v in (0, 1)]
    expected = contrastive_loss(*copies, items=items[None], temperature=0.5)
    assert torch.equal(method_of(settings)(batch), expected)
