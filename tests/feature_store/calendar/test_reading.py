"""Times of every type and form that logs hold, as microseconds."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, get_args

import pyarrow as pa
import pytest

from feature_store.calendar.reading import read_times
from feature_store.calendar.units import TimeUnit
from feature_store.core.times import microseconds
from pipelines.logs.clock import UNIT_NAMES, recognise

NOON = datetime(2026, 11, 22, 12, 0, 0, 250_000, UTC)
SECONDS = int(NOON.timestamp())
DAY = datetime(2026, 11, 22, tzinfo=UTC)
FIFTH = datetime(2024, 1, 5, 12, 30, tzinfo=UTC)


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
    assert read_times(column, unit).to_pylist() == [microseconds(moment), None]
    if not pa.types.is_temporal(array.type):
        assert recognise(array, NOON).clock.unit == unit


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
# The same moment, 2024-01-05 12:30 in UTC, as logs of all kinds write it.
ONE_MOMENT = """
    2024-01-05T12:30:00.000000123Z
    2024-01-05T12:30:00,000+0000
    2024-01-05T12:30Z
    2024-01-05T14:30:00+02
    2024-01-05 07:30:00 -05:00
    2024-01-05 04:30 PST
    2024-01-05T13:30:00+01:00[Europe/Paris]
    20240105T123000Z
    20240105 12:30:00
    2024/01/05 12:30:00
    2024/1/5 12:30 PM
    2024.01.05 12.30.00
    2024-W01-5T12:30
    2024W015T123000
    2024-005T12:30
    2024-Jan-05 12:30
    05-JAN-24 12.30.00.000000 PM
    05JAN2024:12:30:00
    5 January 2024 12:30
    05/Jan/2024:12:30:00 +0000
    05/Jan/2024:14:30:00 +0200
    Fri, 05 Jan 2024 12:30:00 GMT
    Fri, 5 Jan 2024 07:30:00 -0500
    Friday, January 5th, 2024 at 12:30 pm
    Jan 5, 2024 12:30:00 PM
    Fri Jan  5 12:30:00 2024
    Fri Jan  5 12:30:00 UTC 2024
    Fri Jan 05 12:30:00 +0000 2024
    Fri Jan 05 2024 13:30:00 GMT+0100 (Central European Standard Time)
"""


def test_text_with_and_without_time_zones_in_one_column() -> None:
    column = pa.array([*TEXTS, None])
    expected = [*map(microseconds, TEXTS.values()), None]
    assert read_times(column, None).to_pylist() == expected
    for text, moment in TEXTS.items():
        assert read_times(pa.array([text]), None).to_pylist() == [microseconds(moment)]


def test_text_of_every_form_alone_and_in_one_column() -> None:
    texts = [text.strip() for text in ONE_MOMENT.strip().splitlines()]
    expected = microseconds(FIFTH)
    for text in texts:
        for written in (text, f" {text} ", text.lower()):
            assert read_times(pa.array([written]), None).to_pylist() == [expected], written
    assert read_times(pa.array([*texts, None]), None).to_pylist() == [expected] * len(texts) + [
        None
    ]
    days = {"2024-02": (2024, 2, 1), "2024-060": (2024, 2, 29), "2020W537": (2021, 1, 3)}
    found = read_times(pa.array([*days]), None).to_pylist()
    assert found == [microseconds(datetime(*day, tzinfo=UTC)) for day in days.values()]


def test_the_edges_of_calendars_and_clocks() -> None:
    midnight = microseconds(datetime(2017, 1, 1, tzinfo=UTC))
    for text in ("2016-12-31T24:00:00", "2016-12-31T23:59:60Z", "Jan 1, 2017 12:00 AM"):
        assert read_times(pa.array([text]), None).to_pylist() == [midnight]
    wrong = """2023-02-29 2023-366 2024-00-10 2024-01-05T24:01 2024-01-05T13:00PM 2024-01-05T12:60
        2024-W54-1 2021-W53-1 2024-W01-8 2024-01-05T12:00+19:00 2024-01-05T12:00IST 5-Foo-2024
        0000-00-00 12:30 1764000000 99999999999999999999"""
    found = read_times(pa.array(wrong.split()), None).to_pylist()
    assert found == [None] * len(wrong.split())


def test_what_is_no_time_is_null_and_its_neighbours_are_not() -> None:
    texts = ["", "soon", "2026-13-22", "20261322", "2026-11-22 25:00", "1764000000", "2026-11-22x"]
    column = pa.array([*texts, "2026-11-22", "2026-11-22T12:00:00.25Z"])
    found = read_times(column, None).to_pylist()
    assert found == [None] * len(texts) + [microseconds(DAY), microseconds(NOON)]
    numbers = pa.array([1e300, float("nan"), float("inf"), 1.5])
    assert read_times(numbers, "s").to_pylist() == [None, None, None, 1_500_000]
    assert read_times(pa.array([2**62, 5]), "s").to_pylist() == [None, 5_000_000]
    assert read_times(pa.array([2**64 - 1, 5000], pa.uint64()), "ns").to_pylist() == [None, 5]
    # Arrow's own types hold times that no calendar of ours has.
    assert read_times(pa.array([10**15, 1], pa.timestamp("s")), None).to_pylist() == [None, 10**6]


@pytest.mark.parametrize(
    ("unit", "number"),
    [
        ("s", 1_704_457_800),
        ("minutes", 28_407_630),
        ("hours", 473_460.5),
        ("days", 19_727 + 12.5 / 24),
        ("excel", 45_296 + 12.5 / 24),
        ("julian", 2_460_315 + 0.5 / 24),
        ("apple", 726_150_600),
        ("webkit", 13_348_931_400_000_000),
        ("filetime", 133_489_314_000_000_000),
        ("dotnet", 638_400_546_000_000_000),
        ("yyyymmdd", 202_401_051_230),
        ("yyyymmdd", 20_240_105_123_000),
        ("yyyymmdd", 20_240_105_123_000_000),
    ],
)
def test_numbers_of_other_epochs_and_calendars(unit: Any, number: float) -> None:
    expected = pytest.approx(microseconds(FIFTH), abs=20)
    assert read_times(pa.array([number]), unit)[0].as_py() == expected
    assert read_times(pa.array([repr(number), "?"]), unit).to_pylist() == [expected, None]


def test_digits_of_calendars_and_the_order_of_parts() -> None:
    def day(value: Any, unit: Any) -> str | None:
        micros = read_times(pa.array([value]), unit)[0].as_py()
        return (
            None
            if micros is None
            else f"{datetime.fromtimestamp(micros / 1e6, UTC):%Y-%m-%d %H:%M}"
        )

    assert day(1998, "yyyymmdd") == "1998-01-01 00:00"
    assert day(202402, "yyyymmdd") == "2024-02-01 00:00"
    assert day("2024022923", "yyyymmdd") == "2024-02-29 23:00"
    for wrong in (20230229, 20241301, 5, 123, -20240105, 20240105.5):
        assert day(wrong, "yyyymmdd") is None
    assert day("05/01/2024", "dmy") == day("1.5.2024", "mdy") == "2024-01-05 00:00"
    assert day("05-01-24 1:05 pm", "dmy") == day("24/01/05 13:05", "ymd") == "2024-01-05 13:05"
    for text, unit in (("13/01/2024", "mdy"), ("05/01/2024", "ymd"), ("05/01/2024", "s")):
        assert day(text, unit) is None
    assert day(20240105, "dmy") is None


def test_every_unit_has_a_name() -> None:
    assert set(UNIT_NAMES) == set(get_args(TimeUnit))
    with pytest.raises(ValueError, match="need a unit"):
        read_times(pa.array([1]), None)
