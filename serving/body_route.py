"""Routes whose body goes from bytes into its model at once.

FastAPI parses a body to objects, resolves dependencies, and validates then: more steps than a short
answer should wait for. What it documents stays the same.
"""

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError


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
