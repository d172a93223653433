"""Bad input: one sentence and nothing written; bad rows: put aside with their reason."""

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.schema import FeatureSchema
from tests.support.prepare_logs import (
    FEATURES,
    IDS_ONLY,
    examples,
    items_table,
    queries_table,
    random_events,
    refusal,
    rejected_rows,
    run,
    write_log,
)


@pytest.fixture
def log(tmp_path: Path) -> dict[str, str]:
    return write_log(
        tmp_path, events=random_events(0), items=items_table(), queries=queries_table()
    )


def test_a_missing_column_names_the_others_and_the_key(tmp_path: Path, log: dict[str, str]) -> None:
    assert refusal(tmp_path, **log, columns={"item_id": "item"}) == (
        "events column 'item' not found; the log has: query_id, item_id, timestamp, weight. "
        "Set data.columns.item_id."
    )
    text = refusal(tmp_path, **log, columns={"weight": "wt"})
    assert text.endswith("Set data.columns.weight.")
    text = refusal(tmp_path, **log, split={"kind": "given", "column": "part"})
    assert text.endswith("Set data.split.column.")
    pq.write_table(
        items_table().rename_columns(["sku", *items_table().column_names[1:]]), log["items"]
    )
    text = refusal(tmp_path, **log)
    assert text.startswith("items column 'item_id' not found; the log has: sku, genre")


def test_a_missing_feature_names_its_key(tmp_path: Path, log: dict[str, str]) -> None:
    pq.write_table(items_table().drop_columns(["price"]), log["items"])
    text = refusal(tmp_path, **log)
    assert text.startswith("items column 'price' not found; the log has: item_id, genre")
    assert text.endswith("Set features.item.")


def test_features_need_a_table(tmp_path: Path, log: dict[str, str]) -> None:
    text = refusal(tmp_path, events=log["events"], queries=log["queries"])
    assert text == (
        "features.item has 'genre', but there is no table of items; "
        "set data.items, or remove the feature."
    )


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("item_id", pa.array([1.5] * 600), "is double; expected string or integer"),
        ("timestamp", pa.array([True] * 600), "is bool; expected whole numbers, Arrow timestamps"),
        ("weight", pa.array(["1"] * 600), "is string; expected a number"),
    ],
)
def test_a_wrong_type(tmp_path: Path, log, column: str, values: pa.Array, expected: str) -> None:
    events = random_events(0)
    events = events.set_column(events.column_names.index(column), column, values)
    pq.write_table(events, log["events"])
    text = refusal(tmp_path, **log, columns={"weight": "weight"})
    assert text.startswith(f"events column {column!r} {expected}")
    assert f"set data.columns.{column}" in text


@pytest.mark.parametrize(
    ("column", "values", "expected"),
    [
        ("genre", [["g"]] * 60, "expected string, integer or boolean for kind categorical"),
        ("tags", ["t"] * 60, "expected a list of strings for kind multi_valued"),
        ("title", [1] * 60, "expected string for kind text"),
        ("price", [[1]] * 60, "expected a number for kind numeric"),
        ("price", ["dear"] * 60, "holds no numbers; expected some for kind numeric"),
        ("image", [["1"]] * 60, "expected a list of numbers for kind vector"),
    ],
)
def test_a_feature_of_a_wrong_type(tmp_path: Path, log, column: str, values, expected: str) -> None:
    items = items_table()
    items = items.set_column(items.column_names.index(column), column, pa.array(values))
    pq.write_table(items, log["items"])
    assert expected in refusal(tmp_path, **log)


def test_missing_empty_and_corrupt_files(tmp_path: Path, log: dict[str, str]) -> None:
    text = refusal(tmp_path, **(log | {"events": str(tmp_path / "nowhere")}))
    assert "nowhere does not exist" in text
    pq.write_table(random_events(0).slice(0, 0), log["events"])
    assert "holds no rows" in refusal(tmp_path, **log)
    Path(log["events"]).write_bytes(b"not Parquet")
    assert "cannot read" in refusal(tmp_path, **log)


def test_a_file_that_is_corrupt_within(tmp_path: Path, log: dict[str, str]) -> None:
    whole = Path(log["events"]).read_bytes()
    Path(log["events"]).write_bytes(whole[:100] + bytes(600) + whole[700:])
    text = refusal(tmp_path, **log)
    assert text.startswith(f"events: cannot read {log['events']} as Parquet")


BAD_EVENTS = [
    # query, item, timestamp, rating, weight, split, reason
    (None, "i1", "2020-01-01", 5.0, 1.0, "train", "null query id"),
    ("q1", None, "2020-01-01", 5.0, 1.0, "train", "null item id"),
    (None, None, None, None, None, None, "null query id"),
    ("q1", "i1", None, 5.0, 1.0, "train", "null timestamp"),
    ("q1", "i1", "yesterday", 5.0, 1.0, "train", "invalid timestamp"),
    ("q1", "i1", "2020-02-30", 5.0, 1.0, "train", "invalid timestamp"),
    ("q1", "i1", "2021-01-01T00:00:01", 5.0, 1.0, "train", "future timestamp"),
    ("q1", "i1", "2020-12-31T23:30:00-01:00", 5.0, 1.0, "train", "future timestamp"),
    ("q1", "i1", "2020-01-01", None, 1.0, "train", "null rating"),
    ("q1", "i1", "2020-01-01", float("nan"), 1.0, "train", "null rating"),
    ("q1", "i1", "2020-01-01", 2.9, 1.0, "train", "rating below min_rating"),
    ("q1", "i1", "2020-01-01", 5.0, None, "train", "invalid weight"),
    ("q1", "i1", "2020-01-01", 5.0, -1.0, "train", "invalid weight"),
    ("q1", "i1", "2020-01-01", 5.0, float("inf"), "train", "invalid weight"),
    ("q1", "i1", "2020-01-01", 5.0, 1.0, "dev", "unknown split"),
    ("q1", "i1", "2020-01-01", 5.0, 1.0, None, "unknown split"),
    ("q1", "i99", "2020-01-01", 5.0, 1.0, "train", "unknown item"),
    ("q1", "i1", "2020-01-01", 5.0, 1.0, "train", None),
    ("q1", "i1", "2020-01-01T00:00:00Z", 5.0, 1.0, "train", "duplicate"),
    ("q1", "i1", "2020-01-01 12:30", 3.0, 0.0, "train", None),
    ("q1", "i2", "2021-01-01", 5.0, 2.0, "test", None),
    ("q2", "i1", "1969-12-31T23:59:59.5", 5.0, 1.0, "validation", None),
]
NAMES = ["user", "item_id", "at", "stars", "heft", "part"]


def test_every_reason_is_counted_and_kept(tmp_path: Path) -> None:
    columns = {name: [row[i] for row in BAD_EVENTS] for i, name in enumerate(NAMES)}
    columns["note"] = [f"row {i}" for i in range(len(BAD_EVENTS))]
    items = pa.table({"item_id": ["i1", None, "i2", "i1", "i3"], "genre": list("abcde")})
    queries = pa.table({"user": [None, "q1", "q1"]})
    tables = write_log(tmp_path, events=pa.table(columns), items=items, queries=queries)
    features = FeatureSchema.model_validate(
        {"item": [{"name": "genre", "kind": "categorical", "dim": 4}]}
    )
    prepared = run(
        tmp_path / "out",
        features,
        as_of=datetime(2021, 1, 1, tzinfo=UTC),
        **tables,
        columns={
            "query_id": "user",
            "timestamp": "at",
            "rating": "stars",
            "weight": "heft",
        },
        min_rating=3,
        split={"kind": "given", "column": "part"},
    )
    reasons = Counter(f"events: {row[6]}" for row in BAD_EVENTS if row[6])
    reasons |= {"items: null id": 1, "items: repeated id": 1}
    reasons |= {"queries: null id": 1, "queries: repeated id": 1}
    assert prepared.manifest.counts.rejected == dict(sorted(reasons.items()))
    assert prepared.manifest.as_of == "2021-01-01T00:00:00+00:00"

    kept = rejected_rows(prepared, "events")
    assert [row["note"] for row in kept] == [
        f"row {i}" for i, row in enumerate(BAD_EVENTS) if row[6]
    ]
    assert [row["reason"] for row in kept] == [row[6] for row in BAD_EVENTS if row[6]]
    assert set(kept[0]) == {*NAMES, "note", "reason"}
    assert rejected_rows(prepared, "items") == [
        {"item_id": None, "genre": "b", "reason": "null id"},
        {"item_id": "i1", "genre": "d", "reason": "repeated id"},
    ]
    assert [row["reason"] for row in rejected_rows(prepared, "queries")] == [
        "null id",
        "repeated id",
    ]
    # The first row of an item is the one that stays.
    genre = prepared.item_columns["genre"].values
    tokens = prepared.item_encoder.vocabularies["genre"].tokens
    assert [tokens[int(row) - 1].as_py() for row in genre] == ["a", "c", "e"]

    found = {(row["item"], row["timestamp"]): row for row in examples(prepared)}
    assert set(found) == {
        ("i1", datetime(2020, 1, 1, tzinfo=UTC)),
        ("i1", datetime(2020, 1, 1, 12, 30, tzinfo=UTC)),
        ("i2", datetime(2021, 1, 1, tzinfo=UTC)),
        ("i1", datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC)),
    }
    last = found["i2", datetime(2021, 1, 1, tzinfo=UTC)]
    assert (last["split"], last["weight"], last["history"]) == ("test", 2.0, ["i1", "i1"])


def test_duplicates_without_time_are_equal_pairs(tmp_path: Path) -> None:
    events = pa.table({"query_id": ["a", "a", "a", "b"], "item_id": ["x", "y", "x", "x"]})
    prepared = run(
        tmp_path / "out",
        IDS_ONLY,
        **write_log(tmp_path, events=events),
        columns={"timestamp": None},
        split={"kind": "random_hash"},
        history={"kind": "others"},
    )
    assert prepared.manifest.counts.rejected == {"events: duplicate": 1}
    assert rejected_rows(prepared, "events") == [
        {"query_id": "a", "item_id": "x", "reason": "duplicate"}
    ]


def test_types_of_events_have_weights_and_others_are_put_aside(tmp_path: Path) -> None:
    events = pa.table(
        {
            "query_id": ["a", "a", "b", "b", "b"],
            "item_id": ["x", "y", "x", "y", "z"],
            "timestamp": [1, 2, 3, 4, 5],
            "weight": [1.0, 2.0, 1.0, 1.0, 1.0],
            "what": ["view", "buy", "scroll", None, "view"],
        }
    )
    prepared = run(
        tmp_path / "out",
        IDS_ONLY,
        **write_log(tmp_path, events=events),
        columns={"event_type": "what", "weight": "weight"},
        event_types={"view": 0.5, "buy": 4.0},
        quality={"max_rejected_fraction": 0.0},  # Types that are left out are not faulty.
    )
    assert prepared.manifest.counts.rejected == {"events: type not in event_types": 2}
    weights = {(row["query"], row["item"]): row["weight"] for row in examples(prepared)}
    assert weights == {("a", "x"): 0.5, ("a", "y"): 8.0, ("b", "z"): 0.5}


@pytest.mark.parametrize(
    ("values", "kept"), [([True, False, True, None, False], "false"), ([1, 0, 1, None, 0], "0")]
)
def test_types_of_events_may_be_booleans_and_numbers(
    tmp_path: Path, values: list[Any], kept: str
) -> None:
    events = pa.table(
        {"query_id": list("aabbb"), "item_id": list("xyxyz"), "timestamp": range(5), "skip": values}
    )
    prepared = run(
        tmp_path / "out",
        IDS_ONLY,
        **write_log(tmp_path, events=events),
        columns={"event_type": "skip"},
        event_types={kept: 1.0},
    )
    assert {(row["query"], row["item"]) for row in examples(prepared)} == {("a", "y"), ("b", "z")}


def test_a_log_below_its_thresholds_is_refused(tmp_path: Path, log: dict[str, str]) -> None:
    few = refusal(tmp_path, **log, quality={"min_events": 601})
    assert few.endswith("fix the log, or lower data.quality.min_events.")
    assert "of 600 events are left, expected at least 601" in few
    bad = refusal(tmp_path, **log, quality={"max_rejected_fraction": 0.001})
    assert "of 600 events were rejected (events: duplicate " in bad
    assert "expected at most 0.10%; fix the log" in bad


def test_nothing_left_says_why(tmp_path: Path, log: dict[str, str]) -> None:
    events = random_events(0)
    unknown = pa.array([f"other {i}" if i else None for i in range(600)])
    pq.write_table(events.set_column(1, "item_id", unknown), log["events"])
    text = refusal(tmp_path, **log)
    assert text.startswith("no training example is left of 600 events (rejected rows: ")
    assert "events: unknown item 599, events: null item id 1" in text


def test_no_training_events(tmp_path: Path, log: dict[str, str]) -> None:
    long_ago: Any = {"validation_from": datetime(1980, 1, 1), "test_from": datetime(1981, 1, 1)}
    text = refusal(tmp_path, **log, split={"kind": "time", **long_ago})
    assert "data.split" in text


def test_no_item_has_an_id(tmp_path: Path, log: dict[str, str]) -> None:
    items = items_table()
    pq.write_table(items.set_column(0, "item_id", pa.nulls(60, pa.string())), log["items"])
    assert refusal(tmp_path, **log).startswith("items: all 60 rows have a null id in column")


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_of_every_type_are_the_same_moment(unit: str) -> None:
    from feature_store.calendar.reading import read_times
    from feature_store.core.times import microseconds

    moment = datetime(2020, 2, 3, 4, 5, 6, tzinfo=UTC)
    expected = microseconds(moment)
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    whole = int(moment.timestamp()) * per_second
    for column in (
        pa.array([whole, None]),
        pa.array([float(whole), float("nan")]),
        pa.array([whole, None], pa.timestamp(unit)),
        pa.array([whole, None], pa.timestamp(unit, "Europe/Paris")),
        pa.array(["2020-02-03T04:05:06", "?"]),
        pa.array(["2020-02-03T05:05:06+01:00", "2020-13-01"]),
    ):
        assert read_times(column, unit).to_pylist() == [expected, None]  # type: ignore
    huge = pa.array([whole, np.iinfo(np.int64).max, np.iinfo(np.int64).min])
    if unit == "s":
        assert read_times(huge, unit).to_pylist() == [expected, None, None]
    assert FEATURES.item
