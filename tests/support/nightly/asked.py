"""A server that is asked all the time, by which a test sees what a user of it would."""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp

from tests.support.servers import running

_SECONDS = 60.0


class Answers:
    """The answers of a server.

    Attributes:
        failed: Answers that were none of recommendations.
        models: Number of the others, by the version of the model.
    """

    def __init__(self, port: int) -> None:
        self.failed: list[Any] = []
        self.models: Counter[str] = Counter()
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        while not self._stop.wait(0.005):
            try:
                answer = self._request("POST", "/recommend", {"query_id": "q1", "k": 3})
                if len(answer["items"]) != 3:
                    self.failed.append(answer)
                self.models[answer["model"]["version"]] += 1
            except Exception as error:
                self.failed.append(error)

    def _request(self, method: str, path: str, body: Any = None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=_SECONDS)
        try:
            headers = {"Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def wait_for(self, seal: str | None) -> None:
        """Waits until the bundle of a seal answers."""
        deadline = time.monotonic() + _SECONDS
        while seal not in str(self._request("GET", "/version")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        answered = self.models.total()
        while self.models.total() < answered + 2:  # The first may be of the bundle before.
            assert time.monotonic() < deadline
            time.sleep(0.02)


@contextmanager
def asked_all_the_time(app: ASGIApp) -> Iterator[Answers]:
    """Runs a server in a thread, and asks it from another one."""
    with running(app) as port:
        answers = Answers(port)
        answers._thread.start()
        try:
            yield answers
        finally:
            answers._stop.set()
            answers._thread.join()
