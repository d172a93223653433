"""What every request must pass before anything reads it: its size, and a token where one is set."""

import asyncio
import hmac
from collections.abc import Iterable

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Refuses large bodies before they are read into memory, and slow ones.

    Args:
        app: Behind it.
        max_bytes: Of a body.
        seconds: Until the whole body must be there.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float = 10.0) -> None:
        self._app = app
        self._seconds = seconds
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the body, then goes on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The body is read here, up to the limit, for its announced length need not be true.
        body, more = b"", True
        try:
            async with asyncio.timeout(self._seconds):
                while more and len(body) <= self._max_bytes:
                    message = await receive()
                    if message["type"] != "http.request":  # The client has gone.
                        return
                    body += message.get("body", b"")
                    more = message.get("more_body", False)
        except TimeoutError:
            text = f"the body did not come within {self._seconds:g} seconds; send it at once."
            await problem(408, text)(scope, receive, send)
            return
        if len(body) > self._max_bytes:
            text = f"the body is larger than {self._max_bytes} bytes; ask for less in one request."
            await problem(413, text)(scope, receive, send)
            return
        is_given = False

        async def replay() -> Message:
            nonlocal is_given
            if is_given:
                return await receive()
            is_given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


class BearerToken:
    """Refuses requests without the token.

    Args:
        app: Behind it.
        token: What `Authorization: Bearer` must hold.
        open_paths: That need none, for probes.
    """

    def __init__(self, app: ASGIApp, token: str, open_paths: Iterable[str]) -> None:
        self._app = app
        self._expected = b"Bearer " + token.encode()
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Looks at the header, then goes on."""
        if scope["type"] != "http" or scope["path"] in self._open_paths:
            await self._app(scope, receive, send)
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        # In a time that does not tell how much of it is right.
        if hmac.compare_digest(given, self._expected):
            await self._app(scope, receive, send)
            return
        answer = problem(401, "the bearer token is missing or wrong; send Authorization: Bearer.")
        answer.headers["WWW-Authenticate"] = "Bearer"
        await answer(scope, receive, send)


def problem(status: int, text: str) -> JSONResponse:
    """An error's answer: JSON with one sentence."""
    return JSONResponse({"error": text}, status_code=status)
