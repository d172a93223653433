"""Whatever is sent, no answer is a failure of the server's own, and the server goes on."""

import http.client
import json
import random
import socket
import string

import pytest
import schemathesis

# It is imported before a server's thread runs, because pytest parses it then, and Python before
# 3.11.5 cannot parse in two threads at once (issue 106905 of CPython).
import schemathesis.specs.openapi.schemas
from hypothesis import HealthCheck, given, settings
from hypothesis.strategies import one_of
from schemathesis import GenerationMode

from serving.server.build import ServerSettings, build
from tests.support.servers import running

# Requests of each of the two tests; together over ten thousand with `slow`.
BYTES, SLOW_BYTES = 300, 9500
EXAMPLES, SLOW_EXAMPLES = 15, 150
PATHS = ("/recommend", "/recommend/batch", "/similar-items", "/events")
SEEDS = (
    {"query_id": "3", "k": 5, "filters": {"where": {"group": ["g1"]}, "deny": ["i1"]}},
    {"features": {"age": 3, "country": "c1"}, "history": ["i1"], "context": {}, "at": "2024-01-01"},
    {"query_ids": ["1", "2"], "k": 3, "exclude_seen": False},
    {"item_id": "i3", "k": 3, "filters": {"allow": ["i1", "i2"]}},
    {"events": [{"query_id": "3", "item_id": "i1", "event_type": "view", "value": 2.5}]},
)
VALUES = (
    None, True, -1, 0, 10**30, 1e308, float("nan"), float("inf"), "", "\x00", "\ud800", "é" * 300,
    [], {}, [[]], [None], {"": None}, "9999-12-31T23:59:59Z", "0001-01-01", 253402300800, "i1", "3",
)  # fmt: skip


@pytest.fixture(scope="module")
def app(exported):
    return build(ServerSettings(exported, reload_seconds=0))


def mutated(body, chance):
    """Replaces, removes or adds some parts of a body."""
    if isinstance(body, dict):
        body = {k: mutated(v, chance) for k, v in body.items() if random.random() > chance}
        if random.random() < chance:
            body[random.choice(["k", "at", "variant", "extra", "context"])] = random.choice(VALUES)
    elif isinstance(body, list):
        body = [mutated(v, chance) for v in body] * random.choice([1, 1, 1, 0, 2])
    return random.choice(VALUES) if random.random() < chance else body


def garbled(content):
    """Changes, removes or repeats some bytes."""
    for _ in range(random.randint(0, 3)):
        place = random.randrange(len(content) + 1)
        piece = bytes(random.randrange(256) for _ in range(random.randint(0, 4)))
        content = content[:place] + piece + content[place + random.randint(0, 3) :]
    return content * random.choice([1, 1, 1, 1, 50])


def send(port, count):
    """Sends bodies over as few connections as the server lets it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    statuses = {}
    for _ in range(count):
        body = json.dumps(mutated(random.choice(SEEDS), 0.15)).encode()
        body = garbled(body) if random.random() < 0.4 else body
        kind = random.choice(["application/json"] * 8 + ["text/plain", "application/x-" + "a" * 50])
        path = random.choice(PATHS) + random.choice([""] * 20 + ["/", "?k=1", "/../healthz"])
        connection.request("POST", path, body, {"Content-Type": kind})
        response = connection.getresponse()
        answer = response.read()
        assert response.status < 500, (path, body, answer)
        assert isinstance(json.loads(answer), dict)
        assert b"Traceback" not in answer
        statuses[response.status] = statuses.get(response.status, 0) + 1
    connection.close()
    return statuses


def raw_requests(port, count):
    """Sends bytes that are hardly HTTP."""
    letters = string.printable.encode() + bytes(range(256))
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            head = b"POST /recommend HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{}"
            noise = bytes(random.choice(letters) for _ in range(random.randint(1, 200)))
            client.sendall(garbled(random.choice([noise, head + noise, noise + head])))
            client.shutdown(socket.SHUT_WR)
            answer = client.recv(65_536)
            assert not answer.startswith(b"HTTP/1.1 5"), answer


def check_bytes(app, count):
    random.seed(0)
    with running(app) as port:
        statuses = send(port, count)
        raw_requests(port, count // 10)
        # It answers as before.
        assert 200 in statuses
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        body = json.dumps({"query_id": "3", "k": 5})
        connection.request("POST", "/recommend", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        assert len(answer["items"]) == 5
        connection.close()


def check_schema(app, examples):
    """Sends requests that schemathesis makes from the document, valid and not."""
    with running(app) as port:
        url = f"http://127.0.0.1:{port}"
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        for found in schema.get_all_operations():
            check_operation(found.ok(), url, examples if found.ok().method == "post" else 5)


def check_operation(operation, url, examples):
    made = one_of(operation.as_strategy(generation_mode=mode) for mode in GenerationMode)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=made)
    def check(case):
        response = case.call(base_url=url, timeout=30)
        assert response.status_code < 500, (case.body, response.text)
        if response.status_code >= 400:
            assert set(response.json()) == {"error"}

    check()


def test_requests_of_the_document_are_never_failures(app):
    check_schema(app, EXAMPLES)


@pytest.mark.slow
def test_thousands_of_the_document_are_none_either(app):
    check_schema(app, SLOW_EXAMPLES)


def test_changed_and_garbled_requests_are_never_failures(app):
    check_bytes(app, BYTES)


@pytest.mark.slow
def test_thousands_of_them_are_none_either(app):
    check_bytes(app, SLOW_BYTES)
