"""The dashboard over HTTP: other sites, pages of FastAPI, and callbacks that are none."""

import http.client
import json
import re
from typing import ClassVar

import pytest

from feature_store.core.errors import UserError
from recsys.dashboard.app import build_app
from recsys.dashboard.requests import CALLBACK
from tests.support.servers import running

OUTPUT = "..page.children...title.data.."
GOOD = {
    "output": OUTPUT,
    "outputs": [{"id": "page", "property": "children"}, {"id": "title", "property": "data"}],
    "inputs": [
        {"id": "location", "property": "pathname", "value": "/"},
        {"id": "location", "property": "search", "value": ""},
    ],
    "changedPropIds": ["location.pathname", "location.search"],
}


class Run:
    """A run that the nightly job trained, or another one."""

    def __init__(self, page):
        self.find = lambda name: page if name == "nightly/day.html" else None


class Store:
    """A store whose list has no runs."""

    pages: ClassVar = {}

    def rows(self):
        return []

    def data(self, run_id):
        if run_id not in self.pages:
            raise UserError(f"the store has no training with the id {run_id!r}.")
        return Run(self.pages[run_id])

    def __getattr__(self, name):
        return lambda *arguments: []


@pytest.fixture(scope="module")
def port():
    with running(build_app(Store()).server) as port:
        yield port


def ask(port, method, path, body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    kind = {"Content-Type": "application/json"} if content is not None else {}
    connection.request(method, path, content, {**kind, **headers})
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(errors="replace")
    connection.close()
    return found


def test_the_page_of_a_day_is_shown_without_scripts(port, tmp_path, monkeypatch):
    (tmp_path / "day.html").write_text("<!doctype html><title>Day</title>")
    monkeypatch.setattr(Store, "pages", {"nightly": tmp_path / "day.html", "other": None})
    assert ask(port, "GET", "/day/nightly") == (200, "<!doctype html><title>Day</title>")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/day/nightly")
    assert "default-src 'none'" in connection.getresponse().headers["Content-Security-Policy"]
    connection.close()
    assert ask(port, "GET", "/day/other")[0] == 404
    status, sentence = ask(port, "GET", "/day/none")
    assert status == 404
    assert "no training with the id 'none'" in sentence


def test_something_stands_where_a_page_will_be(port):
    _, index = ask(port, "GET", "/")
    assert re.search(r"_dash-loading, \.skeleton \{[^}]*min-height", index)
    _, layout = ask(port, "GET", "/_dash-layout")
    loading = next(each for each in json.loads(layout) if each["type"] == "Loading")
    assert loading["props"]["delay_show"] <= 300
    assert loading["props"]["custom_spinner"]["props"]["className"] == "skeleton"


def test_a_callback_is_answered(port):
    status, answer = ask(port, "POST", CALLBACK, GOOD)
    assert status == 200
    assert json.loads(answer)["response"]["page"]["children"]


def changed(**parts):
    return {**GOOD, **parts}


def with_input(**parts):
    first, second = GOOD["inputs"]
    return changed(inputs=[{**first, **parts}, second])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[" * 50_000,
        [],
        "text",
        None,
        {},
        {"output": OUTPUT},
        changed(output="..page.children.."),
        changed(output=[OUTPUT]),
        changed(output={"id": "page"}),
        changed(outputs=[]),
        changed(outputs={"id": "page", "property": "children"}),
        changed(outputs=GOOD["outputs"][::-1]),
        changed(outputs=[{"id": {"type": "x"}, "property": "children"}]),
        changed(inputs=[]),
        changed(inputs=GOOD["inputs"][:1]),
        changed(inputs=GOOD["inputs"] * 2),
        changed(inputs=[[each] for each in GOOD["inputs"]]),
        changed(inputs="inputs"),
        changed(state=[{"id": "a", "property": "b", "value": "c"}]),
        changed(changedPropIds=7),
        changed(changedPropIds=[{}]),
        with_input(id="elsewhere"),
        with_input(property=3),
        with_input(value=7),
        with_input(value={"a": []}),
        with_input(value="/" * 20_000),
    ],
)
def test_a_callback_that_is_none_of_the_dashboards_is_refused(port, body):
    status, answer = ask(port, "POST", CALLBACK, b"null" if body is None else body)
    assert status == 400
    assert json.loads(answer).keys() == {"error"}


def test_a_callback_comes_as_json_and_within_a_size(port):
    content = json.dumps(GOOD).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert ask(port, "POST", CALLBACK, content, **{"Content-Type": kind})[0] == 415
    assert ask(port, "POST", CALLBACK, content + b" " * 70_000)[0] == 413


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "POST"])
def test_pages_are_only_read(port, method):
    status, answer = ask(port, method, "/", b"{}")
    assert status == 405
    assert json.loads(answer).keys() == {"error"}
    assert ask(port, "GET", CALLBACK)[0] == 405


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect"])
def test_there_are_no_pages_but_the_dashboards(port, path):
    status, answer = ask(port, "GET", path)
    assert status == 404 or "_dash-config" in answer  # The dashboard shows that there is none.
    assert "swagger" not in answer.lower()
    assert "redoc" not in answer.lower()
    assert '"openapi"' not in answer


def test_nothing_is_loaded_from_elsewhere(port):
    status, page = ask(port, "GET", "/")
    assert status == 200
    for address in re.findall(r"(?:src|href)=[\"']([^\"']+)", page):
        assert address.startswith("/")
        assert ask(port, "GET", address)[0] == 200


@pytest.mark.parametrize(
    "path", ["dash/nothing.js", "nothing/at.js", "dash", "", "os/path.py", "dash/../app.py"]
)
def test_files_are_those_of_the_pages(port, path):
    status, answer = ask(port, "GET", f"/_dash-component-suites/{path}")
    assert status == 404
    assert json.loads(answer).keys() == {"error"}


def test_other_sites_get_no_answer(port):
    for path in ("/", "/_dash-layout", CALLBACK):
        method = "POST" if path == CALLBACK else "GET"
        body = GOOD if path == CALLBACK else None
        status, answer = ask(port, method, path, body, Host="evil.example.com")
        assert status == 421
        assert json.loads(answer).keys() == {"error"}
