"""docs/serving.md: every endpoint has an example, and each gets an answer of the form given."""

import http.client
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recsys.config.config import Config
from serving.server.build import ServerSettings, build
from tests.support.servers import running

PAGE = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## Examples\n")[2].partition("\n## ")[0]
INDENTED = re.findall(r"(?:^    .*\n)+", SECTION, re.M)
BLOCKS = [re.sub(r"^    ", "", text, flags=re.M) for text in INDENTED]
EXAMPLES = list(zip(BLOCKS[::2], BLOCKS[1::2], strict=True))
TOKEN = "secret"
# Names of the tests' bundle in place of those of the quick start.
NAMES = {"50": "i5", "172": "i7", "genres": "group", "Drama": "g1", "Comedy": "g2", "drama": "G1"}
NAMES |= {"release_year": "year", "occupation": "country", "artist": "c1", "42": "3"}


@pytest.fixture(scope="module")
def app(tiny_fused: Config) -> Any:
    return build(ServerSettings(tiny_fused.bundle_dir, reload_seconds=0, token=TOKEN))


@pytest.fixture(scope="module")
def port(app: Any) -> Iterator[int]:
    with running(app) as port:
        yield port


def request_of(command: str) -> tuple[str, str, Any]:
    """Returns the method, the path and the body of a call of curl."""
    words = shlex.split(command)
    (url,) = (word for word in words if word.startswith("localhost:8000/"))
    body = renamed(json.loads(words[words.index("--json") + 1])) if "--json" in words else None
    method = "POST" if "--json" in words or "POST" in words else "GET"
    return method, url.removeprefix("localhost:8000"), body


def renamed(value: Any) -> Any:
    if isinstance(value, dict):
        return {NAMES.get(key, key): renamed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [renamed(inner) for inner in value]
    return NAMES.get(value, value) if isinstance(value, str) else value


def is_alike(answer: Any, shown: Any) -> bool:
    """Tells whether an answer has the keys and types of the one that is shown.

    Lists may be empty, as the reasons of an item; and which channels there are differs.
    """
    if isinstance(shown, dict):
        same = answer.keys() == shown.keys()
        return same and all(k == "channels" or is_alike(answer[k], shown[k]) for k in shown)
    if isinstance(shown, list):
        return not shown or all(is_alike(each, shown[0]) for each in answer)
    return type(answer) is type(shown)


@pytest.mark.parametrize(("command", "shown"), EXAMPLES, ids=[c.split("'")[0] for c, _ in EXAMPLES])
def test_an_example_gets_its_answer(port: int, command: str, shown: str) -> None:
    method, path, body = request_of(command)
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        raw = None if body is None else json.dumps(body)
        connection.request(method, path, raw, headers)
        response = connection.getresponse()
        status, answer = response.status, response.read().decode()
    finally:
        connection.close()
    if not shown.startswith("{"):
        assert status == 200
        assert answer.startswith("# HELP ")
        assert shown.split()[2] in answer
        return
    expected = json.loads(shown)
    assert status == (422 if "error" in expected else 200), answer
    assert is_alike(json.loads(answer), expected), answer


def test_every_endpoint_has_an_example(app: Any) -> None:
    operations = {
        (method.upper(), path) for path, each in app.openapi()["paths"].items() for method in each
    }
    assert operations == {request_of(command)[:2] for command, _ in EXAMPLES}
