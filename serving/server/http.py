"""What every request must pass before anything reads it: its size, and a token where one is set."""

import asyncio
import hmac
import inspect
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
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


class BodyRoute(APIRoute):
    """A route of an asynchronous endpoint that takes a body alone, and answers with a response.

    A body that does not fit its model raises `RequestValidationError` for the first thing that is
    wrong with it, as FastAPI's own routes do for all.

    What is sent as another type than JSON is not read: a page of another site may make a browser
    send plain text to a server on its machine, but JSON only where that server allows it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own place for this."""
        endpoint: Any = self.endpoint
        [parameter] = inspect.signature(endpoint).parameters.values()
        model: type[BaseModel] = parameter.annotation

        async def handle(request: Request) -> Response:
            if not _is_json(request.headers.get("content-type", "")):
                raise _wrong("not_json", (), "expected JSON, and content-type: application/json")
            try:
                body = model.__pydantic_validator__.validate_json(await request.body())
            except ValidationError as error:
                first = error.errors(include_url=False, include_context=False)[0]
                raise _wrong(first["type"], first["loc"], first["msg"]) from None
            return await endpoint(body)

        return handle


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )


def _wrong(kind: str, place: tuple[int | str, ...], message: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": ("body", *place), "msg": message}])
