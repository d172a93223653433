"""Weights of the values of a bag when the bag becomes one embedding."""

import math
from typing import Any

import numpy as np

from feature_store.core.columns import Floats, Jagged


def bag_weights(column: Jagged, half_life: float | None) -> Floats:
    """Computes the weight of each value, [total] float32; those of a bag sum to 1.

    Args:
        column: Bags, the latest value last.
        half_life: Positions back at which a value weighs half; None: all values weigh the same.
    """
    if half_life is None:
        mean = (1.0 / np.maximum(column.lengths, 1)).astype(np.float32)
        return np.repeat(mean, column.lengths)
    row = column.row_of_value()
    lengths = column.lengths[row]
    from_end = column.offsets[1:][row] - 1 - np.arange(len(row))
    weights = recency_weights(from_end, lengths, decay_rate(half_life), np)
    return weights.astype(np.float32)


def decay_rate(half_life: float) -> float:
    """Returns the rate at which a value one position earlier weighs exp(-rate) as much."""
    return math.log(2) / half_life


def recency_weights(from_end: Any, lengths: Any, rate: Any, library: Any) -> Any:
    """Computes exp(-rate i), divided by its sum over the bag; training and serving share it.

    The sum of exp(-rate i) over i < n is a geometric series: expm1(-rate n) / expm1(-rate).

    Args:
        from_end: Positions i of the values, counted from their bags' ends, [total].
        lengths: Lengths n of the values' bags, [total].
        rate: Decay rate, a scalar.
        library: Module that has `exp` and `expm1` of these arrays: numpy or torch.
    """
    return library.exp(-rate * from_end) * library.expm1(-rate) / library.expm1(-rate * lengths)
