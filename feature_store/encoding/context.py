"""The context of an event: raw values in one type for every log, and features of its time."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import map_elements, plain_array, token_of, token_strings
from feature_store.core.columns import Column, Dense, Ints, Jagged
from feature_store.core.errors import UserError
from feature_store.core.times import DAY, HOUR, microseconds, moment_of
from feature_store.encoding.numbers import numbers_of, times_of
from feature_store.encoding.tokens import lists_of
from feature_store.kinds import (
    AnyFeature,
    ColumnFeature,
    IdFeature,
    ListFeature,
    Raw,
    TimeFeature,
)

# Types that raw values are kept in.
_RAW_TYPES: dict[Raw, pa.DataType] = {
    "token": pa.string(),
    "tokens": pa.list_(pa.string()),
    "text": pa.string(),
    "number": pa.float64(),
    "numbers": pa.list_(pa.float64()),
    "date": pa.timestamp("us"),
}

# Marks a raw time that is not known.
NO_TIME = np.iinfo(np.int64).min

# Time zones change at whole quarters of an hour.
_QUARTER = HOUR // 4
# Bounds of Python's dates, with a day to spare for the zone.
_FIRST, _LAST = (microseconds(datetime(*day, tzinfo=UTC)) for day in ((1, 1, 2), (9999, 12, 30)))


def raw_values(feature: ColumnFeature, column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Casts a column of the events to the one type that the feature's values are kept in.

    So the pieces of a log agree, and a request's values equal those of the log: the position 3 is
    "3", as the category 3 is, and all numbers are float64.
    """
    array = lists_of(feature, column) if isinstance(feature, ListFeature) else plain_array(column)
    kind = _RAW_TYPES[feature.raw]
    if pa.types.is_null(array.type):
        return array.cast(kind)
    match feature.raw:
        case "token" | "text":
            return token_strings(array)
        case "tokens":
            return map_elements(array, token_strings)
        case "number":
            return numbers_of(array)
        case "date":
            return times_of(array)
        case "numbers":
            return array.cast(kind, safe=False)


def time_values(feature: TimeFeature, time: Ints, previous: Ints) -> pa.Array:
    """Computes the raw values of a feature of time: microseconds, null where not known.

    Args:
        feature: Part of the time.
        time: Times of the events, [rows] microseconds since 1970, or `NO_TIME`.
        previous: Times of the events before them, [rows].
    """
    if feature.part != "recency":
        return pa.array(time, mask=time == NO_TIME)
    is_unknown = (time == NO_TIME) | (previous == NO_TIME)
    return pa.array(
        np.where(is_unknown, 0, time - np.where(is_unknown, 0, previous)), mask=is_unknown
    )


def encode_time(feature: TimeFeature, values: pa.ChunkedArray | pa.Array) -> Column:
    """Encodes the raw values of `time_values`.

    Hours are rows 0 to 23, and weekdays 0 (Monday) to 6. Recency is log(1 + seconds), divided by
    that of a day, minus 1: -1 for the same moment, 0 for a day, and about 0.5 for a year.
    """
    array = plain_array(values)
    present = array.is_valid().to_numpy(zero_copy_only=False)
    if feature.part == "recency":
        seconds = pc.fill_null(array, 0).to_numpy() / 1e6
        numbers = np.log1p(np.maximum(seconds, 0.0)) / np.log1p(DAY / 1e6) - 1
        return Dense(np.where(present, numbers, 0.0).astype(np.float32)[:, None], present)
    local = _local(array.drop_null().to_numpy(), feature.zone)
    # The first of January 1970 was a Thursday.
    rows = local // HOUR % 24 if feature.part == "hour" else (local // DAY + 3) % 7
    return Jagged.from_lengths(rows.astype(np.int32), present.astype(np.int64))


def request_table(
    features: tuple[AnyFeature, ...], values: Mapping[str, Any], time: int, previous: Ints
) -> pa.Table:
    """Builds the raw context of requests that are made at one moment, as an encoder takes it.

    Args:
        features: Features of the context.
        values: JSON values by feature name; null and missing values are absent.
        time: Time of the requests, microseconds since 1970.
        previous: Time of each query's latest event, or `NO_TIME`, [rows].

    Raises:
        UserError: No feature of that name can be given, or a value is of another kind.
    """
    rows = len(previous)
    columns = {"": pa.nulls(rows)}  # Without any column the table would have no rows.
    columns |= given_columns(features, values, rows, "context")
    for feature in features:
        if isinstance(feature, TimeFeature):
            columns[feature.name] = time_values(feature, np.full(rows, time), previous)
    return pa.table(columns)


def given_columns(
    features: tuple[AnyFeature, ...], values: Mapping[str, Any], rows: int, what: str
) -> dict[str, pa.Array]:
    """Repeats each value of a request in all rows, in the type of the feature's raw values.

    Args:
        features: Features of the model.
        values: JSON values by feature name; null and missing values are absent.
        rows: Number of rows.
        what: Noun for the values, for errors.

    Raises:
        UserError: No feature of that name can be given, or a value is of another kind.
    """
    _refuse_unknown(features, values, what)
    columns = {}
    for feature in features:
        if values.get(feature.name) is not None:
            assert not isinstance(feature, IdFeature | TimeFeature)
            columns[feature.name] = _given_values(feature, values[feature.name], rows, what)
    return columns


def _refuse_unknown(features: tuple[AnyFeature, ...], values: Mapping[str, Any], what: str) -> None:
    kinds = {feature.name: feature for feature in features}
    given = [feature.name for feature in features if not feature.why_not_given]
    expected = f"expected some of {', '.join(given)}" if given else "this model takes none"
    for name in values:
        if name in given:
            continue
        if name in kinds:
            raise UserError(f"{what} {name!r} {kinds[name].why_not_given}; leave it out.")
        close = get_close_matches(name, given, 1)
        hint = f"did you mean {close[0]!r}?" if close else "leave it out."
        raise UserError(f"{what} has no {name!r}, {expected}; {hint}")


def _given_values(feature: ColumnFeature, value: Any, rows: int, what: str) -> pa.Array:
    """Repeats a JSON value in all rows, in the type of the feature's raw values."""
    if isinstance(feature, ListFeature) and feature.delimiter and isinstance(value, str):
        value = [part.strip() for part in value.split(feature.delimiter)]
    is_list, width = isinstance(value, list | tuple), feature.dense_width
    match feature.raw:
        case "number":
            fits, expected = _is_number(value), "a number"
        case "date":
            fits, expected = _is_date(value), "a date, such as 2024-01-31"
        case "numbers":
            fits = is_list and len(value) == width and all(map(_is_number, value))
            expected = f"a list of {width} numbers"
        case "text":
            fits, expected = isinstance(value, str), "a string"
        case "token":
            fits, expected = token_of(value) is not None, "a string, a number or a boolean"
        case "tokens":
            fits = is_list and all(token_of(each) is not None for each in value)
            expected = "a list of strings"
    wrong = UserError(f"{what} {feature.name!r} is {value!r}; expected {expected}.")
    if not fits:
        raise wrong
    if feature.is_sparse:
        value = [token_of(each) for each in value] if is_list else token_of(value)
    try:
        if feature.raw == "date":
            return times_of(pa.array([str(value)] * rows))
        return pa.array([value] * rows, _RAW_TYPES[feature.raw])
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        raise wrong from error


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _is_date(value: Any) -> bool:
    is_written = isinstance(value, str | int) and not isinstance(value, bool)
    return is_written and times_of(pa.array([str(value)])).null_count == 0


def _local(times: Ints, zone: str) -> Ints:
    """Converts UTC to the clocks of a zone, in microseconds since 1970."""
    if zone == "UTC":
        return times
    quarters, position = np.unique(np.clip(times, _FIRST, _LAST) // _QUARTER, return_inverse=True)
    offset_at = partial(_offset, ZoneInfo(zone))
    offsets = np.array([offset_at(quarter) for quarter in quarters.tolist()], np.int64)
    return times + offsets[position]


def _offset(zone: ZoneInfo, quarter: int) -> int:
    """Computes how far a zone's clocks are ahead of UTC, in microseconds."""
    moment = moment_of(quarter * _QUARTER).astimezone(zone)
    return (moment.utcoffset() or timedelta()) // timedelta(microseconds=1)
