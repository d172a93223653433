"""Guesses of what numbers and texts mean as times, from their values.

A form is taken where it reads what no other does: as dates of our age, with a majority of the
values. Where two orders of day, month and year read all of them, none is taken.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.calendar.reading import read_times
from feature_store.calendar.text import NUMBER, PARTS
from feature_store.calendar.units import TimeUnit
from feature_store.core.columns import Bools
from feature_store.core.times import SECOND, microseconds

# Years of dates of our age: the first one, and the first one after them.
AGE = (1980, 2100)
_PLAIN: tuple[TimeUnit, ...] = ("s", "ms", "us", "ns")
_MAGNITUDES: tuple[tuple[float, TimeUnit], ...] = ((1e11, "s"), (1e14, "ms"), (1e17, "us"))
# Other units, which need dates from these years up to now. So no number is a date by two of them
# or by a plain one, except that ticks of .NET are nanoseconds of 1990.
_OTHERS: dict[TimeUnit, int] = {
    "dotnet": 2000,
    "filetime": 1990,
    "webkit": 1990,
    "julian": 1990,
    "excel": 1995,
    "days": 1990,
    "hours": 2000,
    "minutes": 2009,
}
_ORDERS: tuple[TimeUnit, ...] = ("dmy", "mdy", "ymd")
_ORDER_NAMES = {"dmy": "day/month/year", "mdy": "month/day/year", "ymd": "year/month/day"}
# Part of the values that are dates of our age; or where the others are few different placeholders,
# such as 0 and 9999-12-31.
_NEARLY_ALL, _MAJORITY, _FEW = 0.99, 0.5, 5
# An order of parts is chosen where another one alone reads at most this part of what only it reads.
_MISTAKES = 0.01


@dataclass(frozen=True)
class Guess:
    """The meaning of values as times.

    Attributes:
        unit: Meaning of numbers, or order of the parts of text; None: the values tell, or nothing
            fits.
        is_real: Whether numbers of this unit are dates of our age.
        problem: Reason why nothing fits, as a predicate; None where something may.
        choices: Units that read the values equally well.
        is_mixed: Whether numbers are dates, each in one of several units.
    """

    unit: TimeUnit | None
    is_real: bool = False
    problem: str | None = None
    choices: tuple[TimeUnit, ...] = ()
    is_mixed: bool = False


def start_of(year: int) -> int:
    """Returns the microseconds from 1970 to a year."""
    return microseconds(datetime(year, 1, 1, tzinfo=UTC))


def is_of_age(times: pa.Array) -> bool:
    """Checks whether times are dates of our age, but for a few placeholders.

    A constant that stands for no time repeats, or is at least a whole second.
    """
    inside = _within(times, start_of(AGE[0]), start_of(AGE[1]))
    others = times.to_numpy()[~inside]
    repeat = len(others) >= 2 * len(np.unique(others))
    is_constant = (others % SECOND == 0) | (others >= start_of(AGE[1]))
    is_rare = len(others) <= (1 - _NEARLY_ALL) * len(times)
    return _fits(times, inside) and (is_rare or repeat or bool(is_constant.all()))


def guess_numbers(column: pa.Array, now: datetime) -> Guess:
    """Guesses the unit of numbers, or of strings of digits, none of which is null."""
    low, high = (start_of(year) for year in AGE)
    if _fits(column, _within(read_times(column, "yyyymmdd"), low, high)):
        return Guess("yyyymmdd", True)
    for unit, year in _OTHERS.items():
        if _fits(column, _within(read_times(column, unit), start_of(year), _end(now))):
            return Guess(unit, True)
    inside = {unit: _within(read_times(column, unit), low, high) for unit in _PLAIN}
    best = max(inside, key=lambda unit: int(inside[unit].sum()))
    # Seconds and milliseconds in one column: the majority's unit is taken.
    mixed = np.logical_or.reduce(list(inside.values()))
    if _fits(column, inside[best]) or (inside[best].mean() > _MAJORITY and _fits(column, mixed)):
        return Guess(best, True)
    if _fits(column, mixed):
        some = _of_each(inside, column)
        return Guess(None, problem=f"holds numbers of several units, such as {some}", is_mixed=True)
    return Guess(_by_magnitude(column))


def guess_text(column: pa.Array, now: datetime) -> Guess:
    """Guesses the unit of the digits, or the order of the parts, of strings without null."""
    read = read_times(column, None).is_valid()
    stripped = pc.utf8_trim_whitespace(column)
    digits = pc.and_not(pc.match_substring_regex(stripped, NUMBER), read)
    parts = pc.and_not(pc.match_substring_regex(stripped, PARTS), read)
    of_text, of_digits, of_parts = (int(pc.sum(mask).as_py()) for mask in (read, digits, parts))
    if of_parts > max(of_text, of_digits):
        return _guess_order(column.filter(parts), now)
    if of_digits > of_text:
        guess, example = guess_numbers(stripped.filter(digits), now), column.filter(digits)[0]
        if guess.is_real or guess.problem is not None:
            return guess
        return Guess(None, problem=f"holds digits that are no dates, such as {example.as_py()!r}")
    # Few of another form are read, too, where they leave no doubt.
    if of_digits > of_parts:
        guess = guess_numbers(stripped.filter(digits), now)
        return Guess(guess.unit if guess.is_real else None)
    return Guess(_guess_order(column.filter(parts), now).unit if of_parts else None)


def _end(now: datetime) -> int:
    return microseconds(now + timedelta(days=366))


def _within(times: pa.Array, low: int, high: int) -> Bools:
    inside = pc.and_(pc.greater_equal(times, low), pc.less(times, high))
    return np.asarray(pc.fill_null(inside, False).to_numpy(zero_copy_only=False))


def _fits(values: pa.Array, inside: Bools) -> bool:
    share = inside.mean() if len(inside) else 0.0
    if share >= _NEARLY_ALL:
        return True
    return bool(share > _MAJORITY and len(pc.unique(values.filter(pa.array(~inside)))) <= _FEW)


def _of_each(inside: dict[TimeUnit, Bools], column: pa.Array) -> str:
    """Returns a value of each unit of which there are some, with the unit's name."""
    some = {unit: column.filter(pa.array(mask)) for unit, mask in inside.items() if mask.any()}
    return " and ".join(f"{part[0].as_py()} ({unit})" for unit, part in some.items())


def _by_magnitude(column: pa.Array) -> TimeUnit:
    """Returns the unit by the number of digits, ten for seconds."""
    if pa.types.is_string(column.type):
        column = pc.replace_substring_regex(column, r"^\+", "")
    numbers = pc.cast(column, pa.float64(), safe=False).to_numpy()
    finite = numbers[np.isfinite(numbers)]
    middle = abs(float(np.median(finite))) if len(finite) else 0.0
    return next((unit for limit, unit in _MAGNITUDES if middle < limit), "ns")


def _guess_order(column: pa.Array, now: datetime) -> Guess:
    """Guesses the order of day, month and year: one that alone reads what others do not."""
    reads = {order: _within(read_times(column, order), start_of(1), _end(now)) for order in _ORDERS}

    def beats(order: TimeUnit, other: TimeUnit) -> bool:
        alone, against = (reads[order] & ~reads[other]).sum(), (reads[other] & ~reads[order]).sum()
        return bool(alone and against <= _MISTAKES * alone)

    for order in _ORDERS:
        if all(beats(order, other) for other in _ORDERS if other != order):
            return Guess(order)
    best = max(int(mask.sum()) for mask in reads.values())
    equal = tuple(order for order in _ORDERS if int(reads[order].sum()) == best)
    example = repr(column[0].as_py()[:40])
    if len(equal) > 1 and all((reads[equal[0]] == reads[order]).all() for order in equal):
        names = " and ".join(_ORDER_NAMES[order] for order in equal)
        return Guess(
            None, problem=f"holds dates such as {example}, which fit {names}", choices=equal
        )
    only = [
        column.filter(pa.array(reads["dmy"] & ~reads["mdy"])),
        column.filter(pa.array(reads["mdy"] & ~reads["dmy"])),
    ]
    both = " and ".join(repr(part[0].as_py()[:40]) for part in only if len(part))
    return Guess(None, problem=f"holds dates of different orders, such as {both or example}")
