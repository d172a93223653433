"""Which split an event belongs to."""

import zlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store.core.arrow import microseconds
from feature_store.core.columns import Ints
from pipelines.prepared.reader import SPLITS
from pipelines.settings import ColdItems, GivenSplit, LeaveLastOut, RandomHash, Split, TimeSplit

UInts = npt.NDArray[np.uint32]

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


def crc32(ids: pa.Array, suffix: bytes = b"") -> UInts:
    """Zlib's CRC-32 of each id in UTF-8 and the suffix, [ids]."""
    return np.array([zlib.crc32(text.encode() + suffix) for text in ids.to_pylist()], np.uint32)


def crc32_continued(start: UInts, item: Ints, item_ids: pa.Array) -> UInts:
    """`zlib.crc32(item_ids[item[i]], start[i])` for each i, without a loop over i.

    CRC-32 is affine over GF(2): going on from x adds L(x) to the text's own checksum, where L is
    linear and depends on the text's length alone. So L(x) is the sum of L of the bytes of x.

    Args:
        start: [events] checksums of what goes before.
        item: [events] positions in `item_ids`.
        item_ids: Distinct ids.
    """
    texts = [text.encode() for text in item_ids.to_pylist()]
    own = np.array([zlib.crc32(text) for text in texts], np.uint32)
    sizes, size_of = np.unique([len(text) for text in texts], return_inverse=True)
    # [sizes, byte's place, byte]
    linear = np.array(
        [
            [[_continued(byte << shift, size) for byte in range(256)] for shift in (0, 8, 16, 24)]
            for size in sizes.tolist()
        ],
        np.uint32,
    ).reshape(-1, 4, 256)
    rows = size_of[item]
    result = own[item]
    for place in range(4):
        result ^= linear[rows, place, (start >> np.uint32(8 * place)) & np.uint32(255)]
    return result


def _continued(start: int, size: int) -> int:
    zeros = bytes(size)
    return zlib.crc32(zeros, start) ^ zlib.crc32(zeros)
