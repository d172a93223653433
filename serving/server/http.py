"""Checks of every request before its body is read: the token, the size, the content type."""

import asyncio
import hmac
import inspect
import os
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.http.bodies import read_body, replayed
from pipelines.http.problems import problem


class BodyLimit:
    """Refuses large bodies before they are read into memory, and slow ones.

    Args:
        app: Application behind it.
        max_bytes: Most bytes of a body.
        seconds: Time within which the whole body must come.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, seconds: float = 10.0) -> None:
        self._app = app
        self._seconds = seconds
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the body and passes the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                body = await read_body(receive, self._max_bytes)
        except TimeoutError:
            text = f"the body did not come within {self._seconds:g} seconds; send it at once."
            await problem(408, text)(scope, receive, send)
            return
        if body is None:  # The client has gone.
            return
        if len(body) > self._max_bytes:
            text = f"the body is larger than {self._max_bytes} bytes; ask for less in one request."
            await problem(413, text)(scope, receive, send)
            return
        await self._app(scope, replayed(body, receive), send)


def carries(scope: Scope, token: str) -> bool:
    """Tells whether a request has the token of `Authorization: Bearer`."""
    given = dict(scope["headers"]).get(b"authorization", b"")
    # Compared in a time that does not tell how much of it is right.
    return hmac.compare_digest(given, b"Bearer " + os.fsencode(token))


class BearerToken:
    """Refuses requests without the token.

    Args:
        app: Application behind it.
        token: Token of `Authorization: Bearer`.
        open_paths: Paths that need no token, for probes.
    """

    def __init__(self, app: ASGIApp, token: str, open_paths: Iterable[str]) -> None:
        self._app = app
        self._token = token
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Checks the header and passes the request on."""
        if scope["type"] != "http" or scope["path"] in self._open_paths:
            await self._app(scope, receive, send)
            return
        if carries(scope, self._token):
            await self._app(scope, receive, send)
            return
        text = "the bearer token is missing or wrong; send Authorization: Bearer."
        await problem(401, text, WWW_Authenticate="Bearer")(scope, receive, send)


class BodyRoute(APIRoute):
    """The route of an asynchronous endpoint that takes a body alone, and returns a response.

    A body that does not fit its model raises `RequestValidationError` for its first fault, where
    FastAPI's own routes list all.

    A body of another content type than JSON is not read: a page of another site may make a browser
    send plain text to a server on its machine, but JSON only where that server allows it.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Overrides FastAPI's handler, which is slower."""
        endpoint: Any = self.endpoint
        [parameter] = inspect.signature(endpoint).parameters.values()
        model: type[BaseModel] = parameter.annotation

        async def handle(request: Request) -> Response:
            if not _is_json(request.headers.get("content-type", "")):
                raise _fault("not_json", (), "expected JSON, and content-type: application/json")
            try:
                body = model.model_validate_json(await request.body())
            except ValidationError as error:
                first = error.errors(include_url=False, include_context=False)[0]
                raise _fault(first["type"], first["loc"], first["msg"]) from None
            return await endpoint(body)

        return handle


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )


def _fault(kind: str, location: tuple[int | str, ...], message: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": ("body", *location), "msg": message}])
