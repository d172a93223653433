"""A store that stops answering, however it does so, costs freshness and no answer."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import numpy as np
import pyarrow as pa
import pytest

from feature_store.core.errors import UserError
from feature_store.online import open_online_store
from feature_store.online.store import StoredQuery
from feature_store.schema import FeatureSchema
from feature_store.settings import FeatureStoreConfig
from serving.experiment.exposure_log import ExposureLog
from serving.recommend.breaker import UnavailableError
from serving.recommend.load import load
from serving.recommend.options import RecommendOptions
from serving.recommend.stored import StoredQueries
from serving.server.app import create_app
from serving.server.build import ServerSettings, Store, build
from serving.server.deployment import MAIN, Serving
from serving.server.metrics import ServerMetrics
from serving.server.service import Service
from tests.feature_store.online.test_stores import add, contents, fill
from tests.serving.server.test_server import recommend, request
from tests.support.servers import MISSING, is_installed, redis_process, redis_server, running

NOW_EVENTS = {"events": [{"query_id": "3", "item_id": "i1"}]}
EVENT = ("3", (1_600_000_000_000_000, "i1"))
LONG = 30.0  # Seconds that no test waits for.
needs_redis = pytest.mark.skipif(not is_installed(), reason=MISSING)


@contextmanager
def serving_with(online, exported, log=None):
    """Serves the bundle with an online store; yields the port and the metrics."""
    metrics = ServerMetrics()
    metrics.watch_online_store(online)
    recommender = load(exported, online=online)
    service = Service(lambda: Serving({MAIN: recommender}), metrics, online=online, log=log)
    with running(create_app(service)) as port:
        yield port, metrics


def check_outage(port, exported, count=5):
    """Checks that everybody is answered from the bundle, and events are refused."""
    expected = [item.item_id for item in load(exported).recommend("3", 5).items]
    with ThreadPoolExecutor(count) as pool:
        bodies = [{"query_id": "3", "k": 5}] * count
        for status, answer in pool.map(lambda body: recommend(port, body), bodies):
            assert status == 200
            assert [item["item_id"] for item in answer["items"]] == expected
    status, answer = request(port, "POST", "/events", NOW_EVENTS)
    assert status == 503
    assert "send them again" in answer["error"]
    health = {"status": "ok", "online_store": "unavailable"}
    assert request(port, "GET", "/healthz") == (200, health)
    assert request(port, "GET", "/readyz") == (200, {"status": "ready"})


def redis_settings(url):
    return FeatureStoreConfig(online="redis", redis_url=url)


@needs_redis
def test_redis_that_is_gone_is_asked_once_in_each_pause(tmp_path, exported):
    with redis_server(tmp_path) as url:
        store = open_online_store(redis_settings(url), tmp_path)
        fill(store)
        online = StoredQueries(store, patience=LONG, pause_seconds=60)
        online.append([EVENT])
        assert online.states(["3"])[0].events == [EVENT[1]]
    with serving_with(online, exported) as (port, metrics):
        check_outage(port, exported)
        assert online.failures == 1  # The store is not asked again during the pause.
        assert b"recsys_online_store_failures 1.0" in metrics.text()
        assert b"recsys_online_store_up 0.0" in metrics.text()
    with pytest.raises(UnavailableError):
        online.append([EVENT])


@needs_redis
def test_redis_that_hangs_holds_up_nobody(tmp_path, exported):
    with redis_process(tmp_path) as (url, process):
        store = open_online_store(redis_settings(url), tmp_path, patience=2.0)
        fill(store)
        online = StoredQueries(store, patience=2.0, pause_seconds=60)
        with serving_with(online, exported) as (port, _):
            assert request(port, "POST", "/events", NOW_EVENTS)[0] == 200
            os.kill(process.pid, signal.SIGSTOP)
            try:
                check_outage(port, exported, count=8)
                assert online.failures == 1
            finally:
                os.kill(process.pid, signal.SIGCONT)


@needs_redis
def test_redis_that_restarted_empty_refuses_no_event_for_good(tmp_path, exported):
    with redis_server(tmp_path) as url:
        store = open_online_store(redis_settings(url), tmp_path)
        fill(store)
        online = StoredQueries(store, patience=LONG, pause_seconds=0)
        with serving_with(online, exported) as (port, _):
            assert request(port, "POST", "/events", NOW_EVENTS)[0] == 200
            store._client.flushall()
            check_outage(port, exported)
            fill(store, "two")
            assert request(port, "POST", "/events", NOW_EVENTS)[0] == 200
            assert request(port, "GET", "/healthz")[1]["online_store"] == "available"


def test_a_generation_that_goes_missing_is_made_anew(tmp_path, exported):
    store = open_online_store(FeatureStoreConfig(), tmp_path)
    fill(store)
    online = StoredQueries(store, patience=LONG, pause_seconds=0)
    with serving_with(online, exported) as (port, _):
        assert request(port, "GET", "/healthz")[1]["online_store"] == "available"
        (tmp_path / "online" / "one.db").unlink()
        (tmp_path / "online" / "current").write_text("one.db\n")
        check_outage(port, exported)
        fill(store, "two")
        assert request(port, "POST", "/events", NOW_EVENTS)[0] == 200
        assert online.states(["q1"])[0].is_whole
        assert request(port, "GET", "/healthz")[1]["online_store"] == "available"


class Hanging:
    """A store whose calls do not return before it is let go."""

    def __init__(self):
        self.asked, self.may_answer = Event(), Event()
        self.appended = []

    def _hang(self):
        self.asked.set()
        assert self.may_answer.wait(LONG)

    def read_queries(self, query_ids):
        self._hang()
        return [StoredQuery(contents("one"), None, None, []) for _ in query_ids]

    def append(self, events):
        self._hang()
        self.appended += events


@pytest.mark.parametrize("path", ["/recommend", "/events"])
def test_a_store_that_hangs_holds_up_nobody(exported, path):
    store = Hanging()
    online = StoredQueries(store, patience=1.0, pause_seconds=0)
    with serving_with(online, exported) as (port, metrics), ThreadPoolExecutor(1) as pool:
        body = {"query_id": "3"} if path == "/recommend" else NOW_EVENTS
        first = pool.submit(request, port, "POST", path, body)
        assert store.asked.wait(LONG)
        assert request(port, "POST", "/similar-items", {"item_id": "i1"})[0] == 200
        assert request(port, "GET", "/healthz")[0] == 200
        assert first.result()[0] == (200 if path == "/recommend" else 503)
        # The call that hangs is the only one: nobody asks the store again before it returns.
        for _ in range(3):
            check_outage(port, exported, count=8)
        assert b"recsys_online_store_failures 1.0" in metrics.text()
        store.may_answer.set()


def test_events_say_when_to_come_back(exported):
    import http.client
    import json

    class Gone:
        def append(self, events):
            raise OSError("gone")

    with serving_with(StoredQueries(Gone(), patience=LONG, pause_seconds=7), exported) as (port, _):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/events", json.dumps(NOW_EVENTS), headers)
        response = connection.getresponse()
        assert (response.status, response.headers["Retry-After"]) == (503, "7")
        connection.close()


def test_refused_events_are_not_in_the_log_either(tmp_path, exported):
    store, log = Hanging(), ExposureLog(tmp_path / "log")
    online = StoredQueries(store, patience=1.0, pause_seconds=60)
    with serving_with(online, exported, log) as (port, _):
        status, _ = request(port, "POST", "/events", NOW_EVENTS)
        assert status == 503
        store.may_answer.set()
    log.close()
    assert not (tmp_path / "log" / "events").exists()


def test_events_of_unknown_items_push_no_other_out_of_a_history(tmp_path, exported):
    store = open_online_store(FeatureStoreConfig(), tmp_path)
    fill(store, max_length=4)
    online = StoredQueries(store, patience=LONG)
    with serving_with(online, exported) as (port, metrics):
        assert request(port, "POST", "/events", NOW_EVENTS)[0] == 200
        junk = [{"query_id": "3", "item_id": f"junk {n}"} for n in range(100)]
        status, answer = request(port, "POST", "/events", {"events": junk})
        assert (status, answer["accepted"]) == (200, 100)
        assert len(answer["unknown_items"]) == 100
        assert [item for _, item in online.states(["3"])[0].events] == ["i1"]
        assert b"recsys_events_of_unknown_items_total 100.0" in metrics.text()


def store_of_another_model(directory):
    """Fills a store whose `age` is a category, and a number in the bundle."""
    schema = FeatureSchema.model_validate(
        {
            "item": [{"name": "item", "kind": "id", "dim": 4}],
            "query": [{"name": "age", "kind": "categorical", "dim": 4}],
        }
    )
    store = open_online_store(FeatureStoreConfig(), directory)
    with store.load(contents("one").model_copy(update={"features": schema})) as loader:
        add(loader, "query_features", ["3"], pa.table({"age": pa.array([99], pa.int16())}))
    return store


def test_a_server_does_not_start_with_a_store_of_another_model(tmp_path, exported):
    store_of_another_model(tmp_path).close()
    with pytest.raises(UserError, match="is of another model than the bundle"):
        build(ServerSettings(exported, store=Store(FeatureStoreConfig(), tmp_path)))


def test_features_that_become_those_of_another_model_are_not_used(tmp_path, exported, caplog):
    online = StoredQueries(store_of_another_model(tmp_path), patience=LONG)
    bundle = load(exported, online=online)
    given = RecommendOptions(history=["i1"])
    for _ in range(3):
        found = bundle.encode(["3"], given)
    np.testing.assert_array_equal(found, load(exported).encode(["3"], given))
    [warning] = [record.getMessage() for record in caplog.records]
    assert "features of the online store are not used" in warning


@pytest.mark.parametrize("harm", ["missing", "empty", "foreign"])
def test_a_server_does_not_start_with_a_broken_store(tmp_path, exported, harm):
    store = open_online_store(FeatureStoreConfig(), tmp_path)
    fill(store)
    file = tmp_path / "online" / "one.db"
    if harm == "missing":
        file.unlink()
    else:
        file.write_bytes(b"" if harm == "empty" else b"something else")
    with pytest.raises(UserError, match="run `recsys materialize`"):
        build(ServerSettings(exported, store=Store(FeatureStoreConfig(), tmp_path)))


def test_a_store_that_answers_again_is_asked_again(tmp_path):
    store = open_online_store(FeatureStoreConfig(), tmp_path)
    online = StoredQueries(store, patience=LONG, pause_seconds=0)
    assert not online.states(["q1"])[0].is_whole  # No generation exists yet.
    assert not online.is_available
    fill(store)
    assert online.states(["q1"])[0].is_whole
    assert online.is_available
