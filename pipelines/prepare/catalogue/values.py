"""Statistics of features' values as they are read, and of text that is not what it should be."""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from feature_store.core.arrow import plain_array
from feature_store.core.errors import UserError
from feature_store.encoding.numbers import numbers_of, times_of
from feature_store.encoding.tokens import lists_of
from feature_store.kinds import (
    AnyFeature,
    DateFeature,
    IdFeature,
    ListFeature,
    NumericFeature,
    ScaledFeature,
)
from pipelines.statistics.summaries import ColumnSummary, Summary, summarise_column


def summarise_features(table: pa.Table, features: Sequence[AnyFeature]) -> Summary:
    """Sums up the columns of features: parts of joined text, numbers and dates of other text."""
    columns = {
        feature.name: _summary(feature, table[feature.name])
        for feature in features
        if not isinstance(feature, IdFeature)
    }
    return Summary(table.num_rows, columns)


def _summary(feature: AnyFeature, column: pa.ChunkedArray) -> ColumnSummary:
    if isinstance(feature, ListFeature) and feature.delimiter is not None:
        return summarise_column(lists_of(feature, column))
    array = plain_array(column)
    if isinstance(feature, DateFeature):
        times = times_of(array)
        # Values that are no dates are left out and counted, as NaN is among numbers.
        odd = times.null_count - array.null_count
        found = summarise_column(times)
        return replace(found, nulls=array.null_count, values=found.values + odd, invalid=odd)
    if isinstance(feature, NumericFeature) and pa.types.is_string(array.type):
        return replace(summarise_column(numbers_of(array)), type=str(array.type))
    return summarise_column(column)


def require_values(table: str, features: Sequence[AnyFeature], summary: Summary) -> None:
    """Checks that numbers and dates that are text are not all something else.

    Raises:
        UserError: No text of a column is a number, or no value of one is a date.
    """
    for feature in features:
        if not isinstance(feature, ScaledFeature):
            continue
        column = summary.columns[feature.name]
        what = "dates" if isinstance(feature, DateFeature) else "numbers"
        is_read = isinstance(feature, DateFeature) or column.type == "string"
        if is_read and 0 < column.values == column.invalid:
            raise UserError(
                f"{table} column {feature.name!r} holds no {what}; expected some for kind "
                f"{feature.kind}. Convert it, or set another kind."
            )
