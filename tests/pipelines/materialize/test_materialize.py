"""`materialize`: the online store answers with what was prepared offline."""

import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from feature_store.core.columns import Column, Dense
from feature_store.core.errors import UserError
from feature_store.core.times import microseconds
from feature_store.encoding.encoder import SideEncoder
from feature_store.offline.snapshots import Snapshots
from feature_store.offline.views import FeatureView
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.stages.forget import forget
from recsys.stages.materialize import materialize
from recsys.stages.prepare import prepare
from tests.support.materialized import (
    QUIET,
    configure,
    fresh_answers,
    history,
    reader_of,
    run,
    write_tables,
)
from tests.support.prepare_logs import (
    files_below,
    items_table,
    queries_table,
    random_events,
    write_log,
)
from tests.support.servers import MISSING, is_installed, redis_server

DATA = Path(__file__).parents[4] / "shared" / "data"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configure(tmp_path, write_tables(tmp_path))


@pytest.fixture(params=["sqlite", "redis"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Config]:
    paths = write_tables(tmp_path)
    if request.param == "sqlite":
        yield configure(tmp_path, paths)
        return
    if not is_installed():
        pytest.skip(MISSING)
    (tmp_path / "redis").mkdir()
    with redis_server(tmp_path / "redis") as url:
        yield configure(tmp_path, paths, feature_store={"online": "redis", "redis_url": url})


def rows_of(column: Column) -> list[Any]:
    if isinstance(column, Dense):
        return [
            row.tobytes() if ok else None
            for row, ok in zip(column.values, column.present, strict=True)
        ]
    return [bag.tolist() for bag in np.split(column.values, column.offsets[1:-1])]


def current(encoder: SideEncoder) -> np.ndarray:
    """Returns the indices of the ids of this run; ids that are gone keep theirs."""
    return np.flatnonzero(encoder.ids.counts.to_numpy() > 0)


def assert_encoded_alike(config: Config) -> None:
    """Checks that the online store's raw values are encoded as `prepare` encoded them."""
    prepared = Prepared(config.prepared_dir)
    reader = reader_of(config)
    indices = current(prepared.query_encoder)
    ids = prepared.query_encoder.ids.tokens.take(pa.array(indices)).to_pylist()
    answers = [reader.query(text).encode(prepared.query_encoder) for text in ids]
    for name, column in prepared.query_columns.items():
        found = [rows_of(answer[name])[0] for answer in answers]
        assert found == rows_of(column.take(indices)), name
    indices = current(prepared.item_encoder)
    ids = prepared.item_encoder.ids.tokens.take(pa.array(indices)).to_pylist()
    encoded = prepared.item_encoder.encode(reader.items(ids))
    for name, column in prepared.item_columns.items():
        assert rows_of(encoded[name]) == rows_of(column.take(indices)), name
    reader.close()


def log_histories(config: Config) -> dict[str, list[tuple[int, str]]]:
    """Returns all distinct events of known items by query, oldest first, by a plain loop."""
    known = set(pq.read_table(config.data.items)["item_id"].to_pylist())
    found: dict[str, set[tuple[int, str]]] = defaultdict(set)
    for row in pq.read_table(config.data.events).to_pylist():
        if row["item_id"] in known:
            found[row["query_id"]].add((int(row["timestamp"]) * 1_000_000, row["item_id"]))
    return {query: sorted(events) for query, events in found.items()}


def assert_histories_alike(config: Config) -> None:
    """Checks that online histories hold the newest events of the log, by a plain loop over it.

    `prepare` keeps no history that includes the last event, which is the target of the test. So its
    test history is compared with the online one as it was before that event.
    """
    prepared = Prepared(config.prepared_dir)
    reader = reader_of(config)
    log = log_histories(config)
    items = prepared.item_encoder.ids.tokens.to_pylist()
    length = config.data.history.max_length
    tests = rows_of(prepared.query_state.test)
    test_histories = rows_of(prepared.query_state.test_history)
    for index, query in enumerate(prepared.query_encoder.ids.tokens.to_pylist()):
        events, found = log.get(query, []), history(reader, query)
        assert found == events[-length:]
        offline = [items[item] for item in test_histories[index]]
        if not tests[index]:
            assert offline == [item for _, item in found]
            continue
        end, target = events[-1]
        assert tests[index] == [items.index(target)]
        before = [event for event in events if event[0] < end][-length:]
        assert offline == [item for _, item in before if item != target]
        seen = [item for time, item in found if time < end and item != target]
        assert offline[len(offline) - len(seen) :] == seen
    reader.close()


def test_online_features_are_encoded_as_offline(any_store: Config):
    done = run(any_store)
    assert done.rows == {"item_features": 60, "query_features": 20, "query_history": 25}
    assert_encoded_alike(any_store)
    assert_histories_alike(any_store)


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="the real data sets are not there: ../shared/data")
def test_movielens_is_encoded_online_as_offline(tmp_path: Path):
    from recsys.autoconfig.init import init_config
    from recsys.config.load import load_config

    data = DATA / "movielens-100k"
    tables = [str(data / name) for name in ("events", "items.parquet", "queries.parquet")]
    init_config(*tables, tmp_path / "config.yaml", overwrite=False)
    config = load_config(tmp_path / "config.yaml", [f"output={tmp_path / 'out'}"])
    done = run(config)
    assert done.rows == {"item_features": 1682, "query_features": 943, "query_history": 943}
    assert_encoded_alike(config)
    assert_histories_alike(config)


def test_items_of_several_types_are_encoded_online_as_offline(tmp_path: Path):
    table = items_table()
    first, second, third = table.slice(0, 20), table.slice(20, 20), table.slice(40)
    first = first.set_column(1, "genre", pa.array([float(i % 4) for i in range(20)]))
    second = second.set_column(1, "genre", pa.array([i % 4 for i in range(20)], pa.int32()))
    second = second.drop_columns(["price", "image", "tags"])
    third = third.set_column(4, "brand", third["brand"].cast(pa.binary()))
    (tmp_path / "items").mkdir()
    for number, part in enumerate((first, second, third)):
        pq.write_table(part, tmp_path / "items" / f"{number}.parquet")
    paths = write_tables(tmp_path) | {"items": str(tmp_path / "items")}
    config = configure(tmp_path, paths)
    run(config)
    assert_encoded_alike(config)


def test_text_and_dates_are_encoded_online_as_offline(tmp_path: Path):
    items = items_table().select(["item_id", "tags", "price"])
    days = [date(2010 + i % 12, 1 + i % 9, 11) if i % 6 else None for i in range(60)]
    joined = pa.array([" | ".join(tags) for tags in items["tags"].to_pylist()])
    items = pa.table(
        {
            "item_id": items["item_id"],
            "tags": joined,
            "price": [str(i) if i % 7 else "Unknown" for i in range(60)],
            "out": pa.array(days),
            "made": [str(day) for day in days],
        }
    )
    features = [
        {"name": "tags", "kind": "multi_valued", "dim": 4, "delimiter": "|"},
        {"name": "price", "kind": "numeric", "dim": 4},
        {"name": "out", "kind": "date", "dim": 4},
        {"name": "made", "kind": "date", "dim": 4, "scaling": "quantile"},
    ]
    paths = write_tables(tmp_path, items=items)
    config = configure(tmp_path, paths, features={"item": features})
    run(config)
    assert_encoded_alike(config)


def contents_of(directory: Path) -> dict[str, tuple[int, bytes]]:
    """Reads all files, and when each was written."""
    return {
        name: ((directory / name).stat().st_mtime_ns, content)
        for name, content in files_below(directory).items()
    }


def test_twice_changes_nothing(config: Config):
    first = run(config)
    before = contents_of(config.feature_store_dir)
    assert materialize(config, console=QUIET) == first
    assert contents_of(config.feature_store_dir) == before


def test_preparing_the_same_tables_again_changes_no_snapshot(config: Config):
    first = run(config)
    before = contents_of(config.feature_store_dir / "offline")
    os.utime(config.data.events)
    second = run(config)
    assert second.generation != first.generation
    assert set(second.changed.values()) == {0}
    after = contents_of(config.feature_store_dir / "offline")
    for name in before:
        if not name.startswith("query_history"):
            assert after[name] == before[name]
    databases = list((config.feature_store_dir / "online").glob("*.db"))
    assert [file.stem for file in databases] == [second.generation]


def test_changed_and_removed_items(tmp_path: Path, config: Config):
    first = run(config)
    items = items_table(59)
    prices = items["price"].to_pylist()
    prices[3] = 1234.5
    changed = items.set_column(items.schema.get_field_index("price"), "price", pa.array(prices))
    write_tables(tmp_path, items=changed)
    second = run(config)
    assert second.changed == {"item_features": 2, "query_features": 0}
    assert_encoded_alike(config)
    reader = reader_of(config)
    assert reader.items(["i59"]).drop_columns(["item_id"]).to_pylist()[0]["genre"] is None
    assert not any("i59" in [e.item_id for e in reader.query(f"q{q}").history] for q in range(25))
    source = pq.read_schema(config.data.items)
    view = FeatureView("item", pa.schema([("price", source.field("price").type)]))
    snapshots = Snapshots.open(view, config.feature_store_dir / "offline", 60)
    times = [datetime.fromisoformat(done.as_of) for done in (first, second)]
    entities = pa.table(
        {
            "item_id": ["i3", "i3", "i3", "i59", "i59"],
            "event_timestamp": pa.array(
                [times[0] - timedelta(microseconds=1), *times, *times], pa.timestamp("us", "UTC")
            ),
        }
    )
    assert snapshots.join(entities)["price"].to_pylist() == [None, 3.0, 1234.5, 59.0, None]


def test_new_ids_are_there_after_a_second_run_in_one_process(tmp_path: Path, config: Config):
    run(config)
    events = random_events(0, queries=30, items=62)
    write_tables(tmp_path, items=items_table(62), events=events)
    done = run(config)
    assert done.rows == {"item_features": 62, "query_features": 20, "query_history": 30}
    assert_encoded_alike(config)
    assert_histories_alike(config)


def everything_below(directory: Path) -> str:
    """Reads all files below as text, Parquet decoded."""
    found = []
    for file in directory.rglob("*"):
        if file.suffix == ".parquet":
            found.append(str(pq.read_table(file).to_pylist()))
        elif file.is_file():
            found.append(file.read_bytes().decode("latin-1"))
    return "\n".join(found)


def test_forgotten_ids_leave_no_trace(tmp_path: Path):
    events = random_events(0).to_pylist()
    for row in events:
        row["query_id"] = "secret-query" if row["query_id"] == "q3" else row["query_id"]
        row["item_id"] = "secret-item" if row["item_id"] == "i7" else row["item_id"]
    items = items_table().to_pylist()
    items[7]["item_id"] = "secret-item"
    queries = queries_table().to_pylist()
    queries[3]["query_id"] = "secret-query"
    paths = write_tables(
        tmp_path,
        events=pa.Table.from_pylist(events, random_events(0).schema),
        items=pa.Table.from_pylist(items, items_table().schema),
        queries=pa.Table.from_pylist(queries, queries_table().schema),
    )
    config = configure(tmp_path, paths)
    run(config)
    reader = reader_of(config)
    now = datetime.now(UTC)
    reader.append_event("secret-query", "i1", now)
    reader.append_event("q1", "secret-item", now)
    reader.append_event("q1", "i1", now)
    reader.close()
    text = everything_below(config.feature_store_dir)
    assert "secret-query" in text
    assert "secret-item" in text
    forget(config, query_ids=["secret-query"], item_ids=["secret-item"])
    run(config)
    text = everything_below(config.feature_store_dir)
    assert "secret" not in text
    reader = reader_of(config)
    assert history(reader, "q1")[-1][1] == "i1"
    assert not reader.query("secret-query").is_known
    assert_encoded_alike(config)


def test_events_that_the_log_does_not_have_yet_stay(tmp_path: Path, any_store: Config):
    run(any_store)
    manifest = Prepared(any_store.prepared_dir).manifest
    last = datetime.fromisoformat(manifest.last_event)
    reader = reader_of(any_store)
    reader.append_event("q0", "i1", last + timedelta(seconds=5))
    reader.append_event("q0", "i2", last - timedelta(seconds=5))  # Late; the log has its truth.
    events = random_events(0)
    added = pa.table(
        {
            "query_id": ["q1"],
            "item_id": ["i4"],
            "timestamp": [int(last.timestamp()) + 1],
            "weight": pa.array([1.0], pa.float32()),
        }
    )
    write_tables(tmp_path, events=pa.concat_tables([events, added]))
    run(any_store)
    assert history(reader, "q0")[-1] == (microseconds(last) + 5 * 10**6, "i1")
    assert len(reader.store.appended("q0")) == 1
    assert history(reader, "q1")[-1][1] == "i4"
    reader.close()


def test_a_broken_online_store_is_made_anew(config: Config, capsys):
    done = run(config)
    answers = fresh_answers(config)
    for harm in ("missing", "foreign", "zeros inside"):
        file = config.feature_store_dir / "online" / f"{done.generation}.db"
        content = file.read_bytes()
        half = content[: len(content) // 2]
        file.unlink()
        if harm != "missing":
            zeros = half + bytes(len(content) - len(half))
            file.write_bytes(b"mine" if harm == "foreign" else zeros)
        capsys.readouterr()
        done = materialize(config)
        assert str(file) in capsys.readouterr().out.replace("\n", "")
        assert fresh_answers(config) == answers
    assert materialize(config, console=QUIET) == done


def test_rows_that_the_online_store_has_lost_are_written_again(any_store: Config):
    done = run(any_store)
    answers = fresh_answers(any_store)
    if any_store.feature_store.online == "redis":
        import redis

        client = redis.Redis.from_url(any_store.feature_store.redis_url)
        names = client.keys(f"{any_store.feature_store.redis_prefix}:*:query_history:*")
        client.delete(*names[:3])
    else:
        file = any_store.feature_store_dir / "online" / f"{done.generation}.db"
        with sqlite3.connect(file) as connection:
            connection.execute("DELETE FROM query_history WHERE id < 'q2'")
        connection.close()
    assert fresh_answers(any_store) != answers
    materialize(any_store, console=QUIET)
    assert fresh_answers(any_store) == answers


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("kind", ["past", "others"])
def test_histories_are_bounded_whatever_their_kind(tmp_path: Path, kind: str, distinct: bool):
    data = {"kind": kind, "max_length": 7, "distinct": distinct}
    split = {"kind": "random_hash"} if kind == "others" else {"kind": "leave_last_out"}
    paths = write_tables(tmp_path)
    config = configure(tmp_path, paths, data={**paths, "history": data, "split": split})
    run(config)
    reader = reader_of(config)
    for query, events in log_histories(config).items():
        found = history(reader, query)
        last = {item: event for event in events for item in event[1:]}
        choice = sorted(last.values()) if distinct else events
        assert len(found) == min(7, len(choice))
        assert found == sorted(found)
        assert set(found) <= set(choice)
        if kind == "past":
            assert found == choice[-7:]
    reader.close()


def test_a_table_that_changed_since_is_refused(config: Config):
    prepare(config, console=QUIET)
    with pytest.raises(UserError, match="run `recsys prepare` first"):
        materialize(config.model_copy(update={"output": "/nonexistent"}), console=QUIET)
    later = time.time() + 60
    os.utime(config.data.items, (later, later))
    with pytest.raises(UserError, match="changed after it was prepared; run `recsys prepare`"):
        materialize(config, console=QUIET)
    assert not (config.feature_store_dir / "manifest.json").exists()


def test_a_log_without_tables(tmp_path: Path):
    paths = write_log(tmp_path / "log", events=random_events(0))
    ids = {"item": [{"name": "any name", "kind": "id", "dim": 4}], "query": []}
    config = configure(tmp_path, paths, features=ids)
    done = run(config)
    assert done.rows == {"query_history": 25}
    assert_encoded_alike(config)


def test_feast_reads_and_writes_the_same_store(any_store: Config):
    from feature_store.feast.repository import feast_store

    run(any_store)
    feast = feast_store(any_store.feature_store_dir)
    references = [f"item_features:{n}" for n in ("genre", "tags", "title", "price", "image")]
    ids = ["i0", "i1", "i7", "nothing"]
    found = feast.get_online_features(references, [{"item_id": i} for i in ids]).to_dict()
    reader = reader_of(any_store)
    assert found.pop("item_id") == ids
    assert found == {name: reader.items(ids)[name].to_pylist() for name in found}
    now = datetime.now(UTC)
    reader.append_event("q0", "i9", now)
    names = ["query_history:items", "query_features:country"]
    answer = feast.get_online_features(names, [{"query_id": "q0"}]).to_dict()
    assert answer["items"] == [[event.item_id for event in reader.query("q0").history]]
    assert answer["items"][0][-1] == "i9"
    assert answer["country"] == ["c0"]
    written = {"query_id": ["q0"], "country": ["elsewhere"], "event_timestamp": [now]}
    feast.write_to_online_store("query_features", inputs=written)
    assert reader.query("q0").features["country"].to_pylist() == ["elsewhere"]
    reader.close()
