"""Checks of every request before its body is read: the token, the size, the content type."""

import asyncio
import hmac
import inspect
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping
from functools import cached_property
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect
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
    given = _header(scope, b"authorization")
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
        return lambda request: self.answer(request.scope, request.receive)

    async def answer(self, scope: Scope, receive: Receive) -> Response:
        """Reads the body, which came whole, and has it answered."""
        given = _header(scope, b"content-type")
        if not _is_json(given.decode("latin-1")):
            raise _fault("not_json", (), "expected JSON, and content-type: application/json")
        body = await read_body(receive, sys.maxsize)
        if body is None:
            raise ClientDisconnect
        try:
            asked = self._model.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            raise _fault(first["type"], first["loc"], first["msg"]) from None
        response: Response = await self._asynchronous(asked)
        return response

    @cached_property
    def _asynchronous(self) -> Callable[[BaseModel], Coroutine[Any, Any, Response]]:
        return self.endpoint

    @cached_property
    def _model(self) -> type[BaseModel]:
        [parameter] = inspect.signature(self.endpoint).parameters.values()
        model: type[BaseModel] = parameter.annotation
        return model


class ShortCut:
    """The way of a request to the route that its path names, past the application's router.

    The router tries one route after the other, and enters contexts that such a route does not use,
    which takes as long as half of an empty request. All else goes its usual way.

    Args:
        app: Application behind it.
        routes: Routes by path; POST is their only method.
        handlers: Handlers of the application's errors, which are complete when it starts.
    """

    def __init__(
        self,
        app: ASGIApp,
        routes: Mapping[str, BodyRoute],
        handlers: Mapping[Any, Any],
    ) -> None:
        self._app = app
        self._routes = routes
        # As the application does, whose outermost layer answers what nobody expected.
        expected = {kind: each for kind, each in handlers.items() if kind not in (500, Exception)}
        self._answered = ExceptionMiddleware(self._answer, expected)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Has the request answered."""
        is_posted = scope["type"] == "http" and scope["method"] == "POST"
        is_route = is_posted and scope["path"] in self._routes
        await (self._answered if is_route else self._app)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self._routes[scope["path"]].answer(scope, receive)
        await response(scope, receive, send)


def _header(scope: Scope, name: bytes) -> bytes:
    """Returns the value of a header, the first where there are several, as Starlette does."""
    return next((value for each, value in scope["headers"] if each == name), b"")


def _is_json(content_type: str) -> bool:
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or (
        kind.startswith("application/") and kind.endswith("+json")
    )


def _fault(kind: str, location: tuple[int | str, ...], message: str) -> RequestValidationError:
    return RequestValidationError([{"type": kind, "loc": ("body", *location), "msg": message}])
