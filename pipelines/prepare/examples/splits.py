"""The split of each event: training, validation or test."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Ints
from feature_store.core.errors import UserError
from feature_store.core.hashing import crc32, crc32_continued
from feature_store.core.times import microseconds, span_of
from pipelines.prepared.examples import SPLITS
from pipelines.settings import ColdItems, GivenSplit, LeaveLastOut, RandomHash, Split, TimeSplit

TRAIN, VALIDATION, TEST = range(len(SPLITS))

# The least difference of two times.
_INSTANT = timedelta(microseconds=1)
_DAY = timedelta(days=1)
# Split by the remainder of a CRC-32 divided by 10.
_BY_REMAINDER = np.array([TEST, VALIDATION, *[TRAIN] * 8], np.int8)


def assign_splits(
    split: Split,
    *,
    query: Ints,
    query_ids: pa.Array,
    item: Ints,
    item_ids: pa.Array,
    time: Ints,
    given: Ints,
) -> Ints:
    """Returns the split of each event, an index into `SPLITS`, [events] int8.

    Args:
        split: Kind of split and its settings.
        query: Positions in `query_ids`, [events], sorted.
        query_ids: Distinct ids of the queries.
        item: Positions in `item_ids`, [events], sorted within a query by (time, id).
        item_ids: Distinct ids of the items.
        time: Microseconds, [events].
        given: Split that the log gives, [events].
    """
    match split:
        case GivenSplit():
            return given
        case TimeSplit(
            validation_from=datetime() as validation_from, test_from=datetime() as test_from
        ):
            is_held_out = time >= microseconds(validation_from)
            is_test = time >= microseconds(test_from)
            return np.where(is_test, TEST, np.where(is_held_out, VALIDATION, TRAIN)).astype(np.int8)
        case RandomHash():
            start = crc32(query_ids, suffix=b"\t")[query]
            return _BY_REMAINDER[crc32_continued(start, item, item_ids) % 10]
        case ColdItems():
            return _BY_REMAINDER[crc32(item_ids) % 10][item]
        case LeaveLastOut():
            return _leave_last_out(query)
        case TimeSplit():
            raise AssertionError("a moving split is placed before events are assigned")


class EventTimes(Protocol):
    """Times of the events of a log."""

    def moments(self) -> tuple[datetime, datetime]:
        """Returns the times of the first and of the last event."""
        ...

    def latest_until(self, moment: datetime, enough: datetime) -> datetime:
        """Returns the time of the latest event up to a moment, or of any that is after `enough`."""
        ...


def placed(
    split: Split, times: EventTimes, as_of: datetime | None, say: Callable[[str], None]
) -> Split:
    """Returns a split whose windows have bounds; one that does not move stays as it is.

    A validation of whole days counts back from the last day before the test that has events: the
    one before it may have been refused.

    Args:
        split: Kind of split and its settings.
        times: Times of the events.
        as_of: Time from which windows count back; None: that of the last event.
        say: Function called with a sentence on days without events that are passed over.

    Raises:
        UserError: The windows leave nothing to train on, or no event is within the test's.
    """
    if not isinstance(split, TimeSplit) or split.validation is None or split.test is None:
        return split
    first, last = times.moments()
    end = as_of or last
    test_from = _before(end, span_of(split.test))
    span = span_of(split.validation)
    validation_from = _before(test_from, span)
    if not span % _DAY and first <= validation_from and test_from < last:
        latest = times.latest_until(test_from, validation_from)
        days = (test_from - latest) // _DAY
        if latest <= validation_from:
            validation_from = _before(test_from, span + days * _DAY)
            say(
                f"data.split: no event is within the validation, {split.validation} before "
                f"{_shown(test_from)}, so it is the {split.validation} before "
                f"{_shown(_before(test_from, days * _DAY))}"
            )
    if validation_from < first:
        raise UserError(
            f"data.split: validation {split.validation} and test {split.test} before "
            f"{_shown(end)} begin {_shown(validation_from)}, before the first event "
            f"({_shown(first)}), so nothing is left to train on; shorten them, or give a longer "
            "log."
        )
    if last <= test_from:
        raise UserError(
            f"data.split: the last event is of {_shown(last)}, so none is within the test, "
            f"{split.test} before {_shown(end)}; give an earlier --as-of, lengthen "
            "data.split.test, or add the events that are missing."
        )
    # Bounds are in the part that they begin; the beginnings of windows are not.
    validation_from, test_from = (each + _INSTANT for each in (validation_from, test_from))
    return TimeSplit(validation_from=validation_from, test_from=test_from)


def require_windows(split: Split, validation: int, test: int) -> None:
    """Checks that windows hold events, of which neither would be measured without any.

    Args:
        split: Split as it is configured.
        validation: Number of validation examples.
        test: Number of test examples.

    Raises:
        UserError: A window is empty.
    """
    if not isinstance(split, TimeSplit):
        return
    for name, length, events in (
        ("validation", split.validation, validation),
        ("test", split.test, test),
    ):
        if length is not None and not events:
            raise UserError(
                f"data.split: no event is left within the {name}, {length} long; lengthen "
                f"data.split.{name}, or give another --as-of."
            )


def _before(end: datetime, span: timedelta) -> datetime:
    try:
        return end - span
    except OverflowError:  # It is before all years.
        return datetime.min.replace(tzinfo=end.tzinfo)


def _shown(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _leave_last_out(query: Ints) -> Ints:
    events = np.bincount(query)
    from_end = np.cumsum(events)[query] - np.arange(len(query))
    is_long = events[query] >= 3
    split = np.where(from_end == 1, TEST, np.where(from_end == 2, VALIDATION, TRAIN))
    return np.where(is_long, split, TRAIN).astype(np.int8)
