"""Small sketches of a column's values that merge: how many are distinct, and which are frequent."""

import base64
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store.core.columns import Ints

UInts = npt.NDArray[np.uint64]

# Hashes kept of a column: so many distinct values are counted exactly, and the standard error of
# the estimate for more is 1 / sqrt(kept - 2), 3.1 %.
KEPT_HASHES = 1024
# Values kept with their counts.
KEPT_VALUES = 128

_RANGE = 2.0**64
_SHOWN_CHARACTERS = 100
_HASHED_BYTES = 1024
_WORDS_AT_ONCE = 1 << 19


@dataclass(frozen=True)
class Distinct:
    """The smallest hashes of the values (Bar-Yossef et al., 2002: k minimum values).

    Attributes:
        hashes: Base64 of sorted little-endian 64-bit integers.
    """

    hashes: str

    @classmethod
    def of(cls, hashes: UInts) -> "Distinct":
        """Of [n] hashes, which may repeat."""
        size = 4 * KEPT_HASHES
        smallest = np.unique(_smallest(hashes, size))
        while len(smallest) < KEPT_HASHES and size < len(hashes):
            size *= 8
            smallest = np.unique(_smallest(hashes, size))
        kept = smallest[:KEPT_HASHES].astype("<u8")
        return cls(base64.b64encode(kept.tobytes()).decode())

    @classmethod
    def merged(cls, parts: Sequence["Distinct"]) -> "Distinct":
        """Of the values of all parts."""
        return cls.of(np.concatenate([part.kept for part in parts]))

    @property
    def kept(self) -> UInts:
        """[at most KEPT_HASHES], sorted."""
        return np.frombuffer(base64.b64decode(self.hashes), "<u8").astype(np.uint64)

    @property
    def is_exact(self) -> bool:
        """Whether no hash was left out."""
        return len(self.kept) < KEPT_HASHES

    @property
    def error(self) -> float:
        """Relative standard error of `count`."""
        return 0.0 if self.is_exact else 1 / math.sqrt(KEPT_HASHES - 2)

    @property
    def count(self) -> int:
        """Distinct values."""
        kept = self.kept
        if self.is_exact:
            return len(kept)
        return round((KEPT_HASHES - 1) / (float(kept[-1]) / _RANGE))

    def not_in(self, other: "Distinct") -> int:
        """Distinct values that the other does not have; exact where both are."""
        mine, theirs = self.kept, other.kept
        ends = [hashes[-1] for hashes in (mine, theirs) if len(hashes) == KEPT_HASHES]
        if not ends:
            return int((~np.isin(mine, theirs)).sum())
        new = ~np.isin(mine, theirs) & (mine <= min(ends))
        return round(float(new.sum()) / (float(min(ends)) / _RANGE))


@dataclass(frozen=True)
class TopValues:
    """The most frequent values (Agarwal et al., 2012: mergeable summaries).

    Attributes:
        counts: By value, most frequent first. Values of more than 100 characters are cut, and are
            one value where they begin alike.
        error: A count is at most so much too low, and a value that is not listed occurs at most so
            often. At most 2 / 129 of the values of parts that were merged once; 0 says that all
            values are listed, with their exact counts.
    """

    counts: dict[str, int]
    error: int = 0

    @classmethod
    def of(cls, values: pa.Array, counts: Ints) -> "TopValues":
        """Of [n] values without null, which may repeat."""
        cut = _cut(counts)
        kept = np.flatnonzero(counts > cut)
        found: Counter[str] = Counter()
        for text, count in zip(_texts(values.take(pa.array(kept))), counts[kept], strict=True):
            found[text] += int(count)
        return cls(_sorted(found), cut)

    @classmethod
    def merged(cls, parts: Sequence["TopValues"]) -> "TopValues":
        """Of the values of all parts."""
        found: Counter[str] = Counter()
        for part in parts:
            found.update(part.counts)
        error = sum(part.error for part in parts)
        cut = _cut(np.array(list(found.values()), np.int64))
        kept = {value: count for value, count in found.items() if count > cut}
        return cls(_sorted(kept), error + cut)


def mixed(bits: UInts) -> UInts:
    """Hashes of 64-bit integers (the finaliser of splitmix64)."""
    x = bits + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_texts(texts: pa.Array) -> UInts:
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


def _words(data: npt.NDArray[np.uint8]) -> UInts:
    """[bytes - 7] the eight bytes from each place on, without a copy."""
    return np.ndarray(len(data) - 7, "<u8", data, strides=(1,))


def _smallest(values: UInts, size: int) -> UInts:
    return np.partition(values, size)[:size] if size < len(values) else values


def _cut(counts: Ints) -> int:
    """The largest count that does not fit any more, 0 where all do."""
    if len(counts) <= KEPT_VALUES:
        return 0
    return int(np.partition(counts, -KEPT_VALUES - 1)[-KEPT_VALUES - 1])


def _texts(values: pa.Array) -> list[str]:
    """For people: cut to 100 characters."""
    return [
        text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
        for text in values.cast(pa.string()).to_pylist()
    ]


def _sorted(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
