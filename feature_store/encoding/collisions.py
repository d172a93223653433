"""Hashed tokens: their rows, and how many tokens share one."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from feature_store.core.columns import Ints
from feature_store.core.hashing import UInt64s, bucket_rows

# From this share of colliding tokens on a user is told.
_MANY = 0.1
# So many distinct tokens are counted exactly, in 16 MB a feature.
_MAX_TOKENS = 1_000_000


@dataclass(frozen=True)
class DigestCounts:
    """Distinct tokens and their occurrences, as far as they are kept.

    Attributes:
        digests: [n] ascending.
        counts: [n] int64.
    """

    digests: UInt64s
    counts: Ints

    @classmethod
    def of(cls, digests: UInt64s, counts: Ints, limit: int = _MAX_TOKENS) -> "DigestCounts":
        """Adds up what has the same digest, and keeps the `limit` lowest.

        Digests are uniform, so the lowest are a fair sample of the distinct tokens; and parts that
        kept their lowest hold all that is counted of the lowest of the whole, however it was cut.
        """
        distinct, place = np.unique(digests, return_inverse=True)
        total = np.zeros(len(distinct), np.int64)
        np.add.at(total, place, counts)
        return cls(distinct[:limit], total[:limit])

    @classmethod
    def merged(cls, parts: Iterable["DigestCounts"], limit: int = _MAX_TOKENS) -> "DigestCounts":
        """Of all parts together; at most two of them are in memory."""

        def merge(first: DigestCounts, second: DigestCounts) -> DigestCounts:
            return cls.of(
                np.concatenate([first.digests, second.digests]),
                np.concatenate([first.counts, second.counts]),
                limit,
            )

        return reduce(merge, parts, cls(np.empty(0, np.uint64), np.empty(0, np.int64)))


@dataclass(frozen=True)
class Collisions:
    """How well a hashed feature tells its tokens apart.

    Attributes:
        tokens: Distinct ones.
        buckets: Rows that they are hashed into.
        used_rows: Rows that have a token.
        colliding_tokens: The share of the tokens that share their row with another.
        colliding_occurrences: The share of the occurrences that are of such tokens.
        is_exact: Whether all were counted. Else the number of tokens is an estimate, from a sample
            whose size makes its error about 0.1 %, and the rest is what it makes one expect.
    """

    tokens: int
    buckets: int
    used_rows: int
    colliding_tokens: float
    colliding_occurrences: float
    is_exact: bool


def collisions(counted: DigestCounts, buckets: int, limit: int = _MAX_TOKENS) -> Collisions:
    """Counts tokens that share a row; `limit` as in `DigestCounts.of`."""
    tokens = len(counted.digests)
    if tokens < limit:
        rows = bucket_rows(counted.digests, buckets)
        _, place, in_row = np.unique(rows, return_inverse=True, return_counts=True)
        shares = in_row[place] > 1
        return Collisions(
            tokens=tokens,
            buckets=buckets,
            used_rows=len(in_row),
            colliding_tokens=float(shares.sum()) / max(1, tokens),
            colliding_occurrences=float(counted.counts[shares].sum())
            / max(1, int(counted.counts.sum())),
            is_exact=True,
        )
    # Of n uniform numbers the k-th lowest is near k / n (Bar-Yossef et al. 2002).
    estimate = (tokens - 1) / (float(counted.digests[-1]) / 2.0**64)
    # A bucket is free of n other tokens with probability (1 - 1 / buckets)^n.
    stays_free = np.log1p(-1 / buckets)
    share = float(-np.expm1((estimate - 1) * stays_free))
    return Collisions(
        tokens=round(estimate),
        buckets=buckets,
        used_rows=round(float(-np.expm1(estimate * stays_free)) * buckets),
        colliding_tokens=share,
        colliding_occurrences=share,  # A token's bucket does not depend on how frequent it is.
        is_exact=False,
    )


def collision_warning(name: str, found: Collisions) -> str | None:
    """A sentence that says so where many tokens share a row, and what would help."""
    if found.colliding_tokens <= _MANY:
        return None
    # So that a bucket is free of all the other tokens with probability 1 - _MANY.
    enough = math.ceil((found.tokens - 1) / -math.log1p(-_MANY))
    return (
        f"warning: {100 * found.colliding_tokens:.0f} % of the {found.tokens:,} tokens of {name} "
        f"share a row with another; with hash_buckets {enough:,} it would be {100 * _MANY:.0f} %"
    )
