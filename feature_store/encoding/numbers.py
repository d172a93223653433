"""Numbers and dates in raw columns of any type, which both become float64."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.calendar.numbers import number_times
from feature_store.calendar.reading import is_number_type, read_times
from feature_store.calendar.text import NUMBER, text_times
from feature_store.core.arrow import plain_array
from feature_store.core.times import DAY


def numbers_of(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Converts numbers, booleans and text to float64; NaN where a text is no number."""
    array = plain_array(column)
    if not pa.types.is_string(array.type):
        return pc.cast(array, pa.float64(), safe=False)
    texts = pc.utf8_trim_whitespace(array)
    is_number = pc.match_substring_regex(texts, NUMBER)
    numbers = pc.cast(pc.if_else(is_number, texts, None), pa.float64())
    return pc.if_else(pc.and_not(texts.is_valid(), numbers.is_valid()), np.nan, numbers)


def times_of(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Converts dates to timestamps in microseconds; null where a value is none.

    Text has the year first, or the month by its name. Digits, in text or as whole numbers, are
    those of a year, a month or a day: 2024, 202401, 20240105.
    """
    array = plain_array(column)
    if pa.types.is_null(array.type):
        return array.cast(pa.timestamp("us"))
    if pa.types.is_string(array.type):
        times = text_times(array, "yyyymmdd")
    elif is_number_type(array.type):
        times = number_times(array, "yyyymmdd")
    else:
        times = read_times(array, None)
    return times.cast(pa.timestamp("us"))


def days_of(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    """Converts dates to float64 days since 1970; null where a value is none."""
    micros = times_of(column).cast(pa.int64())
    return pc.divide(pc.cast(micros, pa.float64(), safe=False), float(DAY))
