"""Numbers as times: units since 1970, other epochs, and the digits of a calendar."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.calendar.civil import Day, of_date
from feature_store.calendar.units import TimeUnit
from feature_store.core.columns import Ints
from feature_store.core.times import DAY, HOUR, SECOND

# The first and the last time that a `datetime` holds, microseconds since 1970.
EARLIEST, LATEST = -719_162 * DAY, 2_932_897 * DAY - 1


@dataclass(frozen=True)
class _Scale:
    """A count of equal steps since an epoch.

    Attributes:
        micros: Microseconds of `steps` steps.
        steps: Number of steps in `micros`.
        epoch: Time of zero, microseconds since 1970.
    """

    micros: int
    steps: int = 1
    epoch: int = 0


_SCALES: dict[TimeUnit, _Scale] = {
    "s": _Scale(SECOND),
    "ms": _Scale(1_000),
    "us": _Scale(1),
    "ns": _Scale(1, 1_000),
    "minutes": _Scale(60 * SECOND),
    "hours": _Scale(HOUR),
    "days": _Scale(DAY),
    "excel": _Scale(DAY, epoch=-25_569 * DAY),
    "julian": _Scale(DAY, epoch=-2_440_587 * DAY - DAY // 2),
    "apple": _Scale(SECOND, epoch=11_323 * DAY),
    "webkit": _Scale(1, epoch=-134_774 * DAY),
    "filetime": _Scale(1, 10, epoch=-134_774 * DAY),
    "dotnet": _Scale(1, 10, epoch=-719_162 * DAY),
}
# Digits of a calendar, YYYYMMDDHHMMSSmmm or less, by their number.
_DIGITS = (4, 6, 8, 10, 12, 14, 17)


def is_number_unit(unit: TimeUnit | None) -> bool:
    """Checks whether a unit tells how numbers are read, and not the order of a text's parts."""
    return unit is not None and (unit in _SCALES or unit == "yyyymmdd")


def number_times(column: pa.Array, unit: TimeUnit) -> pa.Array:
    """Converts numbers of any type to int64 microseconds since 1970; null where they are no time.

    Parts of a microsecond are cut from whole numbers, and rounded from others.
    """
    is_whole = pa.types.is_integer(column.type)
    approximate = pc.cast(column, pa.float64(), safe=False)
    if unit == "yyyymmdd":
        fits = pc.and_(
            pc.less(pc.abs(approximate), 1e17), pc.equal(approximate, pc.floor(approximate))
        )
        whole = pc.cast(pc.if_else(fits, column if is_whole else approximate, None), pa.int64())
        return _of_digits(whole)
    scale = _SCALES[unit]
    size = scale.micros / scale.steps
    since = pc.add(approximate, scale.epoch / size)
    # NaN fits nowhere. The bounds are those of a sum that cannot overflow.
    fits = pc.and_(pc.greater_equal(since, EARLIEST / size), pc.less_equal(since, LATEST / size))
    if is_whole:
        fits = pc.and_(fits, pc.less(pc.abs(approximate), 2.0**63))
        numbers = pc.cast(pc.if_else(fits, column, None), pa.int64())
        times = pc.divide(pc.multiply(numbers, scale.micros), scale.steps)
        times = pc.add(times, scale.epoch)
    else:
        times = pc.cast(pc.round(pc.multiply(pc.if_else(fits, since, None), size)), pa.int64())
    within = pc.and_(pc.greater_equal(times, EARLIEST), pc.less_equal(times, LATEST))
    return pc.if_else(within, times, None)


def _of_digits(column: pa.Array) -> pa.Array:
    """Converts the digits of calendars; what a number has no digits for is at its beginning."""
    is_null = column.is_null().to_numpy(zero_copy_only=False)
    numbers: Ints = pc.fill_null(column, 0).to_numpy()
    full, known = np.zeros(len(numbers), np.int64), np.zeros(len(numbers), bool)
    for digits in _DIGITS:
        fits = (numbers >= 10 ** (digits - 1)) & (numbers < 10**digits)
        first = {4: 101 * 10**9, 6: 10**9}.get(digits, 0)
        full[fits] = numbers[fits] * 10 ** (17 - digits) + first
        known |= fits
    fields = []
    for width in (3, 2, 2, 2, 2, 2):
        full, part = np.divmod(full, 10**width)
        fields.append(part)
    milli, second, minute, hour, day, month = fields
    times, valid = of_date(full, month, day, Day(hour, minute, second, 1_000 * milli))
    return pa.array(times, mask=is_null | ~known | ~valid)
