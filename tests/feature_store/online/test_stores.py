import random
import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from feature_store.core.errors import UserError
from feature_store.core.hashing import hash_of_id, hash_of_ids
from feature_store.core.rows import encode_rows
from feature_store.core.times import microseconds
from feature_store.history import HISTORY_SCHEMA, recent
from feature_store.online import open_online_store
from feature_store.online.features import OnlineFeatures
from feature_store.online.store import Contents, Loader, OnlineStore, schema_in_hex
from feature_store.schema import FeatureSchema
from feature_store.settings import PASSWORD_VARIABLE, FeatureStoreConfig
from tests.support.servers import MISSING, is_installed, redis_server

FEATURES = FeatureSchema.model_validate(
    {
        "item": [
            {"name": "item", "kind": "id", "dim": 4},
            {"name": "tags", "kind": "multi_valued", "dim": 4},
        ],
        "query": [
            {"name": "query", "kind": "id", "dim": 4},
            {"name": "age", "kind": "numeric", "dim": 4},
        ],
    }
)
START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if not is_installed():
        pytest.skip(MISSING)
    with redis_server(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(params=["sqlite", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> FeatureStoreConfig:
    if request.param == "sqlite":
        return FeatureStoreConfig()
    url = request.getfixturevalue("redis_url")
    return FeatureStoreConfig(online="redis", redis_url=url, redis_prefix=str(tmp_path))


@pytest.fixture
def store(settings: FeatureStoreConfig, tmp_path: Path) -> Iterator[OnlineStore]:
    opened = open_online_store(settings, tmp_path)
    yield opened
    opened.close()


def contents(generation: str, *, max_length: int = 4, distinct: bool = False) -> Contents:
    return Contents(
        generation=generation,
        features=FEATURES,
        columns={
            "item": schema_in_hex(pa.schema([("tags", pa.list_(pa.string()))])),
            "query": schema_in_hex(pa.schema([("age", pa.int16())])),
        },
        max_length=max_length,
        distinct=distinct,
    )


def add(loader: Loader, view: str, ids: list[str], table: pa.Table) -> None:
    order = sorted(range(len(ids)), key=lambda index: hash_of_id(ids[index]))
    chosen = pa.array(order, pa.int64())
    loader.add(view, pa.array(ids, pa.string()).take(chosen), encode_rows(table.take(chosen)))


def fill(store: OnlineStore, generation: str = "one", age: int = 30, **options: int) -> None:
    """Loads a generation of three items and two queries; the history of `q1` is i1, i2."""
    with store.load(contents(generation, **options)) as loader:
        tags = pa.array([["a", "b"], [], None], pa.list_(pa.string()))
        add(loader, "item_features", ["i1", "i2", "i3"], pa.table({"tags": tags}))
        ages = pa.table({"age": pa.array([age, None], pa.int16())})
        add(loader, "query_features", ["q1", "q2"], ages)
        times = [[START, START + timedelta(seconds=10)]]
        columns = [pa.array([["i1", "i2"]]), pa.array(times, HISTORY_SCHEMA.types[1])]
        add(loader, "query_history", ["q1"], pa.table(columns, schema=HISTORY_SCHEMA))


def history(reader: OnlineFeatures, query: str) -> list[tuple[str, int]]:
    found = reader.query(query).history
    return [(event.item_id, (event.timestamp - START).seconds) for event in found]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def test_what_is_loaded_is_read_with_its_types(store: OnlineStore):
    fill(store)
    reader = OnlineFeatures(store)
    found = reader.query("q1")
    assert found.is_known
    assert found.features.to_pylist() == [{"age": 30, "query": "q1"}]
    assert found.features.schema.field("age").type == pa.int16()
    assert history(reader, "q1") == [("i1", 0), ("i2", 10)]
    assert reader.query("q2").features.to_pylist() == [{"age": None, "query": "q2"}]
    assert history(reader, "q2") == []
    items = reader.items(["i3", "i1", "no such item", "i2"])
    assert items["tags"].to_pylist() == [None, ["a", "b"], None, []]
    assert items["item"].to_pylist() == ["i3", "i1", "no such item", "i2"]


def test_an_unknown_query_is_empty(store: OnlineStore):
    fill(store)
    found = OnlineFeatures(store).query("nobody")
    assert not found.is_known
    assert found.features.to_pylist() == [{"age": None, "query": "nobody"}]
    assert found.history == ()


def test_an_empty_store_says_what_to_do(store: OnlineStore):
    reader = OnlineFeatures(store)
    for ask in (lambda: reader.query("q1"), lambda: reader.items(["i1"])):
        with pytest.raises(UserError, match="run `recsys materialize` first"):
            ask()
    with pytest.raises(UserError, match="run `recsys materialize` first"):
        reader.append_event("q1", "i1", START)


def test_an_appended_event_is_in_the_next_answer(
    store: OnlineStore, settings: FeatureStoreConfig, tmp_path: Path
):
    fill(store)
    other = OnlineFeatures(open_online_store(settings, tmp_path))
    assert history(other, "q1") == [("i1", 0), ("i2", 10)]
    reader = OnlineFeatures(store)
    reader.append_event("q1", "i3", at(20))
    reader.append_event("new", "i1", at(5))
    assert history(other, "q1") == [("i1", 0), ("i2", 10), ("i3", 20)]
    assert history(other, "new") == [("i1", 5)]
    other.close()


def test_a_repeated_event_changes_nothing(store: OnlineStore):
    fill(store)
    reader = OnlineFeatures(store)
    for _ in range(3):
        reader.append_event("q1", "i3", at(20))
        reader.append_event("q1", "i1", at(0))  # The log has this event, too.
    assert history(reader, "q1") == [("i1", 0), ("i2", 10), ("i3", 20)]
    assert len(store.appended("q1")) <= 2


@pytest.mark.parametrize("distinct", [False, True])
def test_events_in_any_order_give_the_latest_in_order(store: OnlineStore, distinct: bool):
    shuffler = random.Random(0)
    events = [(shuffler.randrange(8), f"i{shuffler.randrange(5)}") for _ in range(40)]
    fill(store, distinct=distinct)
    reader = OnlineFeatures(store)
    for time, item in events:
        reader.append_event("q1", item, at(time))
    everything = {*events, (0, "i1"), (10, "i2")}
    ordered = sorted(everything)
    if distinct:
        last = {item: event for event in ordered for item in event[1:]}
        ordered = sorted(last.values())
    assert history(reader, "q1") == [(item, time) for time, item in ordered[-4:]]
    assert len(store.appended("q1")) <= 4


def test_recent_does_not_depend_on_order_or_repetition():
    shuffler = random.Random(1)
    events = [(shuffler.randrange(9), f"i{shuffler.randrange(4)}") for _ in range(30)]
    expected = recent(events, max_length=5, distinct=True)
    for _ in range(20):
        shuffler.shuffle(events)
        some = events[:15]
        first = recent(some, max_length=5, distinct=True)
        assert recent([*first, *events], max_length=5, distinct=True) == expected


def test_a_new_generation_replaces_the_old_and_keeps_appended_events(
    store: OnlineStore, settings: FeatureStoreConfig, tmp_path: Path
):
    fill(store)
    reader = OnlineFeatures(open_online_store(settings, tmp_path))
    reader.append_event("q1", "i3", at(20))
    with store.load(contents("two")) as loader:
        add(loader, "query_features", ["q2"], pa.table({"age": pa.array([31], pa.int16())}))
        assert reader.query("q1").is_known  # The new generation is not complete yet.
        assert reader.query("q1").features["age"].to_pylist() == [30]
    assert not reader.query("q1").is_known
    assert reader.query("q2").features["age"].to_pylist() == [31]
    assert history(reader, "q1") == [("i3", 20)]
    reader.close()


def test_a_load_that_fails_leaves_the_old_generation(store: OnlineStore):
    fill(store)

    class KilledError(Exception):
        pass

    def load() -> None:
        with store.load(contents("two")) as loader:
            add(loader, "query_features", ["q2"], pa.table({"age": pa.array([31], pa.int16())}))
            raise KilledError

    with pytest.raises(KilledError):
        load()
    reader = OnlineFeatures(store)
    assert reader.query("q1").features["age"].to_pylist() == [30]
    fill(store, "three", age=40)
    assert reader.query("q1").features["age"].to_pylist() == [40]


def test_pruned_events_leave_no_trace(
    store: OnlineStore, settings: FeatureStoreConfig, tmp_path: Path
):
    fill(store)
    reader = OnlineFeatures(store)
    for query in ("q1", "secret-query"):
        for second in (20, 30):
            reader.append_event(query, "secret-item" if second == 20 else "i3", at(second))
    cut = microseconds(at(25))
    store.prune(lambda query, event: event[0] > cut and query != "secret-query")
    assert store.appended("q1") == [(microseconds(at(30)), "i3")]
    assert store.appended("secret-query") == []
    store.close()
    if settings.online == "redis":
        import redis

        client = redis.Redis.from_url(settings.redis_url)
        prefix = settings.redis_prefix.encode()
        names = [key for key in client.keys("*") if key.startswith(prefix)]
        assert not [key for key in names if b"secret" in key]
        assert client.smembers(f"{settings.redis_prefix}:appended") == {b"q1"}
        return
    for file in (tmp_path / "online").iterdir():
        assert b"secret" not in file.read_bytes()


def test_concurrent_writers_lose_nothing(
    store: OnlineStore, settings: FeatureStoreConfig, tmp_path: Path
):
    fill(store, max_length=200)
    errors: list[BaseException] = []

    def write(worker: int) -> None:
        try:
            writer = OnlineFeatures(open_online_store(settings, tmp_path))
            for index in range(25):
                writer.append_event("q2", f"w{worker}", at(index))
            writer.close()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert len(OnlineFeatures(store).query("q2").history) == 100


def test_single_rows_can_be_replaced(store: OnlineStore):
    fill(store)
    row = encode_rows(pa.table({"age": pa.array([7, 8], pa.int16())})).to_pylist()
    store.update("query_features", ["q1", "q9"], row)
    reader = OnlineFeatures(store)
    assert reader.query("q1").features["age"].to_pylist() == [7]
    assert reader.query("q9").features["age"].to_pylist() == [8]
    store.clear()
    with pytest.raises(UserError):
        reader.query("q1")


def test_an_empty_id_is_refused(store: OnlineStore):
    fill(store)
    with pytest.raises(UserError, match="item_id is ''"):
        OnlineFeatures(store).append_event("q1", "", START)


def colliding_ids() -> list[str]:
    """Returns two ids of equal CRC-32, and a third with another one."""
    return ["plumless", "buckeroo", "q1"]


def test_ids_of_one_hash_are_told_apart(store: OnlineStore):
    ids = colliding_ids()
    assert hash_of_id(ids[0]) == hash_of_id(ids[1])
    assert hash_of_ids(pa.array(ids)).tolist() == [hash_of_id(text) for text in ids]
    table = pa.table({"age": pa.array([1, 2, 3], pa.int16())})
    with store.load(contents("one")) as loader:
        add(loader, "query_features", ids, table)
    reader = OnlineFeatures(store)
    assert [reader.query(text).features["age"][0].as_py() for text in ids] == [1, 2, 3]
    store.update("query_features", ids[1:2], encode_rows(table.slice(2, 1)).to_pylist())
    assert [reader.query(text).features["age"][0].as_py() for text in ids] == [1, 3, 3]


def test_many_rows_across_batches(store: OnlineStore):
    ids = [f"query-{index}" for index in range(45_000)]
    table = pa.table({"age": pa.array([index % 30_000 for index in range(len(ids))], pa.int16())})
    with store.load(contents("one")) as loader:
        add(loader, "query_features", ids, table)
    chosen = ids[::997]
    _, rows = store.read("query_features", chosen)
    assert rows == encode_rows(table.take(pa.array(range(0, len(ids), 997)))).to_pylist()


def test_the_appended_file_is_in_wal_mode(tmp_path: Path):
    store = open_online_store(FeatureStoreConfig(), tmp_path)
    fill(store)
    OnlineFeatures(store).append_event("q1", "i1", START)
    with sqlite3.connect(tmp_path / "online" / "appended.db") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_redis_takes_its_password_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if not is_installed():
        pytest.skip(MISSING)
    with redis_server(tmp_path, password="open sésame") as url:
        settings = FeatureStoreConfig(online="redis", redis_url=url)
        monkeypatch.setenv(PASSWORD_VARIABLE, "wrong one \udcff")  # It is not UTF-8.
        with pytest.raises(UserError, match="does not answer") as error:
            open_online_store(settings, tmp_path)
        assert "wrong one" not in str(error.value)
        monkeypatch.setenv(PASSWORD_VARIABLE, "open sésame")
        store = open_online_store(settings, tmp_path)
        fill(store)
        assert OnlineFeatures(store).query("q1").is_known
        store.close()


def test_a_server_that_is_not_there_is_named(tmp_path: Path):
    settings = FeatureStoreConfig(online="redis", redis_url="redis://127.0.0.1:1/0")
    with pytest.raises(UserError, match=r"redis://127\.0\.0\.1:1/0 does not answer"):
        open_online_store(settings, tmp_path)
