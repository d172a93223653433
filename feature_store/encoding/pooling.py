"""How much each value of a bag weighs when the bag becomes one embedding."""

import math

import numpy as np

from feature_store.core.columns import Floats, Jagged


def bag_weights(column: Jagged, half_life: float | None) -> Floats:
    """[total] float32; the weights of a bag sum to 1.

    Args:
        column: Of bags, the latest value last.
        half_life: Places back at which a value weighs half; None: all values weigh the same.
    """
    if half_life is None:
        mean = (1.0 / np.maximum(column.lengths, 1)).astype(np.float32)
        return np.repeat(mean, column.lengths)
    row = column.row_of_value()
    lengths = column.lengths[row]
    from_end = column.offsets[1:][row] - 1 - np.arange(len(row))
    rate = decay_rate(half_life)
    # A geometric series: the sum of exp(-rate i) for i below n is expm1(-rate n) / expm1(-rate).
    weights = np.exp(-rate * from_end) * np.expm1(-rate) / np.expm1(-rate * lengths)
    return weights.astype(np.float32)


def decay_rate(half_life: float) -> float:
    """A value one place earlier weighs exp(-rate) as much."""
    return math.log(2) / half_life
