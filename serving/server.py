"""The HTTP server: POST /recommend and GET /healthz."""

import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import faiss
import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feature_store.errors import UserError
from serving.bundle import load
from serving.recommender import MAX_K, Asking, Recommendation, Recommender

_MAX_ID_LENGTH = 256
_MAX_BODY_BYTES = 16_384


def _id_string(value: Any) -> Any:
    """The integer 42 and the string "42" are the same id, as in the log."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RecommendRequest(_Closed):
    """The body of POST /recommend; see `Asking` for what is optional."""

    query_id: Annotated[
        str, Field(min_length=1, max_length=_MAX_ID_LENGTH), BeforeValidator(_id_string)
    ]
    k: int = Field(10, ge=1, le=MAX_K, strict=True)
    context: dict[str, Any] = {}
    at: datetime | None = None


class Model(_Closed):
    """Which model answered."""

    version: str
    schema_fingerprint: str


class RecommendResponse(_Closed):
    """Best items first; `fallback` says that the query is unknown."""

    query_id: str
    items: tuple[Recommendation, ...]
    fallback: bool
    model: Model


class Health(_Closed):
    """The server is up, with this model."""

    status: str
    model: Model


def create_app(recommender: Recommender) -> FastAPI:
    """The application; every error is JSON with one sentence under `error`."""
    app = FastAPI(title="recsys")
    app.add_middleware(_BodyLimit)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(UserError, _refused_value)
    app.add_exception_handler(Exception, _failed)
    model = Model(
        version=recommender.manifest.fingerprint,
        schema_fingerprint=recommender.manifest.schema_fingerprint,
    )

    @app.post("/recommend")
    def recommend(request: RecommendRequest) -> RecommendResponse:
        asking = Asking(request.context, request.at)
        found = recommender.recommend(request.query_id, request.k, asking)
        return RecommendResponse(
            query_id=found.query_id, items=found.items, fallback=found.fallback, model=model
        )

    @app.get("/healthz")
    def healthz() -> Health:
        return Health(status="ok", model=model)

    return app


def serve(path: str | Path, *, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Answers until it is interrupted.

    Args:
        path: Of the bundle.
        host: Address to listen on.
        port: 0 takes any free one, which the log names.

    Raises:
        UserError: The bundle cannot be opened, or the address is taken.
    """
    # A request is too small to share, and threads that wait for each other lengthen the tail.
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    recommender = load(path)
    # The first answer builds the table of ids: no client should wait for it.
    recommender.recommend("")
    app = create_app(recommender)
    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, access_log=False))
    try:
        server.run()
    except SystemExit as error:  # How uvicorn says that it could not start.
        raise UserError(f"cannot listen on {host}:{port}; choose another --port.") from error


class _BodyLimit:
    """Refuses large bodies before they are read into memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # The body is read here, up to the limit, for its announced length need not be true.
        body, more = b"", True
        while more and len(body) <= _MAX_BODY_BYTES:
            message = await receive()
            if message["type"] != "http.request":  # The client has gone.
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if len(body) > _MAX_BODY_BYTES:
            text = f"the body is larger than {_MAX_BODY_BYTES} bytes; send one query a request."
            await _error(413, text)(scope, receive, send)
            return
        is_given = False

        async def replay() -> Message:
            nonlocal is_given
            if is_given:
                return await receive()
            is_given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, replay, send)


def _error(status: int, text: str) -> JSONResponse:
    return JSONResponse({"error": text}, status_code=status)


def _invalid(request: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong with a body."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:] if isinstance(part, str))
    if first["type"] == "json_invalid" or not where:
        where = "the body"
    message = re.sub(r"^[A-Z](?=[a-z])", lambda first: first[0].lower(), first["msg"])
    return _error(422, f'{where}: {message}; send JSON like {{"query_id": "42", "k": 10}}.')


def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = f"{request.method} {request.url.path}"
    return _error(
        error.status_code,
        f"{path}: {error.detail}; this server has POST /recommend and GET /healthz.",
    )


def _refused_value(request: Request, error: Exception) -> JSONResponse:
    """A value that only the model can tell to be wrong."""
    return _error(422, str(error))


def _failed(request: Request, error: Exception) -> JSONResponse:
    """The log has the traceback; a client has no use for it."""
    return _error(500, "the server could not answer because of an error of its own; see its log.")
