"""Recognition of the times of a column from its values."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from feature_store.core.times import microseconds
from pipelines.logs.clock import recognise

NOW = datetime(2024, 6, 1, tzinfo=UTC)
SECONDS = 1_700_000_000 + np.random.default_rng(0).integers(0, 90 * 86_400, 1000)
TIMES = pa.array(SECONDS, pa.timestamp("s"))
SPAN = "2023-11-14 to 2024-02-12"


def text(form: str, times: pa.Array = TIMES) -> pa.Array:
    return pc.strftime(times, form)


def digits(form: str) -> pa.Array:
    return pc.cast(text(form), pa.int64())


def as_text(numbers: Any) -> pa.Array:
    return pc.cast(pa.array(numbers), pa.string())


@pytest.mark.parametrize(
    ("column", "unit"),
    [
        (pa.array(SECONDS), "s"),
        (pa.array(SECONDS + 0.5), "s"),
        (as_text(SECONDS), "s"),
        (pa.array([f" {second}.125" for second in SECONDS]), "s"),
        (pa.array([f"{second:.7e}" for second in SECONDS]), "s"),
        (as_text(SECONDS * 1000), "ms"),
        (as_text(SECONDS * 10**6), "us"),
        (pa.array(SECONDS * 10**9), "ns"),
        (pa.array(SECONDS // 60), "minutes"),
        (as_text(SECONDS // 3600), "hours"),
        (pa.array(SECONDS // 86_400), "days"),
        (pa.array(SECONDS / 86_400 + 25_569), "excel"),
        (pa.array(SECONDS / 86_400 + 2_440_587.5), "julian"),
        (pa.array((SECONDS + 11_644_473_600) * 10**6), "webkit"),
        (pa.array((SECONDS + 11_644_473_600) * 10**7), "filetime"),
        (pa.array((SECONDS + 62_135_596_800) * 10**7), "dotnet"),
        (digits("%Y%m%d"), "yyyymmdd"),
        (pc.cast(digits("%Y%m%d"), pa.float64()), "yyyymmdd"),
        (text("%Y%m%d%H"), "yyyymmdd"),
        (digits("%Y%m%d%H%M"), "yyyymmdd"),
        (text("%Y%m%d%H%M%S"), "yyyymmdd"),
        (text("%Y%m%d"), None),
        (text("%d/%m/%Y %H:%M:%S"), "dmy"),
        (text("%d.%m.%y"), "dmy"),
        (text("%m/%d/%Y"), "mdy"),
        (text("%m/%d/%y %H:%M"), "mdy"),
        (text("%y/%m/%d"), "ymd"),
        (text("%Y/%m/%d %H:%M:%S"), None),
        (text("%d/%b/%Y:%H:%M:%S +0000"), None),
        (TIMES, None),
    ],
)
def test_forms_that_only_one_reading_fits(column: pa.Array, unit: str | None) -> None:
    found = recognise(column, NOW)
    assert (found.clock.unit, found.clock.is_real, found.problem) == (unit, True, None)
    assert (found.span, found.odd, found.doubt) == (SPAN, 0, "")
    if unit is not None:  # It is read the same where the configuration says so.
        assert recognise(column, NOW, found.clock.unit).span == SPAN


def test_years_and_months_alone() -> None:
    assert recognise(pa.array([1998, 2004, 2011]), NOW).span == "1998-01-01 to 2011-01-01"
    assert recognise(digits("%Y%m"), NOW).span == "2023-11-01 to 2024-02-01"


def replaced(column: Any, value: Any, every: int) -> pa.Array:
    return pa.array([value if n % every == 0 else v for n, v in enumerate(column)])


@pytest.mark.parametrize(
    ("column", "example"),
    [
        (replaced(SECONDS.tolist(), 0, 5), "0"),
        (replaced(SECONDS.tolist(), -1, 20), "-1"),
        (replaced((SECONDS + 0.5).tolist(), float("nan"), 4), "nan"),
        (replaced(digits("%Y%m%d").to_pylist(), 99991231, 10), "99991231"),
        (replaced(text("%Y-%m-%d").to_pylist(), "9999-12-31", 10), "'9999-12-31'"),
        (replaced(text("%Y-%m-%d %H:%M:%S").to_pylist(), "1970-01-01 00:00:00", 4), "'1970-01-01"),
        (replaced(as_text(SECONDS).to_pylist(), "N/A", 3), "'N/A'"),
        (replaced(TIMES.to_pylist(), datetime(1, 1, 1), 10), "0001-01-01"),
        # Milliseconds among seconds: the majority decides.
        (pa.array([s * 1000 if s % 10 == 0 else s for s in SECONDS.tolist()]), "1"),
    ],
)
def test_placeholders_and_other_units_are_no_times(column: pa.Array, example: str) -> None:
    found = recognise(column, NOW)
    assert found.clock.is_real
    assert found.span == SPAN
    assert 0.04 < found.odd < 0.35
    assert found.example.startswith(example)
    times = found.clock.read(column)
    assert times.null_count / len(times) == pytest.approx(found.odd)
    assert pc.min(times).as_py() > microseconds(datetime(2023, 11, 1, tzinfo=UTC))


def test_epochs_among_text_are_read_too() -> None:
    mixed = [
        str(s) if s % 3 == 0 else str(datetime.fromtimestamp(s, UTC)) for s in SECONDS.tolist()
    ]
    found = recognise(pa.array(mixed), NOW)
    assert (found.clock.unit, found.odd, found.span) == ("s", 0, SPAN)
    assert found.clock.read(pa.array(mixed)).to_pylist() == (SECONDS * 10**6).tolist()


BIRTHDAYS = [date(1950, 1, 1) + timedelta(days=20 * n) for n in range(1000)]


@pytest.mark.parametrize(
    "column",
    [
        np.tile(np.arange(50), 20),
        np.arange(20_000),
        np.random.default_rng(0).integers(0, 2**32, 1000),
        np.random.default_rng(0).integers(0, 2**62, 1000),
        BIRTHDAYS,
        [f"{day:%d/%m/%Y}" for day in BIRTHDAYS],
        [str(day) for day in BIRTHDAYS[:-20]] + ["1700000000"] * 20,
    ],
    ids=[
        "positions",
        "rows",
        "hashes",
        "long hashes",
        "birthdays",
        "day first",
        "epochs among them",
    ],
)
def test_numbers_and_dates_that_are_no_clock_are_only_an_order(column: Any) -> None:
    array = pa.array(column)
    found = recognise(array, NOW)
    assert not found.clock.is_real
    assert found.problem is None
    assert found.clock.read(array).null_count == 0


def test_days_and_months_that_cannot_be_told_apart() -> None:
    early = pa.array(1_704_067_200 + 40_000 * np.arange(20), pa.timestamp("s"))
    found = recognise(text("%d/%m/%Y", early), NOW)
    assert "'01/01/2024', which fit day/month/year and month/day/year" in (found.problem or "")
    assert (found.choices, found.needs_more) == (("dmy", "mdy"), True)
    both = pa.concat_arrays([text("%d/%m/%Y"), text("%m/%d/%Y")])
    assert "of different orders" in (recognise(both, NOW).problem or "")
    # A typing error does not make an order.
    rare = pa.concat_arrays([*[text("%d/%m/%Y")] * 2, pa.array(["01/13/2024"])])
    assert recognise(rare, NOW).clock.unit == "dmy"


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (["12:30"] * 9, "holds no times that are understood, but '12:30'"),
        (["2 days ago", "yesterday"], "but '2 days ago'"),
        ([str(n % 28) for n in range(90)], "holds digits that are no dates, such as '0'"),
        (pa.nulls(9, pa.int64()), "is null in every row"),
    ],
)
def test_what_no_reading_fits(column: Any, words: str) -> None:
    column = column if isinstance(column, pa.Array) else pa.array(column)
    assert words in (recognise(column, NOW).problem or "")


def test_readings_that_are_doubtful() -> None:
    apple = recognise(pa.array(SECONDS - 978_307_200), NOW)
    assert apple.clock.unit == "s"
    assert apple.doubt == f"as seconds of Apple, since 2001, they would be {SPAN}"
    assert apple.choices == ("apple",)
    mac = recognise(pa.array(SECONDS + 2_082_844_800), NOW)
    assert mac.is_future
    assert "lie in the future (2089-11-14" in mac.doubt


UNLIKE: dict[str, tuple[Callable[[], pa.Array], Any, Any]] = {
    "digits as seconds": (lambda: digits("%Y%m%d"), "s", "yyyymmdd"),
    "text of digits as seconds": (lambda: text("%Y%m%d"), "s", None),
    "milliseconds as seconds": (lambda: pa.array(SECONDS * 1000), "s", "ms"),
    "seconds as milliseconds": (lambda: pa.array(SECONDS), "ms", "s"),
    "another order": (lambda: text("%m/%d/%Y"), "dmy", "mdy"),
}


@pytest.mark.parametrize("case", UNLIKE)
def test_a_given_unit_that_does_not_fit(case: str) -> None:
    column, given, better = UNLIKE[case]
    found = recognise(column(), NOW, given)
    assert found.choices == (better,)
    assert SPAN in found.doubt
    assert recognise(column(), NOW, better).doubt == ""


@pytest.mark.parametrize("form", [pa.array, as_text], ids=["numbers", "text"])
def test_numbers_of_several_units(form: Callable[[Any], pa.Array]) -> None:
    is_few = np.arange(1000) % 10 == 0
    for unit in (None, "ms"):  # `init` writes the unit, which must not make seconds dates of 1970.
        found = recognise(form(np.where(is_few, SECONDS, SECONDS * 1000)), NOW, unit)
        assert (found.clock.unit, found.clock.is_real, found.span) == ("ms", True, SPAN)
        assert found.odd == 0.1
    half = form(np.where(np.arange(1000) % 2, SECONDS, SECONDS * 1000))
    found = recognise(half, NOW)
    assert found.problem is not None
    assert "holds numbers of several units, such as" in found.problem
    assert "(s) and" in found.problem
    assert "it holds numbers of several units" in recognise(half, NOW, "ms").doubt
