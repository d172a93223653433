"""Times as integers: microseconds since 1970 in UTC, as logs, histories and bundles hold them."""

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
