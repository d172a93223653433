"""Timestamps of every type that logs use, as microseconds since 1970."""

from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Unit = Literal["s", "ms", "us", "ns"]

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

_DATE = r"^\d{4}-\d{2}-\d{2}|^\d{8}$"
_DAY = r"^(\d{4})(\d{2})(\d{2})$"
_ZONE = r"[T ].*(Z|[+-]\d{2}(:?\d{2})?)$"


def timestamp_unit(column: pa.Array) -> Unit:
    """Guesses the unit of integer timestamps from their magnitude: seconds have ten digits."""
    numbers = pc.cast(column.drop_null(), pa.float64(), safe=False).to_numpy()
    finite = numbers[np.isfinite(numbers)]
    middle = abs(float(np.median(finite))) if len(finite) else 0.0
    limits: list[tuple[float, Unit]] = [(1e11, "s"), (1e14, "ms"), (1e17, "us")]
    return next((unit for limit, unit in limits if middle < limit), "ns")


def to_microseconds(column: pa.Array, unit: Unit) -> pa.Array:
    """Converts timestamps of any accepted type to int64 microseconds since 1970; default zone UTC.

    Args:
        column: Numbers in `unit`, whole or not, Arrow timestamps, dates, or ISO-8601 strings.
        unit: Unit of numbers.

    Raises:
        pyarrow.ArrowInvalid: A string is not ISO-8601, or a number is too large.
        pyarrow.ArrowNotImplementedError: The type is none of these.
    """
    factor = 1_000_000 / _PER_SECOND[unit]
    if pa.types.is_integer(column.type):
        numbers = pc.cast(column, pa.int64())
        if factor >= 1:
            return pc.multiply_checked(numbers, int(factor))
        return pc.divide(numbers, int(1 / factor))
    if pa.types.is_floating(column.type) or pa.types.is_decimal(column.type):
        numbers = pc.cast(column, pa.float64(), safe=False)
        finite = pc.if_else(pc.is_finite(numbers), numbers, None)
        return pc.cast(pc.round(pc.multiply(finite, factor)), pa.int64())
    if pa.types.is_string(column.type):
        column = _from_text(column)
    time_zone = column.type.tz if pa.types.is_timestamp(column.type) else None
    return pc.cast(pc.cast(column, pa.timestamp("us", time_zone), safe=False), pa.int64())


def _from_text(column: pa.Array) -> pa.Array:
    """Parses strings as Arrow timestamps; those without a time zone are in UTC."""
    in_utc = pa.timestamp("us", "UTC")
    for kind in (pa.timestamp("us"), in_utc):  # Either no string has a time zone, or all have.
        try:
            return pc.cast(column, kind)
        except pa.ArrowInvalid:
            continue
    text = pc.replace_substring_regex(column, _DAY, r"\1-\2-\3")
    text = pc.replace_substring_regex(text, " UTC$", "Z")
    has_zone = pc.match_substring_regex(text, _ZONE)
    with_zone = pc.cast(pc.if_else(has_zone, text, None), in_utc)
    without = pc.cast(pc.if_else(has_zone, None, text), pa.timestamp("us"))
    return pc.coalesce(with_zone, pc.cast(without, in_utc))


def parse_microseconds(column: pa.Array, unit: Unit) -> pa.Array:
    """Converts as `to_microseconds` does, with null for every value that is no time."""
    if pa.types.is_string(column.type):
        is_date = pc.match_substring_regex(column, _DATE)
        return _parse(pc.if_else(is_date, column, None), unit)
    if not pa.types.is_temporal(column.type):
        largest = 2.0**62 / 1_000_000 * _PER_SECOND[unit]
        fits = pc.less_equal(pc.abs(pc.cast(column, pa.float64(), safe=False)), largest)
        column = pc.if_else(fits, column, None)
    return _parse(column, unit)


def _parse(column: pa.Array, unit: Unit) -> pa.Array:
    """Splits the column in halves until only single values fail, of which there are few."""
    try:
        return to_microseconds(column, unit)
    except pa.ArrowInvalid:
        if len(column) == 1:
            return pa.nulls(1, pa.int64())
    half = len(column) // 2
    return pa.concat_arrays([_parse(column[:half], unit), _parse(column[half:], unit)])
