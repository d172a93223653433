"""Strangers and a server over a real socket, with small limits and a clock that is told."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack, suppress
from math import inf

import pytest
from starlette.responses import Response

from pipelines.http import server as module
from pipelines.http.admission import Admission, Limits
from tests.support.servers import running

LIMITS = Limits(connections=8, of_address=6, reserve=2, head_bytes=2000, headers=20)
BEGUN = b"", b"GET / HT", b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{"
LARGE = b"x" * 20_000_000
ADDRESS = re.compile(r"127\.0\.0\.1:(\d+)")
WEBSOCKET = b"sec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n"
ENDING = """
import threading
from pipelines.http import server
server._GRACE_SECONDS = server._END_SECONDS = 1
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    print("asked", flush=True)
    threading.Event().wait()  # Not even the loop goes on.
server.run_app(app, host="127.0.0.1", port=0)
"""


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class App:
    """Answers `ok`, a large answer, its body, or not before it may."""

    def __init__(self):
        self.may_answer = threading.Event()
        self.asked = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        self.asked.append(scope["path"])
        if scope["path"] == "/slow":
            import asyncio

            while not self.may_answer.is_set():
                await asyncio.sleep(0.01)
        content = LARGE if scope["path"] == "/large" else b"ok"
        if scope["path"] == "/echo":
            content, more = b"", True
            while more:
                message = await receive()
                if message["type"] != "http.request":
                    return
                content += message["body"]
                more = message["more_body"]
        await Response(content)(scope, receive, send)


@pytest.fixture
def served(monkeypatch):
    monkeypatch.setattr(module, "_CHECK_SECONDS", 0.02)
    app, clock = App(), Clock()
    admission = Admission(LIMITS, clock)
    with running(app, admission, probes=("/healthz",)) as port:
        yield port, app, admission
        app.may_answer.set()


def connect(port, source="127.0.0.1"):
    client = socket.create_connection(("127.0.0.1", port), 30, source_address=(source, 0))
    client.settimeout(30)
    return client


def everything(client):
    """Reads until the server has closed the connection."""
    found = b""
    try:
        while piece := client.recv(65_536):
            found += piece
    except ConnectionResetError:
        pass
    return found


def ask(port, path="/", source="127.0.0.1"):
    connection = http.client.HTTPConnection("127.0.0.1", port, 30, source_address=(source, 0))
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, answer.read()
    connection.close()
    return found


def problem_of(answer):
    """Returns the status and the sentence of an answer that the server made itself."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/json" in head.lower()
    document = json.loads(body)
    assert document.keys() == {"error"}
    return int(head.split()[1]), document["error"]


def only(admission):
    """Returns the only connection."""
    [connection] = admission._open
    return connection


def eventually(condition):
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.01)
    pytest.fail("it did not come true")


def test_idle_connections_and_half_requests_keep_nobody_out(served):
    port, _, admission = served
    with ExitStack() as stack:
        for number in range(40):
            client = stack.enter_context(connect(port, f"127.0.0.{1 + number % 5}"))
            client.sendall(BEGUN[number % 3])
            assert ask(port, source=f"127.0.0.{1 + number % 5}") == (200, b"ok")
            assert ask(port, "/healthz") == (200, b"ok")
        assert len(admission) <= LIMITS.connections + LIMITS.reserve
        assert admission.closed["made way"] >= 30


def test_while_all_work_probes_are_answered_and_others_are_told_to_come_back(served):
    port, app, _ = served
    with ExitStack() as stack:
        working = []
        for number in range(LIMITS.connections):
            client = stack.enter_context(connect(port, f"127.0.0.{1 + number % 3}"))
            client.sendall(b"GET /slow HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            working.append(client)
        eventually(lambda: app.asked.count("/slow") == LIMITS.connections)
        # Idle connections take no place of the reserve for long, either.
        for _ in range(10):
            stack.enter_context(connect(port, "127.0.0.9"))
        for source in ("127.0.0.1", "127.0.0.9"):
            assert ask(port, "/healthz", source) == (200, b"ok")
            status, body = ask(port, "/", source)
            assert status == 503
            assert "come back" in json.loads(body)["error"]
        app.may_answer.set()
        for client in working:
            assert everything(client).endswith(b"ok")


@pytest.mark.parametrize("begun", [b"", b"\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nx-slow: 1"])
def test_a_request_that_does_not_come_ends_in_time(served, begun):
    port, _, admission = served
    with connect(port) as client:
        client.sendall(begun)
        eventually(lambda: len(admission) == 1)
        if begun.strip():
            eventually(lambda: only(admission)._reading == "head")
        admission.clock.now += LIMITS.head_seconds + 1
        found = everything(client)
    if begun.strip():
        assert problem_of(found)[0] == 408
        assert admission.closed["slow request"] == 1
    else:
        assert found == b""


def test_a_body_that_does_not_come_ends_in_time(served):
    port, app, admission = served
    with connect(port) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
        eventually(lambda: app.asked == ["/echo"])
        admission.clock.now += LIMITS.body_seconds + 1
        assert problem_of(everything(client))[0] == 408
    eventually(lambda: len(admission) == 0)


def test_bytes_that_come_one_by_one_do_not_stretch_the_time(served):
    port, _, admission = served
    with connect(port) as client:
        for letter in b"GET / HTTP/1.1\r\nhost: x\r\n":
            client.sendall(bytes([letter]))
        eventually(lambda: len(admission) == 1 and only(admission)._reading == "head")
        admission.clock.now += LIMITS.head_seconds - 1
        client.sendall(b"x")
        admission.clock.now += 2
        assert problem_of(everything(client))[0] == 408


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nx: " + b"a" * 1_000_000,
        b"GET / HTTP/1.1\r\n" + b"a" * 1_000_000,
        b"GET /" + b"a" * 1_000_000,
        b"GET / HTTP/1.1\r\nx: " + b"a" * 3000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 30 + b"\r\n",
    ],
)
def test_a_head_has_its_bounds(served, head):
    port, app, admission = served
    with connect(port) as client:
        with suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(head)
        status, text = problem_of(everything(client))
        assert status == 431
        assert "2000 bytes and 20 headers" in text
    assert app.asked == []
    assert admission.closed["refused request"] == 1


def test_a_request_has_its_bound_whatever_it_is_cut_into(served):
    port, _, _ = served
    chunk = b"1;" + b"e" * 5000 + b"\r\nx\r\n"  # Extensions of chunks are no part of the body.
    with connect(port) as client:
        client.sendall(b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        with suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(2000):
                client.sendall(chunk)
        assert problem_of(everything(client))[0] == 413


def test_what_follows_a_refused_request_is_not_read_for_long(served):
    port, _, admission = served
    sent = 0
    with connect(port) as client:
        with suppress(BrokenPipeError, ConnectionResetError):
            client.sendall(b"rubbish\r\n\r\n")
            while sent < 100 * LIMITS.message_bytes:
                sent += client.send(b"x" * 65_536)
        assert sent < 100 * LIMITS.message_bytes
    eventually(lambda: len(admission) == 0)


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"hello\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost : x\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1, 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\nab",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\nab",
        b"POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_malformed_and_ambiguous_requests_are_refused(served, request_bytes):
    port, _, admission = served
    with connect(port) as client:
        client.sendall(request_bytes)
        assert problem_of(everything(client))[0] == 400
    eventually(lambda: len(admission) == 0)


def test_an_answer_that_is_not_read_ends_in_time(served):
    port, _, admission = served
    with connect(port) as client:
        client.sendall(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n")
        eventually(lambda: admission._unsent)
        admission.clock.now += LIMITS.answer_seconds - 1
        assert len(admission) == 1
        admission.clock.now += 2
        eventually(lambda: len(admission) == 0)
        assert admission.closed["unread answer"] == 1


def test_a_connection_is_used_again_and_ends_when_it_is_idle(served):
    port, app, admission = served
    with connect(port) as client:
        for path in (b"/one", b"/two"):
            client.sendall(b"GET %s HTTP/1.1\r\nhost: x\r\n\r\n" % path)
            assert client.recv(65_536).endswith(b"ok")
        eventually(lambda: only(admission) in admission._waiting)
        admission.clock.now += LIMITS.idle_seconds + 1
        assert everything(client) == b""
    assert app.asked == ["/one", "/two"]


def test_requests_that_come_together_are_answered_in_order_and_bounded(served):
    port, app, _ = served
    request = b"GET /%d HTTP/1.1\r\nhost: x\r\n\r\n"
    with connect(port) as client:
        client.sendall(b"".join(request % number for number in range(10)) + b"rubbish\r\n\r\n")
        assert everything(client).count(b"200 OK") == 10
    assert app.asked == [f"/{number}" for number in range(10)]
    with connect(port) as client:
        client.sendall(b"".join(request % number for number in range(1000)))
        assert everything(client).count(b"200 OK") <= LIMITS.pipelined + 1


def test_the_rest_of_a_request_that_has_its_answer_is_read_for_a_while(served):
    port, _, admission = served
    with connect(port) as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        assert client.recv(65_536).endswith(b"ok")
        client.sendall(b"x" * 1000)
        until = admission.clock.now + LIMITS.unread_seconds
        eventually(lambda: only(admission)._deadline == until)
        admission.clock.now += LIMITS.unread_seconds + 1
        everything(client)
    with connect(port) as client:
        client.sendall(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n")
        assert client.recv(65_536).endswith(b"ok")
        client.sendall(b"x" * 100_000 + b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert everything(client).endswith(b"ok")


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_no_connection_gets_out_of_the_bounds_by_an_upgrade(served, protocol):
    port, _, admission = served
    head = f"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n"
    with connect(port) as client:
        client.sendall(
            head.encode() + b"sec-websocket-version: 13\r\nsec-websocket-key: eA==\r\n\r\n"
        )
        assert client.recv(65_536).startswith(b"HTTP/1.1 200")
        eventually(lambda: only(admission)._is_done and only(admission)._deadline < inf)
        admission.clock.now += 100
        everything(client)
    eventually(lambda: len(admission) == 0)


def test_a_process_whose_request_hangs_ends_after_a_signal():
    command = [sys.executable, "-c", ENDING]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        port = next(found[1] for line in process.stderr if (found := ADDRESS.search(line)))
        with connect(int(port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert process.stdout.readline() == "asked\n"
            os.kill(process.pid, signal.SIGTERM)
            _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert "a request hangs" in said
