"""Splits by CRC-32 against zlib itself, the counts that real data sets state, and windows."""

import shutil
import zlib
from collections import Counter
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from feature_store.core.errors import UserError
from pipelines.prepare.examples.splits import assign_splits
from pipelines.settings import ColdItems, LeaveLastOut, RandomHash, TimeSplit
from tests.support.prepare_logs import IDS_ONLY, CountingExecutor, examples, refusal, run

DATA = Path(__file__).resolve().parents[5] / "shared" / "data"
real_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the real data sets are not there: expected ../shared/data"
)


def split_of(kind: Any, queries: list[str], items: list[str]) -> list[int]:
    """Splits the events (queries[i], items[i]), which are sorted by query."""
    query_ids, query = np.unique(queries, return_inverse=True)
    item_ids, item = np.unique(items, return_inverse=True)
    nothing = np.zeros(len(queries), np.int64)
    return assign_splits(
        kind,
        query=query,
        query_ids=pa.array(query_ids.tolist()),
        item=item,
        item_ids=pa.array(item_ids.tolist()),
        time=nothing,
        given=nothing,
    ).tolist()


def test_splits_by_hash_are_as_documented() -> None:
    queries = sorted(f"q{i}" for i in range(300))
    items = [f"item {i % 50}" for i in range(300)]
    split_of_remainder = {0: 2, 1: 1}  # Test and validation; the rest trains.
    assert split_of(RandomHash(), queries, items) == [
        split_of_remainder.get(zlib.crc32(f"{q}\t{i}".encode()) % 10, 0)
        for q, i in zip(queries, items, strict=True)
    ]
    assert split_of(ColdItems(), queries, items) == [
        split_of_remainder.get(zlib.crc32(i.encode()) % 10, 0) for i in items
    ]


def test_leave_last_out_needs_three_events() -> None:
    queries = ["a", "b", "b", "c", "c", "c", "d", "d", "d", "d"]
    found = split_of(LeaveLastOut(), queries, ["x"] * 10)
    assert found == [0, 0, 0, 0, 1, 2, 0, 0, 1, 2]


@real_data
@pytest.mark.parametrize(
    ("name", "split", "expected"),
    [
        ("movielens-100k", "random_hash", (79_963, 9_945, 10_092)),
        ("movielens-100k", "cold_items", (None, None, 8_871)),
        ("wikispeedia", "random_hash", (95_631, 12_006, 12_132)),
        ("wikispeedia", "cold_items", (None, None, 11_308)),
        ("amazon-beauty", "leave_last_out", (153_776, 22_363, 22_363)),
    ],
)
def test_counts_that_data_sets_state(tmp_path: Path, name: str, split: str, expected) -> None:
    directory = DATA / name
    prepared = run(
        tmp_path / "out",
        IDS_ONLY,
        events=str(directory / "events"),
        items=str(directory / "items.parquet"),
        split={"kind": split},
        history={"max_length": 2},
    )
    counts = prepared.manifest.counts
    assert counts.rejected == {}
    found = (counts.train, counts.validation, counts.test)
    assert sum(found) == counts.events_read
    for stated, count in zip(expected, found, strict=True):
        assert stated in (None, count)


def daily(directory: Path, days: int) -> str:
    """Writes a partition of 20 events, an hour apart, for each day of November 2026."""
    for day in range(1, days + 1):
        path = directory / f"date=2026-11-{day:02}" / "part.parquet"
        if not path.exists():
            path.parent.mkdir(parents=True)
            start = datetime(2026, 11, day, tzinfo=UTC).timestamp()
            numbers = np.arange(20)
            columns = {
                "query_id": [f"q{n % 7}" for n in numbers],
                "item_id": [f"i{(n * day) % 11}" for n in numbers],
                "timestamp": (start + 3_600 * numbers).astype(np.int64),
            }
            pq.write_table(pa.table(columns), path)
    return str(directory)


def cuts(prepared: Any) -> tuple[str, str]:
    """Returns the day and hour of the first validation and test example."""
    first = {}
    for row in examples(prepared):
        first[row["split"]] = min(row["timestamp"], first.get(row["split"], row["timestamp"]))
    return tuple(f"{first[split]:%d %H}" for split in ("validation", "test"))  # type: ignore[return-value]


def test_windows_count_back_from_as_of_or_the_last_event(tmp_path: Path) -> None:
    log = {"events": daily(tmp_path / "events", 10)}
    split = {"kind": "time", "validation": "3d", "test": "36h"}
    prepared = run(tmp_path / "out", IDS_ONLY, **log, split=split)
    assert cuts(prepared) == ("06 08", "09 08")  # The last event is of the 10th, 19:00.
    placed = prepared.manifest.data.split
    assert isinstance(placed, TimeSplit)
    assert placed.test_from == datetime(2026, 11, 9, 7, 0, 0, 1, tzinfo=UTC)
    as_of = datetime(2026, 11, 8)
    first = run(tmp_path / "out", IDS_ONLY, as_of, **log, split=split)
    assert cuts(first) == ("03 13", "06 13")
    daily(tmp_path / "events", 12)
    again = run(tmp_path / "out", IDS_ONLY, as_of, **log, split=split)
    assert Counter(map(str, examples(again))) == Counter(map(str, examples(first)))
    assert cuts(run(tmp_path / "out", IDS_ONLY, **log, split=split)) == ("08 08", "11 08")


def test_one_as_of_is_prepared_once_and_another_anew(tmp_path: Path) -> None:
    log = {"events": daily(tmp_path / "events", 10)}
    split = {"kind": "time", "validation": "1d", "test": "1d"}
    executor = CountingExecutor()
    moments = [datetime(2026, 11, day) for day in (9, 10)]
    ran = []
    for as_of in (moments[0], moments[0], moments[1]):
        before = executor.tasks
        run(tmp_path / "out", IDS_ONLY, as_of, executor, **log, split=split)
        ran.append(executor.tasks > before)
    assert ran == [True, False, True]


@pytest.mark.parametrize(
    ("validation", "test", "expected"),
    [
        (
            "5d",
            "5d",
            "data.split: validation 5d and test 5d before 2026-11-10 19:00 begin 2026-10-31",
        ),
        ("99999999w", "1d", "before the first event (2026-11-01 00:00), so nothing is left"),
        ("9m", "90m", "data.split: no event is left within the validation, 9m long; lengthen"),
    ],
)
def test_windows_that_do_not_fit_are_one_sentence(
    tmp_path: Path, validation: str, test: str, expected: str
) -> None:
    split = {"kind": "time", "validation": validation, "test": test}
    events = daily(tmp_path / "events", 10)
    assert expected in refusal(tmp_path / "out", IDS_ONLY, events=events, split=split)


def test_an_as_of_long_after_the_last_event_is_one_sentence(tmp_path: Path) -> None:
    events = daily(tmp_path / "events", 3)
    split = {"kind": "time", "validation": "1d", "test": "1d"}
    with pytest.raises(UserError, match="the last event is of 2026-11-03 19:00, so none is within"):
        run(tmp_path / "out", IDS_ONLY, datetime(2026, 11, 9), events=events, split=split)


@pytest.mark.parametrize("is_one_file", [False, True])
def test_a_validation_of_days_without_events_is_that_of_the_days_before(
    tmp_path: Path, is_one_file: bool
) -> None:
    """Passes over two days, of which one was refused and one never came, and says so."""
    directory = Path(daily(tmp_path / "events", 10))
    for day in (8, 9):
        shutil.rmtree(directory / f"date=2026-11-{day:02}")
    if is_one_file:
        whole = pq.read_table(directory)
        directory = tmp_path / "whole"
        directory.mkdir()
        pq.write_table(whole, directory / "part.parquet")
    said = StringIO()
    split = {"kind": "time", "validation": "1d", "test": "1d"}
    prepared = run(
        tmp_path / "out",
        IDS_ONLY,
        datetime(2026, 11, 10, 23, 30),
        console=Console(file=said),
        events=str(directory),
        split=split,
    )
    placed = prepared.manifest.data.split
    assert isinstance(placed, TimeSplit)
    assert placed.validation_from == datetime(2026, 11, 6, 23, 30, 0, 1, tzinfo=UTC)
    assert placed.test_from == datetime(2026, 11, 9, 23, 30, 0, 1, tzinfo=UTC)
    assert cuts(prepared) == ("07 00", "10 00")
    sentence = "no event is within the validation, 1d before 2026-11-09 23:30, so it is the 1d befo"
    assert sentence in said.getvalue().replace("\n", "")
