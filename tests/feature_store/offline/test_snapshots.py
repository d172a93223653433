"""Snapshots and point-in-time joins: our answers, Feast's, and those of a naive loop."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.core.errors import UserError
from feature_store.feast.repository import apply_repository, feast_store, read_views
from feature_store.forgotten import Forgotten
from feature_store.offline.snapshots import TIME_TYPE, Snapshots, point_in_time
from feature_store.offline.views import FeatureView
from feature_store.settings import FeatureStoreConfig

START = datetime(2026, 1, 1, tzinfo=UTC)
COLUMNS = pa.schema(
    [
        ("genre", pa.string()),
        ("no. of pages", pa.int64()),
        ("Tags", pa.list_(pa.string())),
        ("vector", pa.list_(pa.float32(), 2)),
    ]
)
VIEW = FeatureView("item", COLUMNS)
NOBODY = Forgotten()


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def features(random: np.random.Generator, count: int) -> pa.Table:
    genre = [None if g == 0 else f"g{g}" for g in random.integers(0, 3, count)]
    pages = random.integers(0, 2, count)
    tags = [[f"t{i}" for i in range(n)] if n < 3 else None for n in random.integers(0, 4, count)]
    vector = [[float(n), 0.5] if n else None for n in random.integers(0, 2, count)]
    return pa.table([genre, pages, tags, vector], names=COLUMNS.names).cast(COLUMNS)


def write_random_snapshots(offline: Path, seed: int = 0, parts: int = 3) -> list[dict[str, Any]]:
    """Writes five snapshots of up to 30 items each; returns the true rows of each, by id."""
    random = np.random.default_rng(seed)
    snapshots = Snapshots(VIEW, offline / VIEW.name, parts)
    truth: list[dict[str, Any]] = []
    for step in range(5):
        numbers = np.flatnonzero(random.random(30) < 0.7)
        ids = pa.array([f"i{number}" for number in numbers])
        table = features(random, len(ids))
        part = snapshots.part_of(ids)
        for index in range(parts):
            chosen = pa.array(np.flatnonzero(part == index))
            snapshots.write(index, ids.take(chosen), table.take(chosen), at(step), NOBODY)
        truth.append(dict(zip(ids.to_pylist(), table.to_pylist(), strict=True)))
    return truth


def random_entities(seed: int = 1, rows: int = 300) -> pa.Table:
    """Draws entities out of order, with repeated rows and times that equal a snapshot's."""
    random = np.random.default_rng(seed)
    ids = [f"i{number}" for number in random.integers(0, 35, rows)]
    times = [at(hours) for hours in random.integers(-2, 12, rows) / 2]
    table = pa.table({"item_id": ids, "event_timestamp": pa.array(times, TIME_TYPE)})
    table = pa.concat_tables([table, table.slice(0, 50)])
    return table.append_column("row", pa.array(np.arange(len(table))))


def naive(truth: list[dict[str, Any]], entities: pa.Table) -> list[dict[str, Any]]:
    nothing = dict.fromkeys(COLUMNS.names)
    found = []
    for row in entities.to_pylist():
        known = [step for step in range(len(truth)) if at(step) <= row["event_timestamp"]]
        found.append(truth[known[-1]].get(row["item_id"], nothing) if known else nothing)
    return found


def test_ours_feasts_and_a_naive_loop_agree(tmp_path: Path):
    pytest.importorskip("feast")
    truth = write_random_snapshots(tmp_path / "offline")
    entities = random_entities()
    expected = naive(truth, entities)
    names = VIEW.feast_names
    joined = Snapshots(VIEW, tmp_path / "offline" / VIEW.name, 3).join(entities)
    assert joined["row"].to_pylist() == list(range(len(entities)))
    ours = [{name: row[names[name]] for name in COLUMNS.names} for row in joined.to_pylist()]
    assert ours == expected

    assert apply_repository(tmp_path, [VIEW], FeatureStoreConfig())
    assert not apply_repository(tmp_path, [VIEW], FeatureStoreConfig())
    assert read_views(tmp_path) == [VIEW]
    references = [f"item_features:{name}" for name in names.values()]
    job = feast_store(tmp_path).get_historical_features(entities.to_pandas(), references)
    found = job.to_arrow().sort_by("row")
    assert found["row"].to_pylist() == list(range(len(entities)))
    feasts = [{name: row[names[name]] for name in COLUMNS.names} for row in found.to_pylist()]
    assert feasts == expected


def test_a_snapshot_holds_only_what_changed(tmp_path: Path):
    snapshots = Snapshots(VIEW, tmp_path, 1)
    ids = pa.array(["i0", "i1", "i2"])
    table = features(np.random.default_rng(0), 3)
    assert snapshots.write(0, ids, table, at(0), NOBODY) == 3
    before = snapshots.path(0).stat().st_mtime_ns
    assert snapshots.write(0, ids, table, at(1), NOBODY) == 0
    assert snapshots.path(0).stat().st_mtime_ns == before
    pages = pa.array([table["no. of pages"][0].as_py(), 99], pa.int64())
    changed = table.slice(0, 2).set_column(1, "no. of pages", pages)
    assert snapshots.write(0, ids.slice(0, 2), changed, at(2), NOBODY) == 2
    rows = snapshots.read(0).select(["item_id", "event_timestamp", "is_current"]).to_pylist()
    assert [(row["item_id"], row["event_timestamp"], row["is_current"]) for row in rows] == [
        ("i0", at(0), True),
        ("i1", at(0), True),
        ("i1", at(2), True),
        ("i2", at(0), True),
        ("i2", at(2), False),
    ]
    # The first values of `i1` and the removed `i2` come back.
    assert snapshots.write(0, ids, table, at(3), NOBODY) == 2


def test_a_snapshot_of_the_same_time_is_replaced_and_an_earlier_one_refused(tmp_path: Path):
    snapshots = Snapshots(VIEW, tmp_path, 1)
    random = np.random.default_rng(0)
    ids = pa.array(["i0"])
    first = features(random, 1).set_column(1, "no. of pages", pa.array([1]))
    second = first.set_column(1, "no. of pages", pa.array([2]))
    snapshots.write(0, ids, first, at(0), NOBODY)
    snapshots.write(0, ids, second, at(0), NOBODY)
    assert snapshots.read(0).num_rows == 1
    with pytest.raises(UserError, match="has snapshots later than"):
        snapshots.require_latest(at(-1))
    snapshots.require_latest(at(0))


def test_forgotten_ids_leave_no_row(tmp_path: Path):
    snapshots = Snapshots(VIEW, tmp_path, 1)
    ids = pa.array(["i0", "secret", "i2"])
    table = features(np.random.default_rng(0), 3)
    snapshots.write(0, ids, table, at(0), NOBODY)
    forgotten = Forgotten().adding("item", ["secret"])
    rest = pa.array([0, 2])
    snapshots.write(0, ids.take(rest), table.take(rest), at(1), forgotten)
    assert set(snapshots.read(0)["item_id"].to_pylist()) == {"i0", "i2"}
    assert b"secret" not in snapshots.path(0).read_bytes()


def test_new_and_changed_columns_read_as_null_before(tmp_path: Path):
    ids = pa.array(["i0"])
    old = FeatureView("item", pa.schema([("genre", pa.string()), ("year", pa.string())]))
    row = pa.table({"genre": ["g"], "year": ["about 1990"]})
    Snapshots(old, tmp_path, 1).write(0, ids, row, at(0), NOBODY)
    new = FeatureView(
        "item", pa.schema([("genre", pa.string()), ("year", pa.int64()), ("x", "f4")])
    )
    snapshots = Snapshots(new, tmp_path, 1)
    table = pa.table([["g"], [1990], [0.5]], schema=new.columns)
    assert snapshots.write(0, ids, table, at(1), NOBODY) == 1
    assert snapshots.read(0).select(["genre", "year", "x"]).to_pylist() == [
        {"genre": "g", "year": None, "x": None},
        {"genre": "g", "year": 1990, "x": 0.5},
    ]
    assert pq.read_schema(snapshots.path(0)).equals(snapshots.file_schema)


@pytest.mark.parametrize("rows", [0, 200])
def test_point_in_time_of_unordered_repeated_snapshots(rows: int):
    random = np.random.default_rng(2)

    def table(count: int) -> pa.Table:
        times = random.integers(0, 20, count)
        return pa.table({"id": random.integers(0, 9, count), "t": pa.array(times, TIME_TYPE)})

    snapshots = table(rows).append_column("value", pa.array(np.arange(rows)))
    entities = table(100)
    found = point_in_time(entities, snapshots, on="id", time="t")
    assert found.select(["id", "t"]).equals(entities)
    expected = []
    for row in entities.to_pylist():
        past = [s for s in snapshots.to_pylist() if s["id"] == row["id"] and s["t"] <= row["t"]]
        past.sort(key=lambda s: s["t"])  # The sort is stable: of equal times the last row counts.
        expected.append(past[-1]["value"] if past else None)
    assert found["value"].to_pylist() == expected


def test_join_gives_the_same_for_any_batch(tmp_path: Path):
    write_random_snapshots(tmp_path / "offline")
    snapshots = Snapshots(VIEW, tmp_path / "offline" / VIEW.name, 3)
    entities = random_entities()
    whole = snapshots.join(entities)
    parts = [snapshots.join(entities.slice(start, 60)) for start in range(0, len(entities), 60)]
    assert pa.concat_tables(parts).to_pylist() == whole.to_pylist()
    nothing = snapshots.join(entities.slice(0, 0))
    assert nothing.schema.names == whole.schema.names
    assert nothing.num_rows == 0
