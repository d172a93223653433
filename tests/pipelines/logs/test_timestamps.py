"""Times of every type that logs hold, as microseconds."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from feature_store.core.times import microseconds
from pipelines.logs.timestamps import parse_microseconds, timestamp_unit, to_microseconds

NOON = datetime(2026, 11, 22, 12, 0, 0, 250_000, UTC)
SECONDS = int(NOON.timestamp())
DAY = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("array", "unit", "moment"),
    [
        (pa.array([SECONDS]), "s", NOON.replace(microsecond=0)),
        (pa.array([SECONDS], pa.uint32()), "s", NOON.replace(microsecond=0)),
        (pa.array([SECONDS + 0.25]), "s", NOON),
        (pa.array([SECONDS * 1000.0 + 250]), "ms", NOON),
        (pa.array([SECONDS * 1_000_000_000 + 250_000_999]), "ns", NOON),
        (pa.array([Decimal(f"{SECONDS}.250000")]), "s", NOON),
        (pa.array([SECONDS * 1000 + 250]).cast(pa.timestamp("ms")), "s", NOON),
        (pa.array([NOON], pa.timestamp("ns", "Asia/Tokyo")), "s", NOON),
        (pa.array([date(2026, 11, 22)], pa.date32()), "s", DAY),
        (pa.array([date(2026, 11, 22)], pa.date64()), "s", DAY),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_numbers_timestamps_and_dates(array: pa.Array, unit: Any, moment: datetime) -> None:
    column = pa.concat_arrays([array, pa.nulls(1, array.type)])
    assert to_microseconds(column, unit).to_pylist() == [microseconds(moment), None]
    assert parse_microseconds(column, unit).to_pylist() == [microseconds(moment), None]
    if not pa.types.is_temporal(array.type):
        assert timestamp_unit(array) == unit


TEXTS = {
    "2026-11-22": DAY,
    "20261122": DAY,
    "2026-11-22 12:00:00.25": NOON,
    "2026-11-22T12:00:00.250000Z": NOON,
    "2026-11-22 12:00:00.25 UTC": NOON,
    "2026-11-22T14:00:00.25+02:00": NOON,
    "2026-11-22T07:00:00.25-0500": datetime(
        2026, 11, 22, 7, 0, 0, 250_000, timezone(-timedelta(hours=5))
    ),
}


def test_text_with_and_without_time_zones_in_one_column() -> None:
    column = pa.array([*TEXTS, None])
    expected = [*map(microseconds, TEXTS.values()), None]
    assert to_microseconds(column, "s").to_pylist() == expected
    assert parse_microseconds(column, "s").to_pylist() == expected
    for text, moment in TEXTS.items():
        assert to_microseconds(pa.array([text]), "s").to_pylist() == [microseconds(moment)]


def test_what_is_no_time_is_null_and_its_neighbours_are_not() -> None:
    texts = ["", "soon", "2026-13-22", "20261322", "2026-11-22 25:00", "1764000000", "2026-11-22x"]
    column = pa.array([*texts, "2026-11-22", "2026-11-22T12:00:00.25Z"])
    found = parse_microseconds(column, "s").to_pylist()
    assert found == [None] * len(texts) + [microseconds(DAY), microseconds(NOON)]
    for text in texts:
        with pytest.raises(pa.ArrowInvalid):
            to_microseconds(pa.array([text]), "s")
    numbers = pa.array([1e300, float("nan"), float("inf"), 1.5])
    assert parse_microseconds(numbers, "s").to_pylist() == [None, None, None, 1_500_000]
    assert parse_microseconds(pa.array([2**62, 5]), "s").to_pylist() == [None, 5_000_000]
