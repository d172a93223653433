"""Orders of rows are those of numpy's stable sorts, for keys of every width and sign."""

import numpy as np
import pytest

from feature_store.core.sorting import sorted_distinct, stable_order

RANDOM = np.random.default_rng(0)
KEYS = {
    "few values": RANDOM.integers(0, 5, 3000),
    "one value": np.full(3000, 7),
    "negative": RANDOM.integers(-50, 50, 3000),
    "small type": RANDOM.integers(-3, 3, 3000).astype(np.int8),
    "times": 1_600_000_000_000_000 + RANDOM.integers(0, 2**45, 3000) // 2**40 * 2**40,
    "hashes": RANDOM.integers(0, 2**64, 3000, np.uint64) >> np.uint64(1) << np.uint64(1),
    "both ends": RANDOM.choice([np.iinfo(np.int64).min, 0, np.iinfo(np.int64).max], 3000),
}


@pytest.mark.parametrize("first", KEYS)
@pytest.mark.parametrize("second", KEYS)
def test_the_order_is_that_of_stable_sorts(first, second):
    keys = KEYS[first], KEYS[second], KEYS["few values"]
    np.testing.assert_array_equal(stable_order(*keys), np.lexsort(keys[::-1]))
    np.testing.assert_array_equal(stable_order(keys[0]), np.argsort(keys[0], kind="stable"))


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_rows_have_an_order(rows):
    keys = np.arange(rows)[::-1], np.zeros(rows, np.int64)
    assert stable_order(*keys).tolist() == list(range(rows))[::-1]
    assert stable_order(keys[1]).tolist() == list(range(rows))


@pytest.mark.parametrize("values", KEYS.values(), ids=KEYS)
def test_distinct_values_ascend(values):
    np.testing.assert_array_equal(sorted_distinct(values), np.unique(values))
    assert not len(sorted_distinct(values[:0]))
