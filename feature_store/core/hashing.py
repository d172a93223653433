"""Hashes of ids, texts and counters; stored ones never change."""

import hashlib
import zlib
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store.core.columns import Ints

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


Digests = npt.NDArray[np.uint64]


def token_digests(tokens: pa.Array) -> Digests:
    """[n] 64 bits of BLAKE2b of each token, the same on every machine and in every run."""
    return text_digests(tokens.to_pylist())


def text_digests(texts: Iterable[str]) -> Digests:
    """As `token_digests`."""
    digests = [hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts]
    return np.frombuffer(b"".join(digests), "<u8")


def bucket_rows(digests: Digests, buckets: int) -> Ints:
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
