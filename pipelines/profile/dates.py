"""Dates in the columns of items and queries: those that a feature can read, and others."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.calendar.text import PARTS
from feature_store.core.arrow import missing_ids
from feature_store.core.times import DAY, moment_of
from feature_store.encoding.numbers import times_of
from pipelines.logs.clock import UNIT_NAMES, recognise

# Values that are looked at, spread evenly, and the part of them that are dates.
_LOOKED_AT = 20_000
_FROM = 0.8
# Digits of a day, and the years of such dates.
_DIGITS = (10_000_101, 99_991_231)
_YEARS = (1800, 2200)


@dataclass(frozen=True)
class Dates:
    """The dates of a column.

    Attributes:
        form: Form of the values. read: a feature of kind date reads them; number: numbers in a
            unit since some day, which order them as they are; unclear: text in which the year is
            not first, and which no feature reads.
        first: First of them; None where they are unclear.
        last: Last of them.
        odd: Part of the values that are no dates; nulls do not count.
        example: A value that is no date, or of unclear dates any; empty where there is none.
        skewness: Skewness of the dates.
        unit: Unit of the numbers, in words.
    """

    form: Literal["read", "number", "unclear"]
    first: date | None = None
    last: date | None = None
    odd: float = 0.0
    example: str = ""
    skewness: float = 0.0
    unit: str = ""

    @property
    def span(self) -> str:
        """First and last date, in words."""
        return f"{self.first} to {self.last}"


def find_dates(array: pa.Array, *, named_so: bool) -> Dates | None:
    """Recognises dates; None where values are none.

    Args:
        array: Values of a column.
        named_so: Whether the name says that these are dates or times, so that numbers may be some.
    """
    step = max(1, len(array) // _LOOKED_AT)
    some = array.take(pa.array(np.arange(0, len(array), step)))
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return _read(some.drop_null())
    if pa.types.is_string(kind):
        return _of_text(some.filter(pc.invert(missing_ids(some))))
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind)
    return _of_numbers(some.drop_null(), named_so) if is_number else None


def _of_text(texts: pa.Array) -> Dates | None:
    # Numbers are no dates here, but for the digits of days, which have eight.
    plain = pc.match_substring_regex(texts, r"^\s*[+-]?[0-9.]*\s*$")
    days = pc.match_substring_regex(texts, r"^[12][0-9]{7}$")
    if not len(texts) or pc.mean(pc.and_(plain, pc.invert(days))).as_py() > 1 - _FROM:
        return None
    found = _read(texts)
    if found is not None:
        return found
    unclear = pc.match_substring_regex(pc.utf8_trim_whitespace(texts), PARTS)
    if pc.mean(unclear).as_py() < _FROM:
        return None
    return Dates("unclear", example=texts.filter(unclear)[0].as_py())


def _of_numbers(numbers: pa.Array, named_so: bool) -> Dates | None:
    values = pc.cast(numbers, pa.float64(), safe=False).to_numpy()
    if len(values) and _DIGITS[0] <= np.median(values) <= _DIGITS[1]:
        found = _read(numbers)
        if found is not None and (named_so or found.odd == 0):
            return found
    if not named_so or not len(values):
        return None
    recognised = recognise(numbers, datetime.now(UTC))
    unit = recognised.clock.unit
    if not recognised.clock.is_real or unit is None or unit == "yyyymmdd":
        return None
    assert recognised.first is not None
    assert recognised.last is not None
    first, last = recognised.first.date(), recognised.last.date()
    return Dates("number", first, last, unit=UNIT_NAMES[unit])


def _read(values: pa.Array) -> Dates | None:
    """Reads values as a feature does; None where they are no dates, or all the same one."""
    times = times_of(values).cast(pa.int64())
    known = times.drop_null()
    if not len(known) or len(known) < _FROM * len(values) or len(pc.unique(known)) < 2:
        return None
    first, middle, last = (
        moment_of(int(time)).date() for time in np.quantile(known.to_numpy(), [0, 0.5, 1])
    )
    if not _YEARS[0] <= middle.year <= _YEARS[1]:
        return None
    odd = values.filter(times.is_null())
    example = str(odd[0].as_py()) if len(odd) else ""
    days = known.to_numpy() / DAY
    return Dates("read", first, last, len(odd) / len(values), example, skewness(days))


def skewness(numbers: npt.NDArray[np.float64]) -> float:
    """Computes the skewness of some numbers; 0 where they are all the same."""
    centred = numbers - numbers.mean()
    deviation = float(np.sqrt((centred**2).mean()))
    return float((centred**3).mean()) / deviation**3 if deviation > 0 else 0.0
