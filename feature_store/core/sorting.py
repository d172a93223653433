"""Orders of rows by integer keys, as the shuffles and histories need them for millions of rows."""

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Ints

_WORD, _HALF = 64, 32


def stable_order(*keys: Ints) -> Ints:
    """Returns the positions of rows by their keys, the first one first, [rows] int64.

    Equal rows keep their order, as with `np.lexsort`, which is slower because it compares rows
    through their positions, one pair at a time and all over memory. Here as many keys as fit are
    packed into one word, with the position below them, and the words themselves are sorted, which
    processors do many at a time. Keys that need more than a word are sorted in several rounds, the
    last ones first.

    Args:
        keys: Signed or unsigned integers, one array or more, [rows].
    """
    rows = len(keys[0])
    if not rows:
        return np.zeros(0, np.int64)
    place = np.uint64((rows - 1).bit_length())
    order: npt.NDArray[np.uint64] | None = None
    waiting = [field for key in keys for field in _fields(key, _WORD - int(place))]
    while waiting:
        packed, shift = np.arange(rows, dtype=np.uint64), int(place)
        while waiting and shift + waiting[-1][1] <= _WORD:
            values, bits = waiting.pop()
            if order is not None:
                values = values[order]
            packed |= values << np.uint64(shift)
            shift += bits
        packed.sort()
        packed &= (np.uint64(1) << place) - np.uint64(1)
        order = packed if order is None else order[packed]
    return np.arange(rows) if order is None else order.astype(np.int64)


def _fields(key: Ints, room: int) -> list[tuple[npt.NDArray[np.uint64], int]]:
    """Returns a key as numbers from 0 on and their bits: in halves if it needs more than `room`."""
    smallest = key.min()
    bits = (int(key.max()) - int(smallest)).bit_length()
    # Differences are right modulo 2^64, whatever the sign.
    values = key.astype(np.uint64) - smallest.astype(np.uint64)
    if not bits:
        return []
    if bits <= room:
        return [(values, bits)]
    low = values & np.uint64(2**_HALF - 1)
    return [(values >> np.uint64(_HALF), bits - _HALF), (low, _HALF)]


def sorted_distinct(values: Ints) -> Ints:
    """Returns the distinct values, ascending.

    `np.unique` hashes the values first, which saves no sorting where most are distinct, and costs a
    look-up all over memory for each.
    """
    values = np.sort(values)
    is_new = np.ones(len(values), bool)
    is_new[1:] = values[1:] != values[:-1]
    return values[is_new]
