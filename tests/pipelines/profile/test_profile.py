"""Sampling large tables, and reading a log's time from a sample."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.core.errors import UserError
from pipelines.logs import sampling
from pipelines.logs.clock import Clock
from pipelines.logs.files import layouts_of, read_footers, union_of
from pipelines.logs.sampling import open_table
from pipelines.profile import events as events_module
from pipelines.profile.columns import count_values, profile_column
from pipelines.profile.events import profile_events


def write(path: Path, columns: dict[str, Any] | pa.Table, rows: int | None = None) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = columns if isinstance(columns, pa.Table) else pa.table(columns)
    pq.write_table(table, path, row_group_size=rows)
    return str(path)


def read_schema(files: list[str], what: str) -> pa.Schema:
    return union_of(layouts_of(read_footers(files, what), what)).schema


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    good = write(tmp_path / "good.parquet", {"x": [1], "y": ["a"]})
    empty = write(tmp_path / "empty.parquet", {"x": pa.array([], pa.int64())})
    corrupt = tmp_path / "corrupt.parquet"
    corrupt.write_bytes(Path(good).read_bytes()[:-20])
    with pytest.raises(UserError, match=r"events: cannot read .*corrupt.parquet as Parquet"):
        read_schema([good, str(corrupt)], "events")
    with pytest.raises(UserError, match="holds no rows"):
        read_schema([empty], "events")
    with pytest.raises(UserError, match="cannot read"):
        read_schema([str(tmp_path / "absent.parquet")], "events")
    assert read_schema([empty, good], "events").names == ["x", "y"]


def test_files_of_other_columns_have_their_union(tmp_path: Path) -> None:
    first = write(tmp_path / "1.parquet", {"x": [1], "y": ["a"], "v": [[1]]})
    fewer = write(tmp_path / "2.parquet", {"x": pa.array([2], pa.int32()), "v": [[0.5]]})
    other = write(tmp_path / "3.parquet", {"x": ["3"], "z": [True], "Y": [b"b"]})
    assert read_schema([first, fewer], "events").to_string() == (
        "x: int64\ny: string\nv: list<element: double>\n  child 0, element: double"
    )
    assert read_schema([first, fewer, other], "events").names == ["x", "y", "v", "z", "Y"]
    table = open_table(str(tmp_path), "events")
    assert table.read("x")[0].to_pylist() == ["1", "2", "3"]
    assert table.read("v")[0].to_pylist() == [[1.0], [0.5], None]
    assert table.read("Y")[0].to_pylist() == [None, None, "b"]
    assert sorted(table.partial) == ["Y", "v", "y", "z"]
    (note,) = table.notes
    assert note.startswith("events: column 'y' is called 'Y' in ")


def test_columns_without_a_common_type_are_left_out(tmp_path: Path) -> None:
    write(tmp_path / "1.parquet", {"x": [1], "y": [[1]], "t": [pa.scalar(0, pa.timestamp("s"))]})
    write(tmp_path / "2.parquet", {"x": [2], "y": [{"a": 1}], "y.a": [1], "t": [7]})
    write(tmp_path / "3.parquet", pa.table([[1], [3], [4]], names=["x", "z", "z"]))
    table = open_table(str(tmp_path), "events")
    assert table.read("x")[0].to_pylist() == [1, 2, 1]
    assert [name for name in ("y", "t", "z") if name in table.schema.names] == ["y"]
    assert [note.split(", because")[0] for note in table.notes] == [
        "events: column 't' is left out",
        "events: column 'z' is left out",
    ]


def test_storage_types_of_files_may_differ(tmp_path: Path) -> None:
    words = pa.array(["a", "b"])
    lists = pa.array([["a"], ["b", "c"]], pa.list_(pa.string()))
    write(tmp_path / "1.parquet", {"w": words, "l": lists})
    other = {"l": lists.cast(pa.large_list(pa.large_string())), "w": words.dictionary_encode()}
    write(tmp_path / "2.parquet", other)
    table = open_table(str(tmp_path), "items")
    assert table.read("w")[0].to_pylist() == ["a", "b"] * 2
    assert table.read("l")[0].to_pylist() == lists.to_pylist() * 2


def test_large_tables_are_sampled_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in range(10):
        values = np.arange(1000 * part, 1000 * (part + 1))
        write(tmp_path / f"{part}.parquet", {"x": values, "x.y": values % 7}, rows=100)
    monkeypatch.setattr(sampling, "_MAX_ROWS", 5000)
    table = open_table(str(tmp_path), "items")
    parts = list(table.sample(["x"], 640))
    assert [part.num_rows for part in parts] == [20] * 32
    sample = np.concatenate([part["x"].to_numpy() for part in parts])
    assert sample.mean() == pytest.approx(5000, rel=0.02)
    assert table.is_large
    assert parts[0].column_names == ["x"]
    monkeypatch.setattr(sampling, "_MAX_FOOTERS", 5)
    partly = open_table(str(tmp_path), "items")
    assert (partly.files, partly.rows, partly.rows_are_exact) == (10, 10_000, False)


def test_distinct_values_are_estimated_from_a_sample() -> None:
    rng = np.random.default_rng(0)
    sample = pa.array(rng.integers(0, 3000, 5000))
    assert count_values(sample, 1.0).distinct == len(sample.unique())
    assert count_values(sample, 0.01).distinct == pytest.approx(3000, rel=0.1)
    assert count_values(pa.array(np.arange(50)), 0.01).distinct <= 5000


def test_columns_of_one_value_or_none(tmp_path: Path) -> None:
    columns = {"none": pa.nulls(3), "empty": pa.array([[], None, []], pa.list_(pa.string()))}
    columns["nan"] = pa.array([float("nan"), float("inf"), None])
    table = open_table(write(tmp_path / "items.parquet", columns), "items")
    assert profile_column(table, "empty").present == 0
    assert profile_column(table, "nan").numbers is None
    assert profile_column(table, "none").shape == "other"


@pytest.mark.parametrize("order", ["by query", "by time"])
def test_a_sample_of_events_says_what_it_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(4000), 10)
    time = 1_600_000_000 + rng.integers(0, 365 * 86_400, len(query))
    rows = np.lexsort((time, query)) if order == "by query" else np.argsort(time)
    log = {"q": query[rows], "i": rng.integers(0, 99, len(query)), "t": time[rows]}
    path = write(tmp_path / "events.parquet", log, rows=1000)
    monkeypatch.setattr(events_module, "_MAX_EVENTS", 8000)
    profile = profile_events(open_table(path, "events"), "q", "i", "t", Clock("s", True))
    assert (profile.rows, profile.read) == (40_000, 8000)
    assert profile.whole_queries == (order == "by query")
    assert profile.time is not None
    cut = profile.time.cut
    assert cut is not None
    # In the full log every query of the test split has training events.
    if order == "by query":
        assert profile.median == 10
        assert cut.known_at_least == cut.known_at_most > 0.99
    else:
        assert cut.known_at_least < 0.95
        assert cut.known_at_most == 1


def test_missing_ids_are_no_queries(tmp_path: Path) -> None:
    events = {"u": ["a", "nan", " ", None, "b"], "i": [1.0, 2.0, 3.0, 4.0, float("nan")]}
    table = open_table(write(tmp_path / "events.parquet", events), "events")
    profile = profile_events(table, "u", "i", None, Clock(None, False))
    assert (profile.queries, profile.items, profile.read) == (1, 1, 1)
