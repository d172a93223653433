"""Times of every type and form that logs use, as microseconds since 1970."""

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.calendar.numbers import number_times
from feature_store.calendar.text import text_times
from feature_store.calendar.units import TimeUnit

# Units of Arrow's types, by their names.
_ARROW_UNITS: dict[str, TimeUnit] = {"s": "s", "ms": "ms", "us": "us", "ns": "ns"}


def is_time_type(kind: pa.DataType) -> bool:
    """Checks whether a column of a `plain_type` can hold times; a time of day alone is none."""
    return (
        pa.types.is_timestamp(kind)
        or pa.types.is_date(kind)
        or pa.types.is_string(kind)
        or is_number_type(kind)
    )


def is_number_type(kind: pa.DataType) -> bool:
    """Checks whether a column holds numbers, whose unit must be known."""
    return bool(
        pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    )


def read_times(column: pa.Array, unit: TimeUnit | None) -> pa.Array:
    """Converts times to int64 microseconds since 1970, with null for every value that is no time.

    Times without a zone are in UTC.

    Args:
        column: Values of a type for which `is_time_type` holds.
        unit: Meaning of numbers and of strings of digits, or the order of a text's parts; None:
            only Arrow's times and strings that can be read in one way.

    Raises:
        ValueError: These are numbers, and there is no unit.
    """
    kind = column.type
    if pa.types.is_timestamp(kind):
        return number_times(pc.cast(column, pa.int64()), _ARROW_UNITS[kind.unit])
    if pa.types.is_date32(kind):
        return number_times(pc.cast(column, pa.int32()), "days")
    if pa.types.is_date64(kind):
        return number_times(pc.cast(column, pa.int64()), "ms")
    if pa.types.is_string(kind):
        return text_times(column, unit)
    if unit is None:
        raise ValueError("numbers need a unit")
    if unit in ("dmy", "mdy", "ymd"):
        return pa.nulls(len(column), pa.int64())
    return number_times(column, unit)
