"""`prepare` on files whose types and columns differ: the same result as on a plain log."""

from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from feature_store.schema import FeatureSchema
from pipelines.logs.sampling import open_table
from pipelines.prepare.prepare import prepare
from pipelines.prepared.reader import Prepared
from pipelines.settings import DataConfig
from tests.support.prepare_logs import (
    IDS_ONLY,
    LOCAL,
    examples,
    refusal,
    rejected_rows,
    run,
    write_log,
)

ROWS = 240


def plain() -> pa.Table:
    random = np.random.default_rng(2)
    return pa.table(
        {
            "query_id": random.integers(0, 20, ROWS),
            "item_id": random.integers(0, 30, ROWS),
            "timestamp": 1_500_000_000 + np.arange(ROWS) % 50,
        }
    )


def items(code: pa.DataType | None = None) -> pa.Table:
    codes = [i % 4 if i % 3 else None for i in range(30)]
    return pa.table({"item_id": range(30), "code": pa.array(codes, code or pa.int32())})


FEATURES = FeatureSchema.model_validate(
    {"item": [{"name": "code", "kind": "categorical", "dim": 4}]}
)


def found(prepared: Prepared) -> list[tuple[Any, ...]]:
    rows = examples(prepared)
    return sorted((r["query"], r["item"], r["timestamp"], r["split"], r["weight"]) for r in rows)


def write_parts(directory: Path, *parts: pa.Table) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts):
        pq.write_table(part, directory / f"{number}.parquet")
    return str(directory)


def replaced(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)


def as_bytes(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string()).cast(pa.binary())


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Prepares the log with ids of integers, in one file."""
    directory = tmp_path_factory.mktemp("same")
    return run(directory / "out", FEATURES, **write_log(directory, events=plain(), items=items()))


@pytest.mark.parametrize(
    "convert",
    [
        lambda ids: ids.cast(pa.float64()),
        lambda ids: ids.cast(pa.decimal128(21, 2)),
        lambda ids: ids.cast(pa.string()).dictionary_encode(),
        lambda ids: as_bytes(ids).cast(pa.large_binary()),
    ],
    ids=["double", "hundredths", "dictionary", "bytes"],
)
def test_ids_of_any_type_are_the_same(tmp_path: Path, same: Prepared, convert: Any) -> None:
    events, table = plain(), items()
    for name in ("query_id", "item_id"):
        events = replaced(events, name, convert(events[name]))
    table = replaced(table, "item_id", convert(table["item_id"]))
    # Half of the files as they were, and half converted.
    log = write_parts(tmp_path / "2", plain().slice(0, 100), events.slice(100))
    paths = {"events": log} | write_log(tmp_path / "3", items=table)
    other = run(tmp_path / "b", FEATURES, **paths)
    assert found(other) == found(same)
    assert other.item_encoder.ids.tokens.equals(same.item_encoder.ids.tokens)


def test_ids_that_are_none_are_put_aside_with_a_reason(tmp_path: Path) -> None:
    console = Console(record=True, width=300)
    texts = [" ", "nan", "None", None, "NULL", "none", "7", "8"]
    doubles = [1.0, 42.5, float("nan"), None, 2.0**53, float("inf"), -0.0, 1.0]
    events = pa.table({"query_id": texts, "item_id": doubles, "timestamp": range(8)})
    more = events.set_column(0, "query_id", pa.array([b"\xff", *[b"9"] * 7]))
    data = DataConfig(
        events=write_parts(tmp_path / "events", events, more.slice(0, 1)),
        **write_log(tmp_path, items=pa.table({"item_id": [0.0, 1.0, None, 0.5, -0.0]})),
    )
    prepare(data, IDS_ONLY, tmp_path / "out", executor=LOCAL, console=console)
    prepared = Prepared(tmp_path / "out")
    assert prepared.manifest.counts.rejected == {
        "events: invalid item id": 1,
        "events: invalid query id": 1,
        "events: null query id": 5,
        "items: invalid id": 1,
        "items: null id": 1,
        "items: repeated id": 1,
    }
    assert [(row["query"], row["item"]) for row in sorted(examples(prepared), key=str)] == [
        ("7", "0"),
        ("8", "1"),
    ]
    reasons = [row["reason"] for row in rejected_rows(prepared, "events")]
    assert reasons == [*["null query id"] * 5, "invalid item id", "invalid query id"]
    said = console.export_text()
    assert 'query id missing: "" 1 times, "NULL" 1 times, "None" 1 times, "nan" 1 times' in said


def test_ids_of_bytes_of_one_length_and_uuids(tmp_path: Path) -> None:
    names = [UUID(int=n << 64 | n * 7) for n in (1, 2, 3, 4)]
    stored = pa.array([None, *(name.bytes for name in names)], pa.binary(16))
    events = pa.table(
        {
            "query_id": pa.ExtensionArray.from_storage(pa.uuid(), stored),
            "item_id": pa.array([b"B001", b"B002", b"B001", b"B003", b"B001"], pa.binary(4)),
            "timestamp": range(5),
        }
    )
    others = pa.table({"query_id": [str(names[0])], "item_id": ["B003"], "timestamp": [9]})
    log = write_parts(tmp_path / "events", events.slice(2), events.slice(0, 2), others)
    prepared = run(tmp_path / "out", IDS_ONLY, events=log)
    assert prepared.manifest.counts.rejected == {"events: null query id": 1}
    pairs = zip(map(str, names), ["B002", "B001", "B003", "B001"], strict=True)
    found = {(row["query"], row["item"]) for row in examples(prepared)}
    assert found == {*pairs, (str(names[0]), "B003")}


def test_uuids_inside_others_are_text(tmp_path: Path) -> None:
    stored = pa.array([UUID(int=n).bytes for n in range(4)], pa.binary(16))
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), stored)
    columns = {
        "list": pa.ListArray.from_arrays(pa.array([0, 1, 3], pa.int32()), uuids[:3]),
        "struct": pa.StructArray.from_arrays([uuids[2:]], ["id"]),
    }
    pq.write_table(pa.table(columns), tmp_path / "x.parquet")
    table = open_table(str(tmp_path), "items")
    texts = [str(UUID(int=n)) for n in range(4)]
    assert table.read("list")[0].to_pylist() == [texts[:1], texts[1:3]]
    assert table.read("struct.id")[0].to_pylist() == texts[2:]


def test_ids_that_differ_in_their_spelling_alone_are_said(tmp_path: Path) -> None:
    console = Console(record=True, width=300)
    events = {"query_id": ["7", "007", "7 ", "7.0", "8", "9"], "item_id": ["1", "02", "3"] * 2}
    log = write_log(
        tmp_path,
        events=pa.table({**events, "timestamp": range(6)}),
        items=pa.table({"item_id": ["1 ", "2", "3"]}),
    )
    prepare(DataConfig(**log), IDS_ONLY, tmp_path / "out", executor=LOCAL, console=console)
    said = console.export_text()
    assert "warning: 3 query ids differ from others only in blanks at their ends, leading" in said
    assert 'such as "007" and "7"; if these are the same' in said
    assert "warning: 2 unknown items of the events differ from listed ones only in" in said
    assert "item ids differ" not in said


def test_an_id_with_an_implausible_share_of_the_events_is_named(tmp_path: Path) -> None:
    console = Console(record=True, width=300)
    events = plain()
    unknown = pc.if_else(pa.array(np.arange(ROWS) % 3 == 0), -1, events["query_id"])
    log = write_log(tmp_path, events=replaced(events, "query_id", unknown))
    prepare(DataConfig(**log), IDS_ONLY, tmp_path / "out", executor=LOCAL, console=console)
    said = console.export_text()
    assert '33.3% of the events are of the query "-1", 10 times those of an average one' in said
    assert "of the item" not in said


def test_columns_may_differ_from_file_to_file(tmp_path: Path, same: Prepared) -> None:
    events = plain()
    first, second, third = events.slice(0, 80), events.slice(80, 80), events.slice(160)
    first = replaced(first, "query_id", first["query_id"].cast(pa.int32()))
    first = replaced(first, "timestamp", first["timestamp"].cast(pa.timestamp("s")))
    first = first.append_column("extra", pa.array([[1]] * 80))
    stamps = pc.multiply(second["timestamp"], 1000).cast(pa.timestamp("ms"))
    second = replaced(second, "timestamp", stamps).append_column("extra", pa.nulls(80))
    third = replaced(third, "timestamp", third["timestamp"].cast(pa.timestamp("s", "UTC")))
    third = third.append_column("extra", pa.array(["text"] * 80)).select([3, 2, 1, 0])
    parts = write_parts(tmp_path / "parts", first, second, third)
    halves = [items().slice(0, 12), items(pa.float64()).slice(12, 9), items().slice(21)]
    halves[2] = replaced(halves[2], "code", halves[2]["code"].cast(pa.string()))
    table = write_parts(tmp_path / "items", *halves)
    other = run(tmp_path / "b", FEATURES, events=parts, items=table)
    assert found(other) == found(same)
    assert other.item_columns["code"].values.tolist() == same.item_columns["code"].values.tolist()
    tokens = [each.item_encoder.vocabularies["code"].tokens for each in (other, same)]
    assert tokens[0].to_pylist() == tokens[1].to_pylist() == ["1", "0", "2", "3"]


def test_times_without_a_common_type_are_refused(tmp_path: Path) -> None:
    events = plain()
    stamps = replaced(events, "timestamp", events["timestamp"].cast(pa.timestamp("s")))
    log = write_parts(tmp_path / "parts", events.slice(0, 99), stamps, events.slice(99))
    text = refusal(tmp_path, IDS_ONLY, events=log)
    assert "1.parquet has timestamp[ms] in column 'timestamp', where most files have int64" in text
    quality = {"max_rejected_files": 1}
    prepared = run(tmp_path / "out", IDS_ONLY, events=log, quality=quality)
    assert prepared.manifest.counts.events_read == ROWS


def test_a_column_that_some_files_lack_is_null_there(tmp_path: Path) -> None:
    console = Console(record=True, width=300)
    events = plain()
    second = events.slice(120).append_column("weight", pa.array([2.0] * 120))
    parts = write_parts(tmp_path / "parts", events.slice(0, 120), second)
    table = write_parts(tmp_path / "items", items().slice(0, 15), items().select([0]).slice(15))
    data = DataConfig.model_validate(
        {"events": parts, "items": table, "columns": {"weight": "weight"}}
    )
    prepare(data, FEATURES, tmp_path / "out", executor=LOCAL, console=console)
    prepared = Prepared(tmp_path / "out")
    assert prepared.manifest.counts.rejected["events: invalid weight"] == 120
    said = console.export_text()
    assert "events: column 'weight' is null in 1 of 2 files, which lack it" in said
    assert "items: column 'code' is null in 1 of 2 files" in said
    ids = prepared.item_encoder.ids.tokens.to_pylist()
    coded = np.flatnonzero(prepared.item_columns["code"].lengths)  # type: ignore[union-attr]
    assert sorted(int(ids[row]) for row in coded) == [i for i in range(15) if i % 3]


def test_the_tables_may_call_the_ids_otherwise(tmp_path: Path, same: Prepared) -> None:
    events, table = plain(), items()
    renamed = write_log(
        tmp_path / "2",
        events=events.rename_columns(["u", "movieId", "timestamp"]),
        items=table.rename_columns(["id", "code"]),
        queries=pa.table({"key": range(20)}),
    )
    names = {"query_id": "u", "item_id": "movieId", "item_key": "id", "query_key": "key"}
    other = run(tmp_path / "b", FEATURES, **renamed, columns=names)
    assert found(other) == found(same)
    text = refusal(tmp_path, FEATURES, **renamed, columns=names | {"item_key": "film"})
    assert text.endswith("Set data.columns.item_key.")


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([0.0] * 4, "all 2 training examples have weight 0 in column 'weight'"),
        ([0.0, 0.0, 1.0, 1.0], "all 2 training examples have weight 0"),
        ([1e-60] * 4, "all 2 training examples have weight 0"),
        ([float("nan"), -1.0, float("inf"), 1e300], "rejected rows: events: invalid weight 4"),
    ],
)
def test_weights_that_mean_nothing(tmp_path: Path, weights: list[float], expected: str) -> None:
    events = pa.table(
        {
            "query_id": ["a"] * 4,
            "item_id": list("wxyz"),
            "timestamp": range(4),
            "weight": weights,
        }
    )
    log = write_log(tmp_path, events=events)
    assert expected in refusal(tmp_path, IDS_ONLY, **log, columns={"weight": "weight"})


def test_some_weights_of_zero_are_said(tmp_path: Path) -> None:
    console = Console(record=True, width=300)
    events = plain().append_column("weight", pa.array(np.arange(ROWS) % 2))
    log = write_log(tmp_path, events=events)
    data = DataConfig.model_validate({**log, "columns": {"weight": "weight"}})
    prepare(data, IDS_ONLY, tmp_path / "out", executor=LOCAL, console=console)
    assert "training examples have weight 0: they are in histories" in console.export_text()


def test_numbers_that_are_none_are_counted(tmp_path: Path) -> None:
    console = Console(record=True, width=300)
    prices = [float("nan"), float("inf"), None, *map(float, range(27))]
    table = pa.table({"item_id": range(30), "price": prices})
    features = FeatureSchema.model_validate(
        {"item": [{"name": "price", "kind": "numeric", "dim": 4}]}
    )
    data = DataConfig(**write_log(tmp_path, events=plain(), items=table))
    prepare(data, features, tmp_path / "out", executor=LOCAL, console=console)
    said = "items: 2 numbers of 'price' are NaN or infinite: absent"
    assert said in console.export_text()


def test_ratings_that_are_no_numbers(tmp_path: Path) -> None:
    stars = [float("nan"), float("inf"), 5.0, Decimal(4), None]
    events = pa.table(
        {
            "query_id": ["a"] * 5,
            "item_id": list("vwxyz"),
            "timestamp": range(5),
            "stars": pa.array([None if s is None else float(s) for s in stars]),
        }
    )
    log = write_log(tmp_path, events=events)
    prepared = run(tmp_path / "a", IDS_ONLY, **log, columns={"rating": "stars"}, min_rating=4)
    rejected = {"events: invalid rating": 1, "events: null rating": 2}
    assert prepared.manifest.counts.rejected == rejected
