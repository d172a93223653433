"""The column of times that `recsys init` chooses, and what it says about it."""

import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from rich.console import Console

from feature_store.core.times import span_of
from pipelines.settings import TimeSplit
from recsys.config.config import Config
from tests.support.logs.init_logs import START, init, log, refusal

EVENTS = log()
TIMES = pa.array(EVENTS["timestamp"], pa.timestamp("s"))


def said(directory: Path, columns: dict[str, Any], **options: Any) -> tuple[Config, str]:
    """Runs init on events with these columns besides the ids, and returns what it prints."""
    events = {name: EVENTS[name] for name in ("query_id", "item_id")} | columns
    output = io.StringIO()
    config = init(directory, events, console=Console(file=output), **options)
    return config, output.getvalue()


def days_of_test(config: Config) -> timedelta:
    assert isinstance(config.data.split, TimeSplit)
    assert config.data.split.test is not None
    return span_of(config.data.split.test)


def text(form: str) -> pa.Array:
    return pc.strftime(TIMES, form)


FORMS: dict[str, tuple[Any, str | None, str]] = {
    "nanoseconds in ISO text": (
        pa.array([f"{t}.123456789Z" for t in text("%Y-%m-%dT%H:%M:%S").to_pylist()]),
        None,
        "",
    ),
    "slashes": (text("%Y/%m/%d %H:%M:%S"), None, ""),
    "text of an epoch": (pc.cast(TIMES.cast(pa.int64()), pa.string()), "s", "seconds since 1970, "),
    "digits": (pc.cast(text("%Y%m%d"), pa.int64()), "yyyymmdd", "digits of year"),
    "dictionary": (text("%d-%b-%Y").dictionary_encode(), None, ""),
    "day first": (text("%d.%m.%Y %H:%M"), "dmy", "day, month, year, "),
    "Excel": (pa.array(EVENTS["timestamp"] / 86_400 + 25_569), "excel", "days of Excel"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_cut_of_seconds(tmp_path: Path, form: str) -> None:
    expected, _ = said(tmp_path, {"timestamp": EVENTS["timestamp"]})
    column, unit, words = FORMS[form]
    config, output = said(tmp_path, {"timestamp": column})
    assert config.data.columns.timestamp == "timestamp"
    assert config.data.columns.timestamp_unit == unit
    # Whole days are before the times of day that they are cut from.
    assert abs(days_of_test(config) - days_of_test(expected)) <= timedelta(days=1)
    if words:
        assert f"init: the time of events is 'timestamp': {words}" in output
        assert "2020-09-1" in output
        assert "WARNING" not in output
    else:
        assert output == ""


def test_a_column_that_cannot_be_read_is_never_passed_over(tmp_path: Path) -> None:
    seconds = 1_704_067_200 + EVENTS["timestamp"] % (11 * 86_400)
    january = pa.array(np.append(1_704_067_200, seconds[1:]), pa.timestamp("s"))
    early = pc.strftime(january, "%d/%m/%Y")
    for name, column, words in (
        ("timestamp", early, "'01/01/2024', which fit day/month/year and month/day/year"),
        ("purchased", early, "--timestamp-unit dmy or mdy (data.columns.timestamp_unit)"),
        ("time", ["12:30"] * 400, "'12:30', and so is not read as times. Understood are"),
        ("ts", pa.array([45_000] * 400, pa.time32("ms")), "(time32[ms]) holds no times"),
        ("date", pa.nulls(400, pa.string()), "is null in every row"),
        ("day", 1 + np.arange(400) % 28, "holds days of a month, such as 1"),
        ("dt", [str(n % 28) for n in range(400)], "holds digits that are no dates, such as '0'"),
        ("ts", EVENTS["timestamp"] + 2_082_844_800, "most of them lie in the future (2086-"),
    ):
        config, output = said(tmp_path, {name: column})
        assert config.data.columns.timestamp is None
        assert f"WARNING: column {name!r}" in output
        assert words in output
        assert "The log has no time." not in (tmp_path / "config.yaml").read_text()
    config, output = said(tmp_path, {"timestamp": early}, timestamp_unit="dmy")
    assert (config.data.columns.timestamp_unit, config.data.split.kind) == ("dmy", "time")
    config, output = said(
        tmp_path, {"purchased": early}, timestamp="purchased", timestamp_unit="mdy"
    )
    assert config.data.columns.timestamp == "purchased"


def test_what_the_user_says_is_checked(tmp_path: Path) -> None:
    events = EVENTS | {"note": ["soon"] * 400}
    assert "expected one of: s, ms" in refusal(tmp_path, events, timestamp_unit="weeks")
    assert "no such column, but query_id" in refusal(tmp_path, events, timestamp="at")
    assert "but 'soon'" in refusal(tmp_path, events, timestamp="note")
    assert "no column is read so" in refusal(tmp_path, events, timestamp_unit="julian")
    timeless = {name: events[name] for name in ("query_id", "item_id")} | {"time": ["soon"] * 400}
    for split in ("leave_last_out", "time"):
        asked = refusal(tmp_path, timeless, split=split)
        assert "column 'time' (string) holds no times that are understood, but 'soon'" in asked

    """Checks `--split time` where few of the test queries have training events."""
    """Queries without training events make `init` choose another one."""
    queries, start = np.repeat(np.arange(200), 5), np.repeat(np.sort(np.arange(200)), 5)
    times = START + 86_400 * start + np.tile([0, 60, 3_600, 5_000, 9_000], 200)
    events = {"query_id": queries, "item_id": EVENTS["item_id"][np.arange(1_000) % 400]}
    events |= {"timestamp": times}
    assert init(tmp_path, events).data.split.kind == "leave_last_out"
    config = init(tmp_path, events, split="time")
    assert config.data.split == TimeSplit(validation="20d", test="19d")
    assert config.data.history.kind == "past"
    positions = events | {"timestamp": np.tile(np.arange(5), 200)}
    assert "or the times in 'timestamp' are no dates" in refusal(tmp_path, positions, split="time")


def test_times_that_are_not_used_are_named(tmp_path: Path) -> None:
    config, output = said(tmp_path, {"timestamp": np.full(400, START)})
    assert config.data.columns.timestamp is None
    assert "'timestamp' is not used: The order is unknown: 100 % of events" in output


def test_placeholders_are_counted_and_do_not_move_the_cut(tmp_path: Path) -> None:
    expected, _ = said(tmp_path, {"timestamp": EVENTS["timestamp"]})
    times = np.where(np.arange(400) % 20 == 0, 0, EVENTS["timestamp"])
    config, output = said(tmp_path, {"timestamp": times})
    assert "5 % of its values are no time, such as 0" in output
    assert abs(days_of_test(config) - days_of_test(expected)) < timedelta(days=10)


def test_the_column_is_chosen_by_evidence(tmp_path: Path) -> None:
    days = TIMES.cast(pa.date32())
    released = pa.array(START - 86_400 * (EVENTS["item_id"] % 50 + 1), pa.timestamp("s"))
    joined = pa.array(START - 3_600 * EVENTS["query_id"] - 5, pa.timestamp("s"))
    born = pa.array(EVENTS["query_id"] * 10**7 - 10**9, pa.timestamp("s"))
    later = pa.array(EVENTS["timestamp"] + 50, pa.timestamp("s"))
    for columns, chosen in (
        ({"date": released, "bought": TIMES}, "bought"),
        ({"updated_at": later, "created_at": TIMES}, "created_at"),
        ({"updated_at": later, "bought": TIMES}, "bought"),
        ({"day": days, "signup": joined, "at": TIMES, "birthday": born}, "day"),
        ({"time": np.tile(np.arange(10), 40), "seen": TIMES, "release": released}, "seen"),
        ({"visited": days, "seen": TIMES}, "seen"),
        ({"timestamp": ["?"] * 400, "seen": TIMES}, "seen"),
    ):
        config, output = said(tmp_path, columns)
        assert config.data.columns.timestamp == chosen
        assert f"the time of events is {chosen!r}" in output
        for other in columns.keys() - {chosen, "birthday"}:
            assert f"{other!r}" in output
        if len(columns) == 2 and "timestamp" not in columns:
            assert "to change it, give --timestamp-column" in output


def test_long_numbers_without_a_name_are_asked_about(tmp_path: Path) -> None:
    snowflakes = EVENTS["timestamp"] * 10**9 + EVENTS["item_id"]
    for column in (snowflakes, [str(number) for number in snowflakes]):
        config, output = said(tmp_path, {"tweet": column})
        assert config.data.columns.timestamp is None
        assert "column 'tweet' may hold times (nanoseconds since 1970, 2020-09-1" in output
        assert "give --timestamp-column tweet" in output
    assert said(tmp_path, {"tweet": snowflakes, "ts": EVENTS["timestamp"]})[1] == ""


def test_events_without_a_time_are_warned_of(tmp_path: Path) -> None:
    half = pa.array([t if n % 2 else None for n, t in enumerate(EVENTS["timestamp"].tolist())])
    assert "WARNING: the time of events is 'ts'" in said(tmp_path, {"ts": half})[1]
    german = text("%d. %b %Y").to_pylist()
    german = [day.replace("Dec", "Dez").replace("May", "Mai") for day in german]
    output = said(tmp_path, {"ts": german})[1]
    assert "WARNING" in output
    assert "% of its values are no time, such as '" in output
    output = said(tmp_path, {"ts": EVENTS["timestamp"] * 100})[1]
    assert "WARNING: the time of events is 'ts': its values, such as 1" in output
    assert "are no dates of our age, but may be an order. Understood are" in output


def test_a_date_of_the_items_is_no_time_of_events(tmp_path: Path) -> None:
    released = pa.array(START - 86_400 * (EVENTS["item_id"] % 50 + 1), pa.timestamp("s"))
    config, output = said(tmp_path, {"release": released})
    assert config.data.columns.timestamp is None
    assert "column 'release' (the same in all events of an item) holds dates" in output
    assert "give --timestamp-column release" in output
    config, _ = said(tmp_path, {"release": released}, timestamp="release")
    assert config.data.columns.timestamp == "release"


def test_seconds_of_another_epoch_are_asked_about(tmp_path: Path) -> None:
    _, output = said(tmp_path, {"timestamp": EVENTS["timestamp"] - 978_307_200})
    assert "WARNING: column 'timestamp': as seconds of Apple, since 2001" in output
    config, output = said(
        tmp_path, {"timestamp": EVENTS["timestamp"] - 978_307_200}, timestamp_unit="apple"
    )
    assert config.data.columns.timestamp_unit == "apple"
    assert "WARNING" not in output
