import numpy as np
import torch
from scipy.stats import kstest

from feature_store.core.hashing import hash64
from recsys.ssl.hashing import hash_uniform


def test_numbers_are_those_of_the_hash_on_the_host():
    key = hash64(3, 17, 5)
    rows, columns = np.arange(50), np.arange(7)
    bits = hash64(3, 17, 5, 1, rows[:, None], columns)
    on_device = hash_uniform(
        torch.from_numpy(np.atleast_1d(key).view(np.int64)),
        torch.tensor(1),
        torch.from_numpy(rows)[:, None],
        torch.from_numpy(columns),
    )
    assert on_device.dtype == torch.float32
    assert np.array_equal(on_device.numpy(), (bits >> np.uint64(40)) / np.float32(2**24))


def test_numbers_are_uniform_below_one():
    numbers = hash_uniform(torch.tensor([-(2**63)]), torch.arange(100_000)).numpy()
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert kstest(numbers, "uniform").pvalue > 0.001
