"""Small mergeable sketches of a column's values: the distinct count, and the frequent values."""

import base64
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Ints
from feature_store.core.hashing import UInt64s

# Hashes kept of a column. Fewer distinct values are counted exactly; the standard error of the
# estimate of more is 1 / sqrt(kept - 2), 3.1 %.
KEPT_HASHES = 1024
# Values kept with their counts.
KEPT_VALUES = 128

_RANGE = 2.0**64
_SHOWN_CHARACTERS = 100


@dataclass(frozen=True)
class Distinct:
    """The smallest hashes of the values (Bar-Yossef et al., 2002: k minimum values).

    Attributes:
        hashes: Base64 of sorted little-endian 64-bit integers.
    """

    hashes: str

    @classmethod
    def of(cls, hashes: UInt64s) -> "Distinct":
        """Keeps the smallest of some hashes, [n], which may repeat."""
        size = 4 * KEPT_HASHES
        smallest = np.unique(_smallest(hashes, size))
        while len(smallest) < KEPT_HASHES and size < len(hashes):
            size *= 8
            smallest = np.unique(_smallest(hashes, size))
        kept = smallest[:KEPT_HASHES].astype("<u8")
        return cls(base64.b64encode(kept.tobytes()).decode())

    @classmethod
    def merged(cls, parts: Sequence["Distinct"]) -> "Distinct":
        """Merges the sketches of all parts."""
        return cls.of(np.concatenate([part.kept for part in parts]))

    @property
    def kept(self) -> UInt64s:
        """Kept hashes, at most KEPT_HASHES, sorted."""
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
        """Number of distinct values, estimated unless `is_exact`."""
        kept = self.kept
        if self.is_exact:
            return len(kept)
        return round((KEPT_HASHES - 1) / (float(kept[-1]) / _RANGE))

    def not_in(self, other: "Distinct") -> int:
        """Estimates the number of distinct values that `other` lacks; exact where both are."""
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
        counts: Counts by value, the most frequent first. Values of more than 100 characters are
            cut, and count as one value where they begin alike.
        error: Bound of what a count is too low by, and of the occurrences of a value that is not
            listed: at most 2 / 129 of the values of parts that were merged once. With 0 all values
            are listed, with their exact counts.
    """

    counts: dict[str, int]
    error: int = 0

    @classmethod
    def of(cls, values: pa.Array, counts: Ints) -> "TopValues":
        """Keeps the most frequent values, [n] without null, which may repeat."""
        cut = _cut(counts)
        kept = np.flatnonzero(counts > cut)
        total: Counter[str] = Counter()
        for text, count in zip(_texts(values.take(pa.array(kept))), counts[kept], strict=True):
            total[text] += int(count)
        return cls(_sorted(total), cut)

    @classmethod
    def merged(cls, parts: Sequence["TopValues"]) -> "TopValues":
        """Merges the sketches of all parts."""
        total: Counter[str] = Counter()
        for part in parts:
            total.update(part.counts)
        error = sum(part.error for part in parts)
        cut = _cut(np.array(list(total.values()), np.int64))
        kept = {value: count for value, count in total.items() if count > cut}
        return cls(_sorted(kept), error + cut)


def _smallest(values: UInt64s, size: int) -> UInt64s:
    return np.partition(values, size)[:size] if size < len(values) else values


def _cut(counts: Ints) -> int:
    """Returns the largest count that has no room among the kept ones; 0 where all have."""
    if len(counts) <= KEPT_VALUES:
        return 0
    return int(np.partition(counts, -KEPT_VALUES - 1)[-KEPT_VALUES - 1])


def _texts(values: pa.Array) -> list[str]:
    """Formats values as text for people, cut to 100 characters."""
    return [
        text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"
        for text in values.cast(pa.string()).to_pylist()
    ]


def _sorted(counts: dict[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
