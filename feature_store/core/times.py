"""Times as integers: microseconds since 1970 in UTC, as logs, histories and bundles hold them."""

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND, HOUR, DAY = 1_000_000, 3_600_000_000, 86_400_000_000  # Microseconds.


def as_utc(moment: datetime) -> datetime:
    """Returns the moment in UTC; one without a time zone is in UTC already."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def microseconds(moment: datetime) -> int:
    """Returns the microseconds since 1970; a moment without a time zone is in UTC."""
    return (as_utc(moment) - EPOCH) // timedelta(microseconds=1)


def moment_of(time: int) -> datetime:
    """Returns the moment, in UTC, of microseconds since 1970: the inverse of `microseconds`."""
    return EPOCH + timedelta(microseconds=time)


# Units of a duration, the longest first.
_UNITS = {
    "w": timedelta(weeks=1),
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
}
_DURATION = re.compile(r"([1-9][0-9]{0,7})([wdhms])", re.ASCII)


def span_of(duration: str) -> timedelta:
    """Returns the length of a duration such as `7d`.

    Raises:
        ValueError: It is none.
    """
    match = _DURATION.fullmatch(duration)
    if match is None:
        raise ValueError(
            f"{duration[:40]!r} is no duration: expected a whole number of weeks, days, hours, "
            "minutes or seconds, such as 2w, 7d, 12h, 30m or 10s"
        )
    return int(match[1]) * _UNITS[match[2]]


def duration_of(span: timedelta) -> str:
    """Returns a span of whole seconds as a duration, in days or the longest unit below that fits.

    It is the inverse of `span_of`, but for weeks.
    """
    unit = next(name for name, length in _UNITS.items() if name != "w" and not span % length)
    return f"{span // _UNITS[unit]}{unit}"
