"""The prepared directory of a small log, against a plain reading of the rules."""

import io
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from feature_store.core.columns import Dense
from pipelines.prepare import job
from pipelines.prepare.prepare import prepare
from pipelines.prepared.examples import SPLITS
from pipelines.prepared.reader import Prepared
from pipelines.quality.quality import read_quality
from pipelines.settings import DataConfig
from tests.support.prepare_logs import (
    FEATURES,
    IDS_ONLY,
    LOCAL,
    examples,
    items_table,
    queries_table,
    random_events,
    run,
    write_log,
)

START = 1_500_000_000


def log(directory: Path, seed: int = 0) -> dict[str, str]:
    return write_log(
        directory, events=random_events(seed), items=items_table(), queries=queries_table()
    )


def content(directory: Path) -> dict[str, bytes]:
    """Reads all files but those with a time, and but rejected rows, which lie as sources do."""
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    return {
        str(file.relative_to(directory)): file.read_bytes()
        for file in files
        if file.name not in ("manifest.json", "quality.json", "quality.html")
        and "rejected" not in file.parts
    }


def distinct_events(events: pa.Table) -> list[dict[str, Any]]:
    """Keeps the heaviest of equal events, and sorts by query, then (timestamp, item id)."""
    weights: dict[tuple[str, int, str], float] = {}
    for row in events.to_pylist():
        key = (row["query_id"], row["timestamp"], row["item_id"])
        weights[key] = max(weights.get(key, 0.0), row["weight"])
    return [
        {"query": q, "timestamp": t, "item": i, "weight": w}
        for (q, t, i), w in sorted(weights.items())
    ]


def test_examples_follow_the_rules_of_leave_last_out_and_point_in_time(tmp_path: Path) -> None:
    tables = log(tmp_path)
    prepared = run(
        tmp_path / "out",
        **tables,
        columns={"weight": "weight"},
        history={"kind": "past", "max_length": 5},
    )
    expected: list[dict[str, Any]] = []
    rows = distinct_events(pq.read_table(tables["events"]))
    for query in sorted({row["query"] for row in rows}):
        own = [row for row in rows if row["query"] == query]
        for position, row in enumerate(own):
            from_end = len(own) - position
            short = len(own) < 3
            row["split"] = "train" if short or from_end > 2 else SPLITS[3 - from_end]
        for row in own:
            seen = ("train", "validation") if row["split"] == "test" else ("train",)
            earlier = [
                other["item"]
                for other in own
                if other["split"] in seen and other["timestamp"] < row["timestamp"]
            ]
            row["history"] = [item for item in earlier[-5:] if item != row["item"]]
        expected.extend(own)
    found = examples(prepared)
    for row in found:
        row["timestamp"] = int(row["timestamp"].timestamp())

    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return row["query"], row["timestamp"], row["item"]

    assert sorted(found, key=key) == sorted(expected, key=key)
    counts = prepared.manifest.counts
    assert counts.events_read == 600
    assert (counts.train, counts.validation, counts.test) == tuple(
        sum(row["split"] == split for row in expected) for split in SPLITS
    )
    assert counts.rejected == {"events: duplicate": 600 - len(expected)}
    assert prepared.manifest.first_event == datetime.fromtimestamp(START, UTC).isoformat()
    training = [row["item"] for row in expected if row["split"] == "train"]
    tokens = prepared.item_encoder.ids.tokens.to_pylist()
    assert prepared.item_frequency.tolist() == [training.count(item) for item in tokens]
    assert counts.items_in_training == len(set(training))


@pytest.mark.parametrize("kind", ["leave_last_out", "time", "random_hash", "cold_items"])
@pytest.mark.parametrize("history", ["past", "others"])
def test_history_never_holds_the_target_or_its_future(
    tmp_path: Path, kind: str, history: str
) -> None:
    tables = log(tmp_path, seed=len(kind))
    split: dict[str, Any] = {"kind": kind}
    if kind == "time":
        split |= {
            "validation_from": datetime.fromtimestamp(START + 7, UTC),
            "test_from": datetime.fromtimestamp(START + 9, UTC),
        }
    prepared = run(
        tmp_path / "out", **tables, split=split, history={"kind": history, "max_length": 4}
    )
    found = examples(prepared)
    times: dict[tuple[str, str, str], list[datetime]] = {}
    for row in found:
        times.setdefault((row["query"], row["item"], row["split"]), []).append(row["timestamp"])
    assert {row["split"] for row in found} == set(SPLITS)
    assert any(row["history"] for row in found)
    for row in found:
        assert len(row["history"]) <= 4
        assert row["item"] not in row["history"]
        visible = ["train"]
        if row["split"] == "test" and history == "past":
            visible.append("validation")
        for item in row["history"]:
            seen = [t for split in visible for t in times.get((row["query"], item, split), [])]
            assert seen
            if history == "past":
                assert min(seen) < row["timestamp"]


def test_the_same_log_in_other_files_gives_the_same_content(tmp_path: Path) -> None:
    tables = log(tmp_path)
    options: dict[str, Any] = {"columns": {"weight": "weight"}, "history": {"max_length": 6}}
    one = run(tmp_path / "one", **tables, **options)
    scattered = {
        name: scatter(Path(path), tmp_path / f"{name}-files") for name, path in tables.items()
    }
    five = run(tmp_path / "five", **scattered, **options)
    first, second = content(one.directory), content(five.directory)
    assert first.keys() == second.keys()
    for name in first:
        assert first[name] == second[name], name
    reports = [read_quality(prepared.directory) for prepared in (one, five)]
    counted = [
        [(table.name, table.rejected, c.name, c.nulls, c.distinct, c.top, c.quantiles)]
        for report in reports
        if report is not None
        for table in report.tables
        for c in table.columns
    ]
    assert counted[: len(counted) // 2] == counted[len(counted) // 2 :] != []


def scatter(path: Path, directory: Path) -> str:
    """Writes the same rows in another order, in five files of several row groups."""
    directory.mkdir()
    table = pq.read_table(path)
    table = table.take(np.random.default_rng(1).permutation(len(table)))
    size = -(-len(table) // 5)
    for index in range(5):
        part = table.slice(index * size, size)
        pq.write_table(part, directory / f"part-{index}.parquet", row_group_size=50)
    return str(directory)


def test_many_small_tasks_give_the_same_examples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = log(tmp_path)
    one = run(tmp_path / "one", **tables)
    monkeypatch.setattr(job, "_TASK_ROWS", 70)
    many = run(tmp_path / "many", **tables)
    assert [len(many.examples(split)) for split in SPLITS] == [8, 1, 1]
    for split in SPLITS:
        whole = [pq.read_table(prepared.examples(split)) for prepared in (one, many)]
        assert whole[0].equals(whole[1])
    first, second = content(one.directory), content(many.directory)
    for name in ("queries/state.arrow", "statistics/item_frequency.parquet"):
        assert first[name] == second[name]


def test_examples_are_shuffled(tmp_path: Path) -> None:
    prepared = run(tmp_path / "out", **log(tmp_path))
    table = pq.read_table(prepared.examples("train")[0])
    for name in ("query", "timestamp"):
        order = table[name].cast(pa.int64()).to_numpy()
        assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.2


def test_query_state_and_tables_are_by_index(tmp_path: Path) -> None:
    tables = log(tmp_path)
    prepared = run(tmp_path / "out", **tables)
    items, queries = prepared.item_encoder.ids.tokens, prepared.query_encoder.ids.tokens
    assert set(queries.to_pylist()) == {f"q{i}" for i in range(25)}
    source = items_table().take(pc_index(items_table()["item_id"], items))
    expected = prepared.item_encoder.encode(source)
    for name, column in prepared.item_columns.items():
        np.testing.assert_array_equal(column.values, expected[name].values)
    # Queries that only the events have know nothing but their id.
    country = prepared.query_columns["country"]
    known = {f"q{i}" for i in range(20)}
    assert country.lengths.tolist() == [int(q in known) for q in queries.to_pylist()]
    assert prepared.query_columns["query_id"].values.tolist() == list(range(25))
    state = prepared.query_state
    assert len(state) == 25
    for split in SPLITS:
        bags = {}
        for row in examples(prepared):
            if row["split"] == split:
                bags.setdefault(row["query"], set()).add(row["item"])
        column = getattr(state, split)
        for index, query in enumerate(queries.to_pylist()):
            found = column.take(np.array([index])).values
            assert {items[int(i)].as_py() for i in found} == bags.get(query, set())
            assert len(found) == len(bags.get(query, set()))


def pc_index(column: pa.ChunkedArray, ids: pa.Array) -> pa.Array:
    return pa.array([column.to_pylist().index(item) for item in ids.to_pylist()])


def test_without_tables_the_events_make_the_catalogue(tmp_path: Path) -> None:
    events = pa.table({"u": [3, 3, 3, 1], "i": [20, 10, 30, 10]})
    tables = write_log(tmp_path, events=events)
    prepared = run(
        tmp_path / "out",
        IDS_ONLY,
        **tables,
        columns={"query_id": "u", "item_id": "i", "timestamp": None},
        split={"kind": "random_hash"},
        history={"kind": "others"},
    )
    assert prepared.item_encoder.ids.tokens.to_pylist() == ["10", "20", "30"]
    assert prepared.query_encoder.ids.tokens.to_pylist() == ["1", "3"]
    assert prepared.item_columns["item_id"].values.tolist() == [0, 1, 2]
    assert prepared.query_columns == {}
    found = examples(prepared)
    assert len(found) == 4
    assert all(row["timestamp"] is None and row["weight"] == 1 for row in found)
    assert prepared.manifest.first_event is None


def test_up_to_date_until_something_changes(tmp_path: Path) -> None:
    tables = log(tmp_path)
    config = DataConfig.model_validate(tables)
    output = tmp_path / "out"

    def again(**options: Any) -> tuple[bool, str]:
        console = Console(record=True, file=io.StringIO())
        before = (output / "manifest.json").stat().st_ino if output.exists() else None
        prepare(config, FEATURES, output, executor=LOCAL, console=console, **options)
        after = (output / "manifest.json").stat().st_ino
        return before == after, console.export_text()

    assert not again()[0]
    same, text = again()
    assert same
    assert text == f"prepare: {output} is up to date\n"
    assert not again(as_of=datetime(2020, 1, 1, tzinfo=UTC))[0]
    assert again(as_of=datetime(2020, 1, 1))[0]
    pq.write_table(random_events(7), tables["events"])
    same, text = again(as_of=datetime(2020, 1, 1))
    assert not same
    assert "prepare: reading 600 events in 1 file\n" in text
    assert re.fullmatch(
        r"prepare: 5\d\d training, 25 validation, 25 test examples; 60 items, 25 users; "
        r"\d+ rows rejected \(\d+\.\d s\)",
        text.splitlines()[-1],
    )


def test_ids_and_tokens_of_an_earlier_run_keep_their_rows(tmp_path: Path) -> None:
    output = tmp_path / "out"
    tables = write_log(
        tmp_path / "old", events=random_events(0), items=items_table(), queries=queries_table()
    )
    old = run(output, **tables)
    old_items = old.item_encoder.ids.tokens.to_pylist()
    old_genres = old.item_encoder.vocabularies["genre"].tokens.to_pylist()
    items = items_table(63).slice(1)
    genres = pa.array(["g9", "g9", "a new one", *items["genre"].to_pylist()[3:]])
    items = items.set_column(1, "genre", genres)
    events = random_events(1, items=63, queries=28)
    tables = write_log(tmp_path / "new", events=events, items=items, queries=queries_table(2))
    new = run(output, **tables)
    found = new.item_encoder.ids.tokens.to_pylist()
    assert found[:60] == old_items
    assert found[60:] == ["i60", "i61", "i62"]
    assert new.item_encoder.vocabularies["genre"].tokens.to_pylist()[: len(old_genres)] == (
        old_genres
    )
    assert set(new.item_encoder.vocabularies["genre"].tokens.to_pylist()) == {
        *old_genres,
        "g9",
        "a new one",
    }
    gone = old_items.index("i0")
    assert new.item_encoder.ids.counts[gone].as_py() == 0
    for column in new.item_columns.values():
        row = column.take(np.array([gone]))
        assert not row.values.any()
        assert not (row.present if isinstance(row, Dense) else row.lengths).any()
    assert new.item_frequency[gone] == 0
    assert new.manifest.counts.rejected["events: unknown item"] == (
        events["item_id"].to_pylist().count("i0")
    )


def test_another_schema_starts_anew(tmp_path: Path) -> None:
    output = tmp_path / "out"
    run(output, **log(tmp_path / "a"))
    items = items_table(63).slice(1)
    tables = write_log(tmp_path / "b", events=random_events(1, items=63), items=items)
    assert run(output, IDS_ONLY, **tables).num_items == 62


def test_a_failed_run_keeps_the_earlier_directory(tmp_path: Path) -> None:
    tables = log(tmp_path)
    output = tmp_path / "out"
    before = content(run(output, **tables).directory)
    whole = Path(tables["events"]).read_bytes()
    Path(tables["events"]).write_bytes(whole[:200] + bytes(400) + whole[600:])
    with pytest.raises(Exception, match="cannot read"):
        run(output, **tables)
    assert content(output) == before
    assert Prepared(output).manifest.counts.events_read == 600
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "events.parquet",
        "items.parquet",
        "out",
        "out.work",
        "queries.parquet",
    ]


def test_partitioned_directories_and_urls_are_read(tmp_path: Path) -> None:
    events = random_events(3)
    for day in range(3):
        folder = tmp_path / "log" / f"date=2026-11-{day + 20}"
        folder.mkdir(parents=True)
        pq.write_table(events.slice(200 * day, 200), folder / "part-0.parquet")
    whole = write_log(tmp_path, events=events)
    expected = run(tmp_path / "whole", IDS_ONLY, **whole)
    for name, path in (("path", f"{tmp_path}/log"), ("url", f"file://{tmp_path}/log")):
        found = run(tmp_path / name, IDS_ONLY, events=path)
        assert examples(found) == examples(expected)
        assert len(found.manifest.sources["events"]) == 3
