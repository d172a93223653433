"""Which split an event belongs to."""

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Ints
from feature_store.core.hashing import crc32, crc32_continued
from feature_store.core.times import microseconds
from pipelines.prepared.reader import SPLITS
from pipelines.settings import ColdItems, GivenSplit, LeaveLastOut, RandomHash, Split, TimeSplit

TRAIN, VALIDATION, TEST = range(len(SPLITS))

# By CRC-32 modulo 10.
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
    """The split of each event, as an index into `SPLITS`, [events] int8.

    Args:
        split: How.
        query: [events] positions in `query_ids`, sorted.
        query_ids: Distinct ids.
        item: [events] positions in `item_ids`, sorted within a query by (time, id).
        item_ids: Distinct ids.
        time: [events] microseconds.
        given: [events] the split that the log says.
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
