"""Microseconds since 1970 of the fields of calendars, for whole arrays at once."""

from dataclasses import dataclass, field

import numpy as np

from feature_store.core.columns import Bools, Ints
from feature_store.core.times import DAY, HOUR, SECOND

_MINUTE = 60 * SECOND
_ZERO: Ints = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Day:
    """The time of day of each value.

    Args:
        hour: Hours, [values] or [1]; 24 only at the end of a day.
        minute: Minutes, the same shape.
        second: Seconds, the same shape; 60 is a leap second, which is the next minute's first.
        micro: Microseconds of the second, the same shape.
        offset: Minutes that the value's clock is ahead of UTC, the same shape.
    """

    hour: Ints = field(default_factory=lambda: _ZERO)
    minute: Ints = field(default_factory=lambda: _ZERO)
    second: Ints = field(default_factory=lambda: _ZERO)
    micro: Ints = field(default_factory=lambda: _ZERO)
    offset: Ints = field(default_factory=lambda: _ZERO)

    def microseconds(self) -> Ints:
        """Returns the microseconds to add to the start of the day in UTC."""
        minutes = 60 * self.hour + self.minute - self.offset
        return minutes * _MINUTE + self.second * SECOND + self.micro

    def is_valid(self) -> Bools:
        """Checks which values are times of a day."""
        end = (self.hour == 24) & (self.minute + self.second + self.micro == 0)
        fits = (self.hour <= 23) & (self.minute <= 59) & (self.second <= 60)
        return (fits | end) & (np.abs(self.offset) <= 18 * HOUR // _MINUTE)


def of_date(year: Ints, month: Ints, day: Ints, time: Day) -> tuple[Ints, Bools]:
    """Returns the microseconds of dates, and which of them exist, each [values]."""
    fits = (year >= 1) & (year <= 9999) & (month >= 1) & (month <= 12)
    months = _months(np.where(fits, year, 1970), np.where(fits, month, 1))
    start, end = _days(months), _days(months + 1)
    valid = fits & (day >= 1) & (day <= end - start) & time.is_valid()
    return (start + np.where(valid, day - 1, 0)) * DAY + time.microseconds(), valid


def of_ordinal(year: Ints, day: Ints, time: Day) -> tuple[Ints, Bools]:
    """Returns the microseconds of the days of years, the first being 1, and which exist."""
    fits = (year >= 1) & (year <= 9999)
    start, end = (_days(_months(np.where(fits, year, 1970) + n, np.array([1]))) for n in (0, 1))
    valid = fits & (day >= 1) & (day <= end - start) & time.is_valid()
    return (start + np.where(valid, day - 1, 0)) * DAY + time.microseconds(), valid


def of_week(year: Ints, week: Ints, weekday: Ints, time: Day) -> tuple[Ints, Bools]:
    """Returns the microseconds of ISO-8601 weeks' days, Monday being 1, and which exist."""
    fits = (year >= 1) & (year <= 9998)
    first, after = (_first_week(np.where(fits, year, 1970) + n) for n in (0, 1))
    days = first + 7 * (week - 1) + weekday - 1
    valid = fits & (week >= 1) & (first + 7 * (week - 1) < after) & time.is_valid()
    valid &= (weekday >= 1) & (weekday <= 7)
    return np.where(valid, days, 0) * DAY + time.microseconds(), valid


def _first_week(year: Ints) -> Ints:
    """Returns the days from 1970 to the Monday of the week that holds January 4."""
    fourth = _days(_months(year, np.array([1]))) + 3
    return fourth - (fourth + 3) % 7  # 1970-01-01 was a Thursday.


def _months(year: Ints, month: Ints) -> Ints:
    return (year - 1970) * 12 + month - 1


def _days(months: Ints) -> Ints:
    """Returns the days from 1970 to the first day of months, which are counted from 1970."""
    starts = months.astype("datetime64[M]").astype("datetime64[D]")
    return starts.astype(np.int64)
