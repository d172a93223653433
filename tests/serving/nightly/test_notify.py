"""The outcome of a day is told to a local receiver and to Prometheus, and never fails the job."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from feature_store.core.errors import UserError
from recsys.config.load import load_config
from serving.nightly import notify as notifying
from serving.nightly.notify import notify
from serving.nightly.outcome import Outcome
from tests.support.nightly.daily_log import daily_config

OUTCOME = Outcome(
    date="2026-11-23",
    as_of="2026-11-23T00:00:00+00:00",
    outcome="kept",
    reason="worse",
    model='mine "1"',
    champion="7",
    metric="recall@50",
    value=0.25,
    events=1_000,
)


class Receiver:
    """A local receiver of webhooks, which gives its answers in order.

    Attributes:
        url: Address.
        received: Bodies of the requests.
    """

    def __init__(self, *answers: int) -> None:
        self.received: list[dict[str, Any]] = []
        left, received = list(answers), self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                received.append(json.loads(self.rfile.read(length)))
                answer = left.pop(0)
                self.send_response(answer)
                if 300 <= answer < 400:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/secret"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> "Receiver":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Returns the pauses between attempts, which are not waited for."""
    found: list[float] = []
    monkeypatch.setattr(notifying.time, "sleep", found.append)
    return found


def told(tmp_path: Path, **receivers: str) -> list[str]:
    """Tells the outcome, and returns what could not be told."""
    config = daily_config(tmp_path, tmp_path / "out", job={"notify": receivers})
    said: list[str] = []
    notify(config, OUTCOME, tmp_path / "day.html", said.append)
    return said


def test_a_receiver_that_is_busy_gets_it_later(tmp_path: Path, pauses: list[float]) -> None:
    with Receiver(503, 429, 200) as receiver:
        assert told(tmp_path, webhook=receiver.url) == []
    assert receiver.received == [OUTCOME.model_dump(mode="json")] * 3
    assert pauses == sorted(pauses)
    assert len(pauses) == 2


@pytest.mark.parametrize("answer", [404, 301, 302])
def test_a_receiver_that_refuses_is_not_asked_again(
    tmp_path: Path, pauses: list[float], answer: int
) -> None:
    """Refuses redirects, too, which would be followed by a GET without the outcome."""
    with Receiver(answer) as receiver:
        said = told(tmp_path, webhook=receiver.url)
    assert said == [f"the webhook was not told the outcome: it answers {answer}"]
    assert pauses == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a secret", "http://me:secret@127.0.0.1:x/"])
def test_an_address_that_is_none_is_said_without_the_secret(
    tmp_path: Path, pauses: list[float], url: str
) -> None:
    (said,) = told(tmp_path, webhook=url)
    assert said == "the webhook was not told the outcome: InvalidURL"
    assert pauses == []


def test_what_cannot_be_told_is_said_without_the_secret(
    tmp_path: Path, pauses: list[float]
) -> None:
    with Receiver() as gone:
        url = gone.url
    taken = tmp_path / "taken.prom"
    taken.mkdir()
    said = told(tmp_path, webhook=url, textfile=str(taken))
    assert len(said) == 2
    assert "the webhook was not told the outcome: ConnectionRefusedError" in said
    assert "secret" not in "".join(said)
    assert len(pauses) == 3


def test_gauges_for_prometheus(tmp_path: Path) -> None:
    path = tmp_path / "metrics" / "recsys.prom"
    assert told(tmp_path, textfile=str(path)) == []
    lines = path.read_text().splitlines()
    model = 'model="mine \\"1\\""'
    assert f'recsys_job_outcome{{{model},outcome="kept"}} 1.0' in lines
    assert f'recsys_job_outcome{{{model},outcome="promoted"}} 0.0' in lines
    assert f"recsys_job_champion_version{{{model}}} 7.0" in lines
    assert f'recsys_job_test_value{{metric="recall@50",{model}}} 0.25' in lines
    assert not any(line.startswith("recsys_job_champion_value") for line in lines)
    assert [each.name for each in path.parent.iterdir()] == ["recsys.prom"]


def test_a_file_that_the_collector_does_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"names end in \.prom"):
        daily_config(tmp_path, tmp_path / "out", job={"notify": {"textfile": "job.txt"}})


def test_paths_and_secrets_of_the_configuration(tmp_path: Path) -> None:
    notify = {"webhook": "https://hooks.example.com/a/9c1f7", "textfile": "job.prom"}
    config = daily_config(tmp_path / "events", tmp_path / "out", job={"notify": notify})
    document = config.model_dump()
    (tmp_path / "config.yaml").write_text(json.dumps(document))
    loaded = load_config(tmp_path / "config.yaml").job.notify
    assert loaded.webhook == notify["webhook"]
    assert loaded.textfile == str(tmp_path / "job.prom")
    assert "9c1f7" not in config.model_dump_json()
