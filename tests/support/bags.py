"""Jagged columns for tests."""

import numpy as np

from feature_store.core.columns import Jagged


def jagged(bags):
    """Makes a column from a list of lists of items."""
    values = np.array([item for bag in bags for item in bag], np.int32)
    return Jagged.from_lengths(values, np.array([len(bag) for bag in bags], np.int64))


def random_bags(rng, rows, items, most):
    """Draws distinct items for each row."""
    return [rng.choice(items, rng.integers(0, most + 1), replace=False) for _ in range(rows)]


def bag(column, row):
    return column.values[column.offsets[row] : column.offsets[row + 1]].tolist()
