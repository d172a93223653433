"""The HTTP server, over a real socket."""

import gc
import http.client
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from weakref import ref

import pytest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

import serving
from feature_store.core.errors import UserError
from pipelines.http.admission import Admission, Limits
from serving.server.api import MAX_BODY_BYTES
from serving.server.app import create_app
from serving.server.build import ServerSettings, build
from serving.server.launch import serve
from serving.server.metrics import ServerMetrics
from serving.server.service import Service
from tests.support.servers import running


@pytest.fixture(scope="module")
def recommender(exported):
    return serving.load(exported)


@pytest.fixture(scope="module")
def port(recommender):
    with running(create_app(Service.of(recommender))) as port:
        yield port


def request(port, method, path, body=None, headers=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {"Content-Type": "application/json", **(headers or {})}
        connection.request(method, path, raw, sent)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def recommend(port, body):
    return request(port, "POST", "/recommend", body)


def test_an_answer_is_the_recommenders(port, recommender):
    status, answer = recommend(port, {"query_id": "3", "k": 4})
    assert status == 200
    expected = recommender.recommend("3", 4)
    assert len(answer.pop("request_id")) == 32
    assert answer == {
        **expected.model_dump(mode="json"),
        "variant": "main",
        "model": {
            "version": recommender.manifest.fingerprint,
            "schema_fingerprint": recommender.manifest.schema_fingerprint,
        },
    }
    assert answer["items"][0].keys() == {"item_id", "score", "title"}
    assert answer["fallback"] is False


def test_a_request_may_ask_for_what_the_query_has_had(port, recommender):
    found = {
        setting: recommend(port, {"query_id": "1", "k": 100, "exclude_seen": setting})[1]["items"]
        for setting in (None, True, False)
    }
    assert found[None] == found[True]  # As the model was evaluated.
    assert len(found[True]) == 3
    assert len(found[False]) == recommender.manifest.items


def test_an_integer_id_is_the_same_id_and_k_is_ten_by_default(port):
    answers = [recommend(port, {"query_id": 3}), recommend(port, {"query_id": "3", "k": 10})]
    assert answers[0][1]["items"] == answers[1][1]["items"]
    assert len(answers[0][1]["items"]) == 10


def test_an_unknown_query_gets_a_flagged_answer(port):
    status, answer = recommend(port, {"query_id": "nobody", "k": 3})
    assert status == 200
    assert answer["fallback"] is True
    assert len(answer["items"]) == 3


def test_probes_and_the_version(port, recommender):
    assert request(port, "GET", "/healthz") == (200, {"status": "ok"})
    assert request(port, "GET", "/readyz") == (200, {"status": "ready"})
    status, answer = request(port, "GET", "/version")
    assert status == 200
    assert answer["experiment"] is None
    (variant,) = answer["variants"]
    assert variant["name"] == "main"
    assert variant["share"] == 1
    assert variant["seal"] == recommender.manifest.seal
    assert variant["model"]["version"] == recommender.manifest.fingerprint


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({}, "the body: give query_id, features or history"),
        ({"query_id": None}, "the body: give query_id, features or history"),
        ({"query_id": ""}, "query_id: string should have at least 1 character"),
        ({"query_id": "x" * 257}, "query_id: string should have at most 256 characters"),
        ({"query_id": True}, "query_id: input should be a valid string"),
        ({"query_id": 1.5}, "query_id: input should be a valid string"),
        ({"query_id": ["3"]}, "query_id: input should be a valid string"),
        ({"query_id": "3", "k": 0}, "k: input should be greater than or equal to 1"),
        ({"query_id": "3", "k": 1001}, "k: input should be less than or equal to 1000"),
        ({"query_id": "3", "k": "10"}, "k: input should be a valid integer"),
        ({"query_id": "3", "n": 10}, "n: extra inputs are not permitted"),
        (
            {"query_id": "3", "filters": {"group": "g1"}},
            "filters.group: extra inputs are not permitted; conditions on features of items belong "
            "in filters.where",
        ),
        ([], "the body: "),
        (None, "the body: "),
        (b"{", "the body: invalid JSON: EOF"),
        (b"\xff\xfe", "the body: "),
        (b'{"query_id": "\\ud800"}', "the body: invalid JSON: "),
        (b'{"query_id": ' + b"1" * 300 + b"}", "query_id: string should have at most 256"),
        (b'{"query_id": ' + b"1" * 5000 + b"}", "the body: invalid JSON: "),
    ],
)
def test_a_bad_body_is_refused_in_one_sentence(port, body, where):
    status, answer = recommend(port, body)
    assert status in (400, 422)
    assert answer.keys() == {"error"}
    assert answer["error"].startswith(where)
    assert "\n" not in answer["error"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_what_a_page_may_send_anywhere_is_not_read(port, kind):
    headers = {"Content-Type": kind}
    status, answer = request(port, "POST", "/recommend", {"query_id": "3"}, headers)
    assert status == 422
    assert answer == {
        "error": "the body: expected JSON, and content-type: application/json; see GET "
        "/openapi.json."
    }


def test_the_first_of_two_headers_counts(recommender):
    kinds, tokens = ("application/json", "text/plain"), ("Bearer secret", "Bearer other")
    found = []
    with running(create_app(Service.of(recommender), token="secret")) as port:
        for kind, token in ((1, 1), (-1, 1), (1, -1)):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            connection.putrequest("POST", "/recommend")
            connection.putheader("Content-Length", "17")
            for each in kinds[::kind]:
                connection.putheader("Content-Type", each)
            for each in tokens[::token]:
                connection.putheader("Authorization", each)
            connection.endheaders(b'{"query_id": "3"}')
            found.append(connection.getresponse().status)
            connection.close()
    assert found == [200, 422, 401]


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/Vnd.x+JSON"])
def test_json_by_any_of_its_names_is_read(port, kind):
    status, _ = request(port, "POST", "/recommend", {"query_id": "3"}, {"Content-Type": kind})
    assert status == 200


def test_a_large_body_is_refused_whatever_its_announced_length(port):
    large = b'{"query_id": "' + b"x" * MAX_BODY_BYTES + b'"}'
    status, answer = recommend(port, large)
    assert status == 413
    assert answer["error"].startswith(f"the body is larger than {MAX_BODY_BYTES} bytes")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    pieces = [large[start : start + 1000] for start in range(0, len(large), 1000)]
    connection.request("POST", "/recommend", iter(pieces), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()


def test_other_paths_and_methods_say_what_there_is(port):
    for method, path, status in (("GET", "/recommend", 405), ("GET", "/nothing", 404)):
        found, answer = request(port, method, path)
        assert found == status
        assert answer["error"].startswith(f"{method} {path}: ")
        assert "/openapi.json" in answer["error"]


def test_an_error_of_ours_is_json_without_details():
    asked = []

    class Broken(Service):
        def similar_items(self, body):
            asked.append(body.item_id)
            raise RuntimeError("secret")

    with running(create_app(Broken(lambda: None, ServerMetrics()))) as port:
        status, answer = request(port, "POST", "/similar-items", {"item_id": "3"})
    assert asked == ["3"]
    assert status == 500
    assert "secret" not in answer["error"]


def test_errors_are_answered_as_the_application_does():
    class NamedError(Exception):
        pass

    class Refusing(Service):
        def similar_items(self, body):
            raise NamedError if body.item_id == "named" else HTTPException(418, "no tea")

    app = create_app(Refusing(lambda: None, ServerMetrics()))
    app.add_exception_handler(NamedError, lambda request, error: JSONResponse("named", 409))
    with running(app) as port:
        named, other = (
            request(port, "POST", "/similar-items", {"item_id": item}) for item in ("named", "3")
        )
    assert named == (409, "named")
    assert other[0] == 418
    assert other[1]["error"].startswith("POST /similar-items: no tea; ")


def test_many_clients_at_once_get_their_own_answers(port, recommender):
    queries = [str(i % 25) for i in range(200)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda q: recommend(port, {"query_id": q, "k": 5})[1], queries))
    for query, answer in zip(queries, answers, strict=True):
        expected = recommender.recommend(query, 5).items
        assert answer["query_id"] == query
        assert [i["item_id"] for i in answer["items"]] == [i.item_id for i in expected]


@pytest.mark.parametrize("working", [1, 2])
def test_a_request_that_is_alone_is_answered_where_it_was_read(recommender, working, monkeypatch):
    threads = []

    class Noting(Service):
        def recommend(self, body):
            threads.append(threading.current_thread().name)
            return super().recommend(body)

    admission, service = Admission(Limits()), Noting.of(recommender)
    monkeypatch.setattr(Admission, "working", working)
    with running(create_app(service, admission=admission), admission) as port:
        assert [recommend(port, {"query_id": "3"})[0] for _ in range(2)] == [200, 200]
    assert [name.startswith("answer") for name in threads] == [working > 1] * 2


def test_connections_are_counted(exported):
    admission = Admission(Limits())
    app = build(ServerSettings(exported, reload_seconds=0), admission=admission)
    with running(app, admission) as port, socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"rubbish\r\n\r\n")
        answer = client.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 400")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/metrics")
        metrics = connection.getresponse().read()
        connection.close()
    assert b"recsys_connections 2.0" in metrics
    assert b'recsys_ended_connections{reason="refused request"} 1.0' in metrics
    assert b'recsys_ended_connections{reason="made way"} 0.0' in metrics


def test_without_a_token_other_sites_get_no_answer_and_with_one_the_token_decides(recommender):
    service, other = Service.of(recommender), {"Host": "evil.example.com"}
    body = {"query_id": "3"}
    with running(create_app(service)) as port:
        status, answer = request(port, "POST", "/recommend", body, other)
        assert status == 421
        assert "RECSYS_TOKEN" in answer["error"]
    with running(create_app(service, token="secret")) as port:
        headers = {**other, "Authorization": "Bearer secret"}
        assert request(port, "POST", "/recommend", body, headers)[0] == 200
        assert request(port, "POST", "/recommend", body, other)[0] == 401


def test_pages_that_would_load_scripts_from_elsewhere_are_not_there(port):
    for path in ("/redoc", "/docs/oauth2-redirect"):
        assert request(port, "GET", path)[0] == 404


def test_serving_what_is_no_bundle_or_on_a_taken_port_is_a_users_error(tmp_path, exported, port):
    with pytest.raises(UserError, match="is not a bundle"):
        serve(ServerSettings(tmp_path))
    with pytest.raises(UserError, match=f"cannot listen on 127.0.0.1:{port}"):
        serve(ServerSettings(exported), port=port)


def test_an_application_that_is_gone_leaves_neither_bundle_nor_threads(recommender):
    service = Service.of(recommender)
    app = create_app(service)
    with running(app) as port:
        assert recommend(port, {"query_id": "3", "k": 4})[0] == 200
    held = [ref(each) for each in (service, app.state.held[-1])]
    del service, app
    gc.collect()
    assert [each() for each in held] == [None, None]
