"""Hashes of ids, counters, strings and texts. What reaches a file never changes.

    CRC-32         hash_of_id, crc32           ids: splits (`random_hash`), parts of the offline
                                               store, keys in SQLite, buckets in Redis
    SplitMix64     hash64, hash_uniform        counters: order of examples, histories of `others`,
                                               every random choice of training
    Multilinear    hash_strings                ids: keys of those choices; sample of labels
    BLAKE2b        text_digests, bucket_rows   tokens: rows of hashed features, and so of their
                                               trained tables; a bundle's `ids/*.digests.npy`
    sum of words   hash_texts, hash_integers   values of a column: sketches in quality.json

CRC-32 is also called directly: for the sample of tokens in a checkpoint's manifest, and for the
seeds of the tables' initial values.
"""

import hashlib
import zlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store.core.columns import Ints

UInt32s = npt.NDArray[np.uint32]
UInt64s = npt.NDArray[np.uint64]


# CRC-32 of ids.


def hash_of_id(text: str) -> int:
    """Computes the CRC-32 of an id, by which rows are sorted and partitioned."""
    return zlib.crc32(text.encode())


def hash_of_ids(ids: pa.Array) -> Ints:
    """Computes `hash_of_id` of each id, [n] int64."""
    return crc32(ids).astype(np.int64)


def crc32(ids: pa.Array, suffix: bytes = b"") -> UInt32s:
    """Computes the CRC-32 of each id in UTF-8 followed by the suffix, [n]."""
    texts = ids.cast(pa.large_binary()).to_pylist()
    if suffix:
        texts = [text + suffix for text in texts]
    return np.fromiter(map(zlib.crc32, texts), np.uint32, len(texts))


def crc32_continued(start: UInt32s, item: Ints, item_ids: pa.Array) -> UInt32s:
    """Computes `zlib.crc32(item_ids[item[i]], start[i])` for each i, without a loop over i.

    CRC-32 is affine over GF(2): continuing from x adds L(x) to the text's own checksum, where L is
    linear and depends on the text's length alone. So L(x) is the sum of L of the bytes of x.

    Args:
        start: Checksums of the text before the ids, [events].
        item: Positions in `item_ids`, [events].
        item_ids: Distinct ids.
    """
    texts = [text.encode() for text in item_ids.to_pylist()]
    own = np.array([zlib.crc32(text) for text in texts], np.uint32)
    sizes, size_of = np.unique([len(text) for text in texts], return_inverse=True)
    # [sizes, position of the byte in a checksum, value of the byte]
    linear = np.array(
        [
            [[_continued(byte << shift, size) for byte in range(256)] for shift in (0, 8, 16, 24)]
            for size in sizes.tolist()
        ],
        np.uint32,
    ).reshape(-1, 4, 256)
    rows = size_of[item]
    result = own[item]
    for position in range(4):
        byte = (start >> np.uint32(8 * position)) & np.uint32(255)
        result ^= linear[rows, position, byte]
    return result


def _continued(start: int, size: int) -> int:
    zeros = bytes(size)
    return zlib.crc32(zeros, start) ^ zlib.crc32(zeros)


# SplitMix64 of counters.

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def hash64(seed: int, *keys: Ints | int) -> Ints:
    """Computes SplitMix64 (Steele et al. 2014) over a seed and integer keys that broadcast; uint64.

    A counter-based generator: the value depends on the keys alone, so that it is the same whatever
    the order of rows, the number of partitions or of workers.
    """
    state = np.asarray(np.uint64(seed % 2**64))
    with np.errstate(over="ignore"):
        for key in keys:
            state = _finalised((state ^ np.asarray(key).astype(np.uint64)) * _GOLDEN + _GOLDEN)
    return state


def hash_uniform(seed: int, *keys: Ints | int) -> npt.NDArray[np.float64]:
    """Computes `hash64` as float64 in [0, 1)."""
    return (hash64(seed, *keys) >> np.uint64(11)).astype(np.float64) / float(2**53)


def hash_integers(integers: UInt64s) -> UInt64s:
    """Computes the output of SplitMix64 in each of these states, [n]; no seed, one round."""
    return _finalised(integers + _GOLDEN)


def _finalised(state: UInt64s) -> UInt64s:
    """Mixes the bits of a state, so that each depends on all of them (Stafford's variant 13)."""
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    return state ^ (state >> np.uint64(31))


# Strings.


def hash_strings(seed: int, strings: pa.Array) -> Ints:
    """Computes a hash of each string's bytes, [n] uint64, without a loop over them.

    Multilinear (Lemire and Kaser 2014): every position has a multiplier of its own, and the
    products are added modulo 2^64; then mixed by `hash64`. Null hashes as the empty string.
    """
    if not len(strings):
        return np.zeros(0, np.uint64)
    offsets, content = _bytes_of(strings.fill_null("").cast(pa.large_string()))
    lengths = np.diff(offsets)
    ends = offsets - offsets[0]
    data = content[offsets[0] : offsets[-1]]
    position = np.arange(len(data)) - np.repeat(ends[:-1], lengths)
    multipliers = hash64(seed, np.arange(int(lengths.max())))
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(multipliers[position] * (data.astype(np.uint64) + np.uint64(1)), out=sums[1:])
    return hash64(seed, sums[ends[1:]] - sums[ends[:-1]], lengths)


def text_digests(texts: Iterable[str]) -> UInt64s:
    """Computes 64 bits of BLAKE2b of each text, [n]: the same on every machine and in every run."""
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), "<u8")


def token_digests(tokens: pa.Array) -> UInt64s:
    """Computes `text_digests` of an Arrow column without nulls, [n]."""
    return text_digests(tokens.to_pylist())


def bucket_rows(digests: UInt64s, buckets: int) -> Ints:
    """Returns the table rows, 1 to `buckets`, of digests, [n] int32.

    A token that was never seen has a bucket like any other. Row 0, where vocabularies keep their
    unknown tokens, is never used: it is there so that both encodings number their rows alike.
    """
    return (1 + digests % np.uint64(buckets)).astype(np.int32)


# Texts of any length, for sketches.

_HASHED_BYTES = 1024
_WORDS_AT_ONCE = 1 << 19


def hash_texts(texts: pa.Array) -> UInt64s:
    """Computes hashes of strings or bytes without null, [n], of their first KiB and their length.

    The sum of the mixed words of eight bytes: Python's own hash functions cost ten times as much.
    """
    if not len(texts):
        return np.empty(0, np.uint64)
    offsets, content = _bytes_of(texts.cast(pa.large_binary()))
    lengths = np.diff(offsets)
    hashed = np.minimum(lengths, _HASHED_BYTES)
    ends = np.cumsum(-(-hashed // 8))  # Number of words up to the end of each text.
    sums = np.zeros(len(texts), np.uint64)
    start = 0
    while start < len(texts):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _WORDS_AT_ONCE, side="right")))
        low, high = int(offsets[start]), int(offsets[stop])
        words = _words(np.concatenate([content[low:high], np.zeros(8, np.uint8)]))
        bounds = np.concatenate([[before], ends[start:stop]]) - before
        width = np.diff(bounds)
        position = np.arange(bounds[-1]) - np.repeat(bounds[:-1], width)
        word = words[np.repeat(offsets[start:stop] - low, width) + 8 * position]
        missing = np.maximum(8 * (position + 1) - np.repeat(hashed[start:stop], width), 0)
        word &= np.uint64(2**64 - 1) >> (8 * missing).astype(np.uint64)
        running = np.zeros(len(word) + 1, np.uint64)
        mixed = hash_integers(word ^ hash_integers(position.astype(np.uint64)))
        np.cumsum(mixed, out=running[1:])
        sums[start:stop] = np.diff(running[bounds])
        start = stop
    return hash_integers(sums ^ hash_integers(lengths.astype(np.uint64)))


def _bytes_of(array: pa.Array) -> tuple[Ints, npt.NDArray[np.uint8]]:
    """Returns the offsets, [n + 1], and the bytes of a large string or binary array, n > 0."""
    _, offsets, content = array.buffers()
    bounds = np.frombuffer(offsets, np.int64)[array.offset :][: len(array) + 1]
    return bounds, np.frombuffer(content or b"", np.uint8)


def _words(data: npt.NDArray[np.uint8]) -> UInt64s:
    """Returns the eight bytes from each position on, [bytes - 7], without a copy."""
    return np.ndarray(len(data) - 7, "<u8", data, strides=(1,))
