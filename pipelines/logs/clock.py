"""The clock of a log: how the times of a column are read, and what its values say about it."""

from dataclasses import dataclass, replace
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from feature_store.calendar.reading import is_number_type, is_time_type, read_times
from feature_store.calendar.units import TimeUnit
from feature_store.core.times import microseconds, moment_of
from pipelines.logs.recognition import (
    AGE,
    Guess,
    guess_numbers,
    guess_text,
    is_of_age,
    start_of,
)
from pipelines.logs.sampling import ParquetTable

UNDERSTOOD = (
    "Arrow timestamps, dates, ISO-8601 and other text with year, month and day, digits such as "
    "20240105, and numbers since 1970 or another epoch"
)
UNIT_NAMES: dict[TimeUnit, str] = {
    "s": "seconds since 1970",
    "ms": "milliseconds since 1970",
    "us": "microseconds since 1970",
    "ns": "nanoseconds since 1970",
    "minutes": "minutes since 1970",
    "hours": "hours since 1970",
    "days": "days since 1970",
    "yyyymmdd": "digits of year, month, day and time",
    "excel": "days of Excel, since 1899-12-30",
    "julian": "Julian days",
    "apple": "seconds of Apple, since 2001",
    "webkit": "microseconds of WebKit, since 1601",
    "filetime": "ticks of Windows, 10 to a microsecond, since 1601",
    "dotnet": "ticks of .NET, 10 to a microsecond, since the year 1",
    "dmy": "day, month, year",
    "mdy": "month, day, year",
    "ymd": "year, month, day",
}

# Rows that show what a column holds.
_GLANCE = 20_000
# A clock that shows a time before this year, or after our age, shows none: 0, -1 and 1970-01-01
# stand for no time, and so do 9999-12-31 and numbers in another unit.
_PLACEHOLDERS_BEFORE = 1971
# Part of the values that may be no times before another unit than the given one is considered.
_FEW_ODD = 0.05
# Seconds since 1970 that end before the one year may be seconds since 2001 from the other year on.
_OLD, _APPLE_FROM = 1996, 2007


@dataclass(frozen=True)
class Clock:
    """The reading of a column of times.

    Attributes:
        unit: Meaning of numbers and of digits, or order of a text's parts; None: the values tell.
        is_real: Whether most values are dates of our age, so that others are no times. Otherwise
            they may be any numbers that put events in order.
    """

    unit: TimeUnit | None
    is_real: bool

    def read(self, column: pa.Array) -> pa.Array:
        """Converts a column to int64 microseconds since 1970; null where a value is no time."""
        times = read_times(column, self.unit)
        if not self.is_real:
            return times
        low, high = start_of(_PLACEHOLDERS_BEFORE), start_of(AGE[1])
        return pc.if_else(pc.and_(pc.greater_equal(times, low), pc.less(times, high)), times, None)


@dataclass(frozen=True)
class Recognised:
    """The evidence of a column's values about its times.

    Attributes:
        clock: Reading of the column.
        first: First of the times that were read; None where there is none.
        last: Last of them.
        odd: Part of the values that are no time; nulls do not count.
        empty: Part of the rows that are null.
        distinct: Number of different times among those that were read.
        example: A value; one that is no time where there is one.
        problem: Reason why it cannot be read, as a predicate; None where it can.
        doubt: Evidence against the reading, as a clause; empty where there is none.
        is_future: Whether most times lie in the future.
        choices: Units among which the values do not decide, or that fit better than the given one.
        needs_more: Whether more values may tell.
        is_empty: Whether all values are null.
    """

    clock: Clock
    first: datetime | None = None
    last: datetime | None = None
    odd: float = 0.0
    empty: float = 0.0
    distinct: int = 0
    example: str = ""
    problem: str | None = None
    doubt: str = ""
    is_future: bool = False
    choices: tuple[TimeUnit | None, ...] = ()
    needs_more: bool = False
    is_empty: bool = False

    @property
    def span(self) -> str:
        """First and last day, in words."""
        if self.first is None or self.last is None:
            return "no time"
        return f"{self.first:%Y-%m-%d} to {self.last:%Y-%m-%d}"


def recognise_column(
    table: ParquetTable, name: str, now: datetime, unit: TimeUnit | None = None
) -> Recognised:
    """Recognises the times of a column from a part of it; from more where that part is ambiguous.

    Args:
        table: Table of the events.
        name: Column.
        now: Time after which there are no events.
        unit: Unit that the configuration gives; None: it is recognised.
    """
    kind = table.schema.field(name).type
    if pa.types.is_time(kind):
        return _failed("holds no times with a date, but times of day")
    if not is_time_type(kind):
        return _failed("is null in every row" if pa.types.is_null(kind) else "holds no times")
    found = recognise(table.read(name, _GLANCE)[0], now, unit)
    if found.needs_more:
        found = recognise(table.read(name)[0], now, unit)
    return found


def recognise(column: pa.Array, now: datetime, unit: TimeUnit | None = None) -> Recognised:
    """Recognises the times of some values; see `recognise_column`."""
    rows, column = len(column), column.drop_null()
    if not len(column):
        return replace(_failed("is null in every row", needs_more=True), is_empty=True)
    guess = free = _guess(column, now)
    if unit is not None:
        guess = Guess(unit, free.is_real and free.unit == unit)
    if guess.problem is not None:
        return _failed(guess.problem, choices=guess.choices, needs_more=bool(guess.choices))
    times = read_times(column, guess.unit)
    if 2 * times.null_count > len(column):
        example = _example(column, times)
        if unit is None:
            found = _failed(f"holds no times that are understood, but {example}")
        else:
            found = _failed(f"holds {example}, which is not {UNIT_NAMES[unit]}")
    else:
        clock = Clock(guess.unit, guess.is_real or is_of_age(times.drop_null()))
        found = _read(clock, column, now)
    found = replace(found, empty=1 - len(column) / rows)
    if unit is None or (found.clock.is_real and found.odd <= _FEW_ODD):
        return found
    if free.is_mixed:
        return replace(found, doubt=f"it {free.problem}")
    other = recognise(column, now)
    fits = (
        other.problem is None
        and other.clock.is_real
        and (found.problem or not found.clock.is_real or other.odd < found.odd)
    )
    if not fits or other.clock.unit == unit:
        return found
    doubt = f"as {UNIT_NAMES[unit]}, they are {found.span}, {_as(other)}"
    return replace(found, doubt=doubt, choices=(other.clock.unit,))


def _read(clock: Clock, column: pa.Array, now: datetime) -> Recognised:
    times = clock.read(column)
    known = times.drop_null()
    first, last = (moment_of(time.as_py()) for time in pc.min_max(known).values())
    found = Recognised(
        clock,
        first,
        last,
        odd=times.null_count / len(times),
        distinct=len(pc.unique(known)),
        example=_example(column, times),
    )
    if clock.is_real and pc.quantile(known, 0.5)[0].as_py() > microseconds(now):
        doubt = f"most of them lie in the future ({found.span})"
        return replace(found, doubt=doubt, is_future=True)
    if clock.unit == "s" and last.year < _OLD:
        other = _read(Clock("apple", False), column, now)
        if (
            other.first is not None
            and other.last is not None
            and (other.first.year >= _APPLE_FROM and other.last < now)
        ):
            return replace(found, doubt=_as(other), choices=("apple",))
    return found


def _as(other: Recognised) -> str:
    unit = other.clock.unit
    return f"as {UNIT_NAMES[unit] if unit is not None else 'text'}, they would be {other.span}"


def _guess(column: pa.Array, now: datetime) -> Guess:
    if is_number_type(column.type):
        return guess_numbers(column, now)
    return guess_text(column, now) if pa.types.is_string(column.type) else Guess(None)


def _failed(
    problem: str, choices: tuple[TimeUnit | None, ...] = (), needs_more: bool = False
) -> Recognised:
    clock = Clock(None, False)
    return Recognised(clock, problem=problem, choices=choices, needs_more=needs_more)


def _example(column: pa.Array, times: pa.Array) -> str:
    """Returns the first value that is no time, otherwise the first one."""
    odd = column.filter(times.is_null())
    value = str((odd if len(odd) else column)[0].as_py())
    return repr(value[:40]) if pa.types.is_string(column.type) else value
