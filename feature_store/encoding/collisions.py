"""Collisions of hashed tokens: how many share a table row."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from feature_store.core.columns import Ints
from feature_store.core.hashing import UInt64s, bucket_rows

# A user is warned from this share of colliding tokens on.
_MANY = 0.1
# Distinct tokens that are counted exactly, in 16 MB a feature.
_MAX_TOKENS = 1_000_000


@dataclass(frozen=True)
class DigestCounts:
    """Counts of distinct tokens, of those with the lowest digests where there are too many.

    Attributes:
        digests: Digests of the tokens, [n] ascending.
        counts: Occurrences of each, [n] int64.
    """

    digests: UInt64s
    counts: Ints

    @classmethod
    def of(cls, digests: UInt64s, counts: Ints, limit: int = _MAX_TOKENS) -> "DigestCounts":
        """Adds up the counts of equal digests, and keeps the `limit` lowest.

        Digests are uniform, so the lowest are a fair sample of the distinct tokens. Parts that kept
        their lowest hold every count of the lowest of the whole, however it was cut.
        """
        distinct, position = np.unique(digests, return_inverse=True)
        total = np.zeros(len(distinct), np.int64)
        np.add.at(total, position, counts)
        return cls(distinct[:limit], total[:limit])

    @classmethod
    def merged(cls, parts: Iterable["DigestCounts"], limit: int = _MAX_TOKENS) -> "DigestCounts":
        """Merges the counts of all parts; at most two of them are in memory."""

        def merge(first: DigestCounts, second: DigestCounts) -> DigestCounts:
            return cls.of(
                np.concatenate([first.digests, second.digests]),
                np.concatenate([first.counts, second.counts]),
                limit,
            )

        return reduce(merge, parts, cls(np.empty(0, np.uint64), np.empty(0, np.int64)))


@dataclass(frozen=True)
class Collisions:
    """Collisions of a hashed feature's tokens.

    Attributes:
        tokens: Number of distinct tokens.
        buckets: Number of rows that they are hashed into.
        used_rows: Number of rows that have a token.
        colliding_tokens: Share of the tokens that have a row together with another.
        colliding_occurrences: Share of the occurrences that are of these tokens.
        is_exact: Whether all tokens were counted. Otherwise their number is an estimate from a
            sample whose size makes the error about 0.1 %, and the rest are expectations.
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
        _, position, in_row = np.unique(rows, return_inverse=True, return_counts=True)
        is_shared = in_row[position] > 1
        return Collisions(
            tokens=tokens,
            buckets=buckets,
            used_rows=len(in_row),
            colliding_tokens=float(is_shared.sum()) / max(1, tokens),
            colliding_occurrences=float(counted.counts[is_shared].sum())
            / max(1, int(counted.counts.sum())),
            is_exact=True,
        )
    # The k-th lowest of n uniform numbers is near k / n (Bar-Yossef et al. 2002).
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


def collision_warning(name: str, counted: Collisions) -> str | None:
    """Warns in a sentence, with the remedy, where many tokens share a row; None where few do."""
    if counted.colliding_tokens <= _MANY:
        return None
    # With as many buckets, one is free of all the other tokens with probability 1 - _MANY.
    enough = math.ceil((counted.tokens - 1) / -math.log1p(-_MANY))
    return (
        f"warning: {100 * counted.colliding_tokens:.0f} % of the {counted.tokens:,} tokens of "
        f"{name} share a row with another; with hash_buckets {enough:,} it would be "
        f"{100 * _MANY:.0f} %"
    )
