"""Random numbers on the device, as hashes: the same on any number of ranks, and after a kill."""

import torch
from torch import Tensor

# Constants of `feature_store.core.hashing.hash64`, as signed integers, whose products wrap alike.
_GOLDEN = 0x9E3779B97F4A7C15 - 2**64
_MIX_1 = 0xBF58476D1CE4E5B9 - 2**64
_MIX_2 = 0x94D049BB133111EB - 2**64


def hash_uniform(key: Tensor, *positions: Tensor) -> Tensor:
    """Computes a number in [0, 1) for each combination of positions, float32.

    It is `feature_store.core.hashing.hash_uniform`, continued from a key, on any device.

    Args:
        key: [1] int64, as `SslBatch.key`.
        positions: Integers that broadcast.
    """
    state = key
    for position in positions:
        state = (state ^ position) * _GOLDEN + _GOLDEN
        state = (state ^ _shifted(state, 30)) * _MIX_1
        state = (state ^ _shifted(state, 27)) * _MIX_2
        state = state ^ _shifted(state, 31)
    # float32 has 24 bits; more of them would be rounded to 1 now and then.
    return _shifted(state, 40).to(torch.float32) / 2**24


def _shifted(state: Tensor, bits: int) -> Tensor:
    """Returns the bits shifted to the right, with zeros from the left."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)
