"""Fitting of vocabularies and scalings to the catalogue, from partial results of its pieces.

A partial result is a small table, which a task writes to a file. The result does not depend on how
the catalogue is cut into pieces; the moments of dense features only up to the rounding of sums.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import plain_array
from feature_store.core.columns import Ints
from feature_store.core.hashing import token_digests
from feature_store.encoding.collisions import Collisions, DigestCounts, collisions
from feature_store.encoding.scaling import (
    Moments,
    NumberCounts,
    Numbers,
    Quantiles,
    Scaling,
    Standardisation,
    dense_values,
)
from feature_store.encoding.tokens import tokens_of
from feature_store.encoding.turnover import renewed_vocabulary
from feature_store.encoding.vocabulary import (
    Vocabulary,
    count_tokens,
    grow_vocabulary,
    merge_counts,
)
from feature_store.kinds import DenseFeature, IdFeature, ScaledFeature, TokenFeature

_DROPPED_BITS = b"dropped_bits"
_DAY = 86_400_000_000  # Microseconds.


def partial_counts(
    feature: TokenFeature | DenseFeature, column: pa.ChunkedArray | pa.Array
) -> pa.Table:
    """Counts the values of a piece; the columns of the result depend on the feature.

    Args:
        feature: Feature of any kind but the id.
        column: Raw values in the rows of the piece.
    """
    if isinstance(feature, DenseFeature):
        numbers, present = dense_values(feature, column)
        if not _is_ranked(feature):
            return pa.table(vars(Moments.of(numbers, present)))
        counted = NumberCounts.of(numbers[present, 0], np.ones(int(present.sum()), np.int64))
        table = pa.table({"number": counted.numbers, "count": counted.counts})
        return table.replace_schema_metadata({_DROPPED_BITS: str(counted.dropped_bits)})
    counts = count_tokens(tokens_of(feature, column)[0])
    if feature.hash_buckets is None:
        return counts
    digests = token_digests(plain_array(counts["token"]))
    hashed = DigestCounts.of(digests, _numpy(counts, "count"))
    return pa.table({"digest": hashed.digests, "count": hashed.counts})


def counted_uses(
    feature: TokenFeature | IdFeature, column: pa.ChunkedArray, times: Ints
) -> pa.Table:
    """Counts the values of a piece of the events, with the time of the last one.

    Args:
        feature: Feature with a vocabulary.
        column: Raw values, or ids as strings, [events].
        times: Times, [events], microseconds.
    """
    if isinstance(feature, IdFeature):
        tokens = column
    else:
        tokens, lengths = tokens_of(feature, column)
        times = np.repeat(times, lengths)
    table = pa.table({"token": tokens, "count": np.ones(len(times), np.int64), "last": times})
    return merge_counts([table.filter(pc.is_valid(table["token"]))])


def fit_vocabulary(
    feature: TokenFeature | IdFeature,
    parts: Iterable[pa.Table],
    previous: Vocabulary | None = None,
    *,
    moment: int = 0,
    clear_unused: bool = False,
) -> Vocabulary:
    """Fits the vocabulary of a feature that has one.

    Args:
        feature: Feature with a vocabulary.
        parts: Results of `partial_counts` or of `counted_uses`, at least one.
        previous: Vocabulary of the earlier run; its tokens keep their rows.
        moment: Time from which idle days count back, microseconds; the last use of what has no
            time.
        clear_unused: Argument of `grow_vocabulary`.
    """
    counts = merge_counts(list(parts))
    first_row = 0 if feature.is_id else 1
    max_size = None if isinstance(feature, IdFeature) else feature.max_vocabulary
    if feature.max_idle_days is None:
        return grow_vocabulary(
            counts,
            first_row=first_row,
            previous=previous,
            min_count=feature.min_count,
            max_size=max_size,
            clear_unused=clear_unused,
        )
    if "last" not in counts.column_names:
        counts = counts.append_column("last", pa.array(np.full(len(counts), moment)))
    return renewed_vocabulary(
        counts,
        first_row=first_row,
        previous=previous,
        min_count=feature.min_count,
        max_size=max_size,
        idle_from=moment - feature.max_idle_days * _DAY,
        clear_unused=clear_unused,
    )


def fit_scaling(feature: DenseFeature, parts: Iterable[pa.Table]) -> Scaling:
    """Fits the scaling of a dense feature to `partial_counts` of at least one piece."""
    if _is_ranked(feature):
        return Quantiles.from_counts(NumberCounts.merged(map(_number_counts, parts)))
    moments = (
        Moments(*(_numbers(part, name) for name in ("count", "total", "squares"))) for part in parts
    )
    return Standardisation.from_moments(Moments.merged(moments))


def hash_collisions(feature: TokenFeature, parts: Iterable[pa.Table]) -> Collisions:
    """Counts the tokens of a hashed feature that share a row, from `partial_counts`."""
    assert feature.hash_buckets is not None
    counted = (
        DigestCounts(_numpy(part, "digest").astype(np.uint64), _numpy(part, "count"))
        for part in parts
    )
    return collisions(DigestCounts.merged(counted), feature.hash_buckets)


def _is_ranked(feature: DenseFeature) -> bool:
    return isinstance(feature, ScaledFeature) and feature.scaling == "quantile"


def _number_counts(part: pa.Table) -> NumberCounts:
    dropped_bits = int(part.schema.metadata[_DROPPED_BITS])
    return NumberCounts(_numbers(part, "number"), _numpy(part, "count"), dropped_bits)


def _numbers(table: pa.Table, name: str) -> Numbers:
    return np.asarray(_numpy(table, name), np.float64)


def _numpy(table: pa.Table, name: str) -> Ints:
    return table[name].to_numpy()
