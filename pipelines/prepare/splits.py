"""The split of each event: training, validation or test."""

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Ints
from feature_store.core.hashing import crc32, crc32_continued
from feature_store.core.times import microseconds
from pipelines.prepared.reader import SPLITS
from pipelines.settings import ColdItems, GivenSplit, LeaveLastOut, RandomHash, Split, TimeSplit

TRAIN, VALIDATION, TEST = range(len(SPLITS))

# Split by the remainder of a CRC-32 divided by 10.
_BY_REMAINDER = np.array([TEST, VALIDATION, *[TRAIN] * 8], np.int8)


def assign_splits(
    split: Split,
    *,
    query: Ints,
    query_ids: pa.Array,
    item: Ints,
    item_ids: pa.Array,
    time: Ints,
    given: Ints,
) -> Ints:
    """Returns the split of each event, an index into `SPLITS`, [events] int8.

    Args:
        split: Kind of split and its settings.
        query: Positions in `query_ids`, [events], sorted.
        query_ids: Distinct ids of the queries.
        item: Positions in `item_ids`, [events], sorted within a query by (time, id).
        item_ids: Distinct ids of the items.
        time: Microseconds, [events].
        given: Split that the log gives, [events].
    """
    match split:
        case GivenSplit():
            return given
        case TimeSplit():
            is_held_out = time >= microseconds(split.validation_from)
            is_test = time >= microseconds(split.test_from)
            return np.where(is_test, TEST, np.where(is_held_out, VALIDATION, TRAIN)).astype(np.int8)
        case RandomHash():
            start = crc32(query_ids, suffix=b"\t")[query]
            return _BY_REMAINDER[crc32_continued(start, item, item_ids) % 10]
        case ColdItems():
            return _BY_REMAINDER[crc32(item_ids) % 10][item]
        case LeaveLastOut():
            return _leave_last_out(query)


def _leave_last_out(query: Ints) -> Ints:
    first = np.searchsorted(query, query, side="left")
    end = np.searchsorted(query, query, side="right")
    from_end = end - np.arange(len(query))
    is_long = end - first >= 3
    split = np.where(from_end == 1, TEST, np.where(from_end == 2, VALIDATION, TRAIN))
    return np.where(is_long, split, TRAIN).astype(np.int8)
