"""A store that stops answering costs freshness and no answer."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from feature_store.online import open_online_store
from feature_store.settings import FeatureStoreConfig
from serving.recommend.load import load
from serving.recommend.online import NOTHING, StoredQueries, UnavailableError
from serving.server.app import create_app
from serving.server.deployment import MAIN, Serving
from serving.server.metrics import ServerMetrics
from serving.server.service import Service
from tests.feature_store.online.test_stores import fill
from tests.serving.server.test_server import recommend, request, running
from tests.support.redis_server import MISSING, is_installed, redis_server

EVENT = (1_600_000_000_000_000, "i1")


@pytest.mark.skipif(not is_installed(), reason=MISSING)
def test_queries_are_answered_from_the_bundle_and_events_are_refused(tmp_path, exported):
    with redis_server(tmp_path) as url:
        settings = FeatureStoreConfig(online="redis", redis_url=url)
        store = open_online_store(settings, tmp_path)
        fill(store)
        online = StoredQueries(store, pause_seconds=60)
        online.append("3", EVENT)
        assert online.query("3").events == [EVENT]
    recommender, metrics = load(exported, online=online), ServerMetrics()
    metrics.watch_online_store(lambda: online.failures)
    service = Service(lambda: Serving({MAIN: recommender}), metrics, online=online)
    with running(create_app(service)) as port:
        answers = [recommend(port, {"query_id": "3", "k": 5}) for _ in range(5)]
        assert {status for status, _ in answers} == {200}
        expected = load(exported).recommend("3", 5).items
        assert [i["item_id"] for i in answers[-1][1]["items"]] == [i.item_id for i in expected]
        assert online.failures == 1  # The store is not asked again during the pause.
        body = {"events": [{"query_id": "3", "item_id": "i1"}]}
        status, answer = request(port, "POST", "/events", body)
        assert status == 503
        assert "send them again" in answer["error"]
        assert b"recsys_online_store_failures 2.0" in metrics.text()
    with pytest.raises(UnavailableError):
        online.append("3", EVENT)


def test_a_store_that_answers_again_is_asked_again(tmp_path):
    store = open_online_store(FeatureStoreConfig(), tmp_path)
    online = StoredQueries(store, pause_seconds=0)
    assert not online.query("q1").is_whole  # No generation exists yet.
    fill(store)
    assert online.query("q1").is_whole
    store.close()


def test_a_slow_store_holds_up_nobody_who_does_not_ask_it(tmp_path, exported, monkeypatch):
    online, may_answer = StoredQueries(open_online_store(FeatureStoreConfig(), tmp_path)), Event()

    def slowly(query_id):
        assert may_answer.wait(20)
        return NOTHING

    monkeypatch.setattr(online, "query", slowly)
    recommender = load(exported, online=online)
    service = Service(lambda: Serving({MAIN: recommender}), ServerMetrics(), online=online)
    with running(create_app(service)) as port, ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(recommend, port, {"query_id": "3"}) for _ in range(8)]
        assert request(port, "POST", "/similar-items", {"item_id": "i1"})[0] == 200
        assert request(port, "GET", "/healthz")[0] == 200
        assert not any(each.done() for each in waiting)
        may_answer.set()
        assert {each.result()[0] for each in waiting} == {200}
