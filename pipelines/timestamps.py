"""Timestamps of every type that logs use, as microseconds since 1970."""

from datetime import UTC, datetime, timedelta
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Unit = Literal["s", "ms", "us", "ns"]

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_DATE = r"^\d{4}-\d{2}-\d{2}"
_ZONE = r"[T ].*(Z|[+-]\d{2}(:?\d{2})?)$"


def timestamp_unit(column: pa.Array) -> Unit:
    """The unit of integer timestamps, by magnitude: seconds have ten digits."""
    numbers = pc.cast(column.drop_null(), pa.float64(), safe=False).to_numpy()
    finite = numbers[np.isfinite(numbers)]
    middle = abs(float(np.median(finite))) if len(finite) else 0.0
    limits: list[tuple[float, Unit]] = [(1e11, "s"), (1e14, "ms"), (1e17, "us")]
    return next((unit for limit, unit in limits if middle < limit), "ns")


def to_microseconds(column: pa.Array, unit: Unit) -> pa.Array:
    """Timestamps of any accepted type as int64 microseconds since 1970; no time zone means UTC.

    Args:
        column: Whole numbers in `unit`, Arrow timestamps, dates, or ISO-8601 strings.
        unit: The unit of numbers.

    Raises:
        pyarrow.ArrowInvalid: A string is not ISO-8601, or a number is too large.
        pyarrow.ArrowNotImplementedError: The type is another.
    """
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        finite = pc.if_else(pc.is_finite(column), column, None)
        numbers = pc.cast(finite, pa.int64(), safe=False)
        factor = 1_000_000 / _PER_SECOND[unit]
        if factor >= 1:
            return pc.multiply_checked(numbers, int(factor))
        return pc.divide(numbers, int(1 / factor))
    if pa.types.is_string(column.type):
        try:
            column = pc.cast(column, pa.timestamp("us"))
        except pa.ArrowInvalid:  # With a time zone in every string, or not ISO-8601.
            column = pc.cast(column, pa.timestamp("us", "UTC"))
    time_zone = column.type.tz if pa.types.is_timestamp(column.type) else None
    return pc.cast(pc.cast(column, pa.timestamp("us", time_zone), safe=False), pa.int64())


def parse_microseconds(column: pa.Array, unit: Unit) -> pa.Array:
    """As `to_microseconds`, with null in place of every value that is no time."""
    if pa.types.is_string(column.type):
        is_date = pc.match_substring_regex(column, _DATE)
        has_zone = pc.match_substring_regex(column, _ZONE)
        with_zone = pc.if_else(pc.and_(is_date, has_zone), column, None)
        without = pc.if_else(pc.and_(is_date, pc.invert(has_zone)), column, None)
        parts = (_parse(pc.cast(part, pa.string()), unit) for part in (with_zone, without))
        return pc.coalesce(*parts)
    if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
        largest = 2.0**62 / 1_000_000 * _PER_SECOND[unit]
        fits = pc.less_equal(pc.abs(pc.cast(column, pa.float64(), safe=False)), largest)
        column = pc.if_else(fits, column, None)
    return _parse(column, unit)


def _parse(column: pa.Array, unit: Unit) -> pa.Array:
    """Halves the column until what fails is single values; few of them do."""
    try:
        return to_microseconds(column, unit)
    except pa.ArrowInvalid:
        if len(column) == 1:
            return pa.nulls(1, pa.int64())
    half = len(column) // 2
    return pa.concat_arrays([_parse(column[:half], unit), _parse(column[half:], unit)])


def as_utc(moment: datetime) -> datetime:
    """With a time zone; none means UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def microseconds(moment: datetime) -> int:
    """Since 1970; no time zone means UTC."""
    return (as_utc(moment) - _EPOCH) // timedelta(microseconds=1)


def moment_of(time: int) -> datetime:
    """The inverse of `microseconds`, in UTC."""
    return _EPOCH + timedelta(microseconds=time)
