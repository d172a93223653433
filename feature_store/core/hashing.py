"""Hashes of ids, texts and counters; stored ones never change."""

import hashlib
import zlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store.core.columns import Ints

UInt32s = npt.NDArray[np.uint32]
UInt64s = npt.NDArray[np.uint64]

_NO_BYTES = np.zeros(0, np.uint8)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def hash64(seed: int, *keys: Ints | int) -> Ints:
    """SplitMix64 (Steele et al. 2014) over a seed and integer keys that broadcast; uint64.

    A counter-based generator: the value depends on the keys alone, so that it is the same whatever
    the order of rows, the number of partitions or of workers.
    """
    state = np.asarray(np.uint64(seed % 2**64))
    with np.errstate(over="ignore"):
        for key in keys:
            state = (state ^ np.asarray(key).astype(np.uint64)) * _GOLDEN + _GOLDEN
            state = (state ^ (state >> np.uint64(30))) * _MIX_1
            state = (state ^ (state >> np.uint64(27))) * _MIX_2
            state = state ^ (state >> np.uint64(31))
    return state


def hash_uniform(seed: int, *keys: Ints | int) -> npt.NDArray[np.float64]:
    """`hash64` as float64 in [0, 1)."""
    return (hash64(seed, *keys) >> np.uint64(11)).astype(np.float64) / float(2**53)


def hash_strings(seed: int, strings: pa.Array) -> Ints:
    """A hash of each string's bytes, [strings] uint64, without a loop over them.

    Multilinear (Lemire and Kaser 2014): every place has a multiplier of its own, and the products
    are added modulo 2^64; then mixed by `hash64`. Null hashes as the empty string.
    """
    array = strings.fill_null("").cast(pa.large_string())
    offsets = np.frombuffer(array.buffers()[1], np.int64)[array.offset :][: len(array) + 1]
    if not len(array):
        return np.zeros(0, np.uint64)
    lengths = np.diff(offsets)
    content = array.buffers()[2]
    data = np.frombuffer(content, np.uint8)[offsets[0] : offsets[-1]] if content else _NO_BYTES
    place = np.arange(len(data)) - np.repeat(offsets[:-1] - offsets[0], lengths)
    multipliers = hash64(seed, np.arange(int(lengths.max())))
    sums = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(multipliers[place] * (data.astype(np.uint64) + np.uint64(1)), out=sums[1:])
    ends = offsets - offsets[0]
    return hash64(seed, sums[ends[1:]] - sums[ends[:-1]], lengths)


def token_digests(tokens: pa.Array) -> UInt64s:
    """[n] 64 bits of BLAKE2b of each token, the same on every machine and in every run."""
    return text_digests(tokens.to_pylist())


def text_digests(texts: Iterable[str]) -> UInt64s:
    """As `token_digests`."""
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), "<u8")


def bucket_rows(digests: UInt64s, buckets: int) -> Ints:
    """Table rows 1 to `buckets`, int32.

    A token that was never seen has a bucket like any other. Row 0, where vocabularies keep their
    unknown tokens, is never used: it is there so that both encodings number their rows alike.
    """
    return (1 + digests % np.uint64(buckets)).astype(np.int32)


def hash_of_id(text: str) -> int:
    """CRC-32 of an id, by which rows are sorted and partitioned."""
    return zlib.crc32(text.encode())


def hash_of_ids(ids: pa.Array) -> Ints:
    """[n] int64, each as `hash_of_id`."""
    texts = ids.cast(pa.large_binary()).to_pylist()
    return np.fromiter(map(zlib.crc32, texts), np.int64, len(texts))


def crc32(ids: pa.Array, suffix: bytes = b"") -> UInt32s:
    """Zlib's CRC-32 of each id in UTF-8 and the suffix, [ids]."""
    return np.array([zlib.crc32(text.encode() + suffix) for text in ids.to_pylist()], np.uint32)


def crc32_continued(start: UInt32s, item: Ints, item_ids: pa.Array) -> UInt32s:
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


_HASHED_BYTES = 1024


_WORDS_AT_ONCE = 1 << 19


def mixed(bits: UInt64s) -> UInt64s:
    """Hashes of 64-bit integers (the finaliser of splitmix64)."""
    x = bits + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_texts(texts: pa.Array) -> UInt64s:
    """[n] hashes of strings or bytes without null, of their first KiB and their length.

    The sum of the mixed words of eight bytes: Python's own hash functions cost ten times as much.
    """
    array = texts.cast(pa.large_binary())
    if not len(array):
        return np.empty(0, np.uint64)
    _, offset_buffer, data_buffer = array.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[array.offset :][: len(array) + 1]
    lengths = np.diff(offsets)
    hashed = np.minimum(lengths, _HASHED_BYTES)
    ends = np.cumsum(-(-hashed // 8))  # Of each text's words.
    sums = np.zeros(len(array), np.uint64)
    start = 0
    while start < len(array):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _WORDS_AT_ONCE, side="right")))
        low, high = int(offsets[start]), int(offsets[stop])
        data = np.frombuffer(data_buffer or b"", np.uint8)[low:high]
        words = _words(np.concatenate([data, np.zeros(8, np.uint8)]))
        bounds = np.concatenate([[before], ends[start:stop]]) - before
        width = np.diff(bounds)
        place = np.arange(bounds[-1]) - np.repeat(bounds[:-1], width)
        found = words[np.repeat(offsets[start:stop] - low, width) + 8 * place]
        missing = np.maximum(8 * (place + 1) - np.repeat(hashed[start:stop], width), 0)
        found &= np.uint64(2**64 - 1) >> (8 * missing).astype(np.uint64)
        running = np.zeros(len(found) + 1, np.uint64)
        np.cumsum(mixed(found ^ mixed(place.astype(np.uint64))), out=running[1:])
        sums[start:stop] = np.diff(running[bounds])
        start = stop
    return mixed(sums ^ mixed(lengths.astype(np.uint64)))


def _words(data: npt.NDArray[np.uint8]) -> UInt64s:
    """[bytes - 7] the eight bytes from each place on, without a copy."""
    return np.ndarray(len(data) - 7, "<u8", data, strides=(1,))
