"""The page on which to try the API."""

import http.client
import json
import re

import pytest

import serving
from serving.server.app import create_app
from serving.server.service import Service
from tests.support.browser import NEEDS_CHROMIUM, open_browser
from tests.support.servers import running


@pytest.fixture(scope="module")
def service(exported):
    return Service.of(serving.load(exported))


@pytest.fixture(scope="module")
def port(service):
    with running(create_app(service)) as port:
        yield port


def get(port, path, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, dict(response.headers), response.read().decode()
    finally:
        connection.close()


def test_the_page_names_no_other_host_and_may_ask_none(port):
    status, headers, page = get(port, "/docs")
    assert status == 200
    assert headers["content-type"].startswith("text/html")
    sources = re.findall(r'(?:src|href|url)\s*[=:]\s*"([^"]*)"', page)
    assert len(sources) == 4
    for source in sources:
        assert not re.match(r"(?:\w+:)?//", source)
        if not source.startswith("data:"):
            status, _, content = get(port, f"/{source}")
            assert status == 200
            assert content
    start = get(port, "/docs/try-page.js")[2]
    assert "validatorUrl: null" in start
    for text in (page, start):
        assert "http" not in text
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert set(" ".join(policy.values()).split()) == {
        "'none'",
        "'self'",
        "'unsafe-inline'",
        "data:",
    }


def test_a_browser_gets_the_page_without_the_token_but_no_answer(service):
    with running(create_app(service, token="secret")) as port:
        for path in ("/docs", "/docs/swagger-ui-bundle.js", "/docs/try-page.js", "/openapi.json"):
            assert get(port, path)[0] == 200
        for path in ("/version", "/metrics", "/docs/", "/docs/other.js", "/docsx"):
            assert get(port, path)[0] == 401
        # The page has a field for the token.
        assert '"securitySchemes":{"HTTPBearer"' in get(port, "/openapi.json")[2]


def test_another_sites_name_gets_no_page(port):
    assert get(port, "/docs", Host="evil.example.com")[0] == 421


@pytest.mark.slow
@NEEDS_CHROMIUM
def test_a_request_is_tried_in_a_browser_that_asks_this_server_alone(service):
    asked, faults = [], []
    with running(create_app(service, token="secret")) as port, open_browser() as browser:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda line: faults.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}/docs")
        page.click("button.authorize")
        page.fill("input[aria-label='auth-bearer-value']", "secret")
        page.click("button[aria-label='Apply credentials']")
        page.click("button.btn-done")
        page.click("#operations-default-recommend_recommend_post .opblock-summary-control")
        # The example is the bundle's own, from the token on.
        known = service.recommender.samples().query_ids[0]
        page.wait_for_function(
            "known => document.querySelector('.opblock-body textarea')?.value.includes(known)",
            arg=f'"query_id": "{known}"',
        )
        page.click("button.execute")
        shown = page.locator(".live-responses-table .response .microlight").first
        shown.wait_for()
        assert '"fallback": false' in shown.inner_text()
    assert asked
    assert all(url.startswith((f"http://127.0.0.1:{port}/", "data:", "blob:")) for url in asked)
    assert faults == []


def examples(document):
    """Yields the path and the body of each example of a document."""
    for path, methods in document["paths"].items():
        for name in re.findall(r"schemas/(\w+Request)'", str(methods)):
            for body in document["components"]["schemas"][name]["examples"]:
                yield path, body


def post(port, path, body, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        headers |= {"Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body), headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def test_every_example_is_of_the_loaded_bundle_and_gets_a_good_answer(port):
    tried = list(examples(json.loads(get(port, "/openapi.json")[2])))
    assert {path for path, _ in tried} == {
        "/recommend",
        "/recommend/batch",
        "/similar-items",
        "/events",
    }
    assert any("where" in str(body) for _, body in tried)
    for path, body in tried:
        status, answer = post(port, path, body)
        assert status == 200, (path, body, answer)
        if path == "/events":
            assert answer == {"accepted": 1, "unknown_items": []}
            continue
        for each in answer.get("results", [answer]):
            assert each["items"]
            assert not each.get("fallback")


def test_strangers_get_no_ids_of_the_bundle(service):
    ids = service.recommender.samples().query_ids
    with running(create_app(service, token="secret")) as port:
        strange = json.loads(get(port, "/openapi.json")[2])
        known = json.loads(get(port, "/openapi.json", Authorization="Bearer secret")[2])
    asked = [{body.get("query_id") for _, body in examples(each)} for each in (strange, known)]
    assert ids[0] not in asked[0]
    assert ids[0] in asked[1]
