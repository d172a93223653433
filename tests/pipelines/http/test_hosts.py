"""Pages of other sites, whose name leads to this machine, get no answer."""

import http.client
import json
import socket

import pytest
from starlette.responses import Response

from pipelines.http.hosts import HostCheck
from tests.support.servers import running


async def app(scope, receive, send):
    if scope["type"] == "http":
        await Response(b"ok")(scope, receive, send)


@pytest.fixture(scope="module")
def port():
    with running(HostCheck(app, "recommend.example.com", "set a token")) as port:
        yield port


def ask(port, *hosts):
    connection = http.client.HTTPConnection("127.0.0.1", port, 30)
    connection.putrequest("GET", "/", skip_host=True)
    for host in hosts:
        connection.putheader("Host", host)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:8000",
        "localhost",
        "LOCALHOST:80",
        "[::1]:8000",
        "10.1.2.3",
        "recsys:8000",
        "recsys.shop.svc.cluster.local",
        "recommend.example.com:8000",
        "Recommend.Example.com.",
        socket.gethostname(),
    ],
)
def test_names_of_this_host_are_answered(port, host):
    assert ask(port, host) == (200, b"ok")


@pytest.mark.parametrize(
    "hosts",
    [
        ("evil.com",),
        ("evil.com:8000",),
        ("localhost.evil.com",),
        ("127.0.0.1.evil.com",),
        ("example.com",),
        ("evil.recommend.example.com",),
        ("[evil.com]:8000",),
        ("local.com",),
        ("",),
        (".",),
        (),
        ("localhost", "evil.com"),
    ],
)
def test_names_of_others_are_not(port, hosts):
    status, content = ask(port, *hosts)
    assert status == (421 if hosts else 400)
    assert "ask by its address, or set a token" in json.loads(content)["error"]
