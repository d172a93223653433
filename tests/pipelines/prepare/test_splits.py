"""Splits by CRC-32 against zlib itself, and against the counts that real data sets state."""

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pipelines.prepare.splits import assign_splits
from pipelines.settings import ColdItems, LeaveLastOut, RandomHash
from tests.support.prepare_logs import IDS_ONLY, run

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
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
