"""The HTTP server's application of ASGI around `Service`."""

import asyncio
import math
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast
from weakref import proxy

import faiss
from fastapi import APIRouter, FastAPI, Request, Response, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feature_store.core.errors import UserError
from pipelines.http.admission import Admission
from pipelines.http.hosts import HostCheck
from pipelines.http.problems import problem
from serving.recommend.breaker import UnavailableError
from serving.server.api import (
    MAX_BODY_BYTES,
    BatchRequest,
    BatchResponse,
    EventsRequest,
    EventsResponse,
    Health,
    Problem,
    RecommendRequest,
    RecommendResponse,
    SimilarItemsRequest,
    SimilarItemsResponse,
    Swapped,
    Version,
)
from serving.server.deployment import Deployment
from serving.server.examples import OPENAPI, add_openapi
from serving.server.http import BearerToken, BodyLimit, BodyRoute, ShortCut
from serving.server.metrics import ServerMetrics
from serving.server.service import Service
from serving.server.try_page import OPEN_PATHS, PAGE, add_try_page

PROBES = ("/healthz", "/readyz")
_PATHS = (
    "/recommend",
    "/recommend/batch",
    "/similar-items",
    "/events",
    "/metrics",
    "/version",
    "/reload",
    "/rollback",
    OPENAPI,
    PAGE,
    *PROBES,
)
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem} for code in (400, 401, 408, 413, 421, 422, 431, 500, 503)
}
# Answers that are computed at a time: while FAISS searches for one, Python goes on with another.
# More threads than that would wait for each other's Python.
_POOL_THREADS = min(4, os.cpu_count() or 1)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    service: Service,
    *,
    deployment: Deployment | None = None,
    token: str | None = None,
    host: str | None = "127.0.0.1",
    lifespan: Lifespan | None = None,
    admission: Admission | None = None,
) -> FastAPI:
    """Creates the application; every error is JSON with one sentence under `error`.

    Args:
        service: Service that answers.
        deployment: Bundles that POST /reload and POST /rollback replace, given a token.
        token: Token that every request must carry, except probes and those of the page to try
            the API on; None: none is needed.
        host: Address or name that the server listens on; requests must name it, or another name
            of the machine, where no token tells friends from strangers. None: any name is right.
        lifespan: Context of the server's life.
        admission: Connections of the server: a request that is the only one is answered in the
            thread that read it. None: in another thread.
    """
    app = FastAPI(
        title="recsys",
        description="Recommendations of a sealed bundle, or of two in an A/B test.",
        lifespan=lifespan,
        responses=_PROBLEMS,
        dependencies=[] if token is None else [Security(HTTPBearer(auto_error=False))],
        # FastAPI's pages would load scripts from elsewhere, and its examples be of no bundle.
        docs_url=None,
        openapi_url=None,
        redirect_slashes=False,
        redoc_url=None,
    )
    answers: dict[str, BodyRoute] = {}
    app.add_middleware(ShortCut, routes=answers, handlers=app.exception_handlers)
    app.add_middleware(BodyLimit, max_bytes=MAX_BODY_BYTES)
    if token is not None:
        app.add_middleware(BearerToken, token=token, open_paths=(*PROBES, *OPEN_PATHS))
    elif host is not None:
        app.add_middleware(HostCheck, host=host, advice="set RECSYS_TOKEN")
    app.add_middleware(_Timed, metrics=service.metrics)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(UserError, _refused_value)
    app.add_exception_handler(UnavailableError, _unavailable)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(Exception, _failed)
    pool = ThreadPoolExecutor(_POOL_THREADS, "answer")
    # FastAPI remembers endpoints for good, in caches of the process. So the application alone holds
    # what they use, and a bundle goes with it.
    app.state.held = service, deployment, pool
    used: Service = proxy(service)
    changed = None if deployment is None else cast(Deployment, proxy(deployment))
    routes = _answers(used, changed, proxy(pool), admission)
    app.include_router(routes)
    answers.update((each.path, each) for each in routes.routes if isinstance(each, BodyRoute))
    _add_probes(app, used)
    add_try_page(app)
    add_openapi(app, used, token)
    if changed is not None and token is not None:
        _add_changes(app, changed)
    return app


def _answers(
    service: Service, deployment: Deployment | None, pool: Executor, admission: Admission | None
) -> APIRouter:
    async def run_in_pool(endpoint: Callable[[Any], BaseModel], body: BaseModel) -> Response:
        # To hand a request to another thread takes a tenth of its time. And newer bundles would
        # hardly get their turn beside several threads.
        is_alone = admission is not None and admission.working == 1
        if is_alone or (deployment is not None and deployment.is_reading):
            return _call(endpoint, body)
        return await asyncio.get_running_loop().run_in_executor(pool, _call, endpoint, body)

    routes = APIRouter(route_class=BodyRoute)

    @routes.post("/recommend", response_model=RecommendResponse)
    async def recommend(body: RecommendRequest) -> Response:
        """Returns the best items of a query, by its id, given features, or a given history."""
        if service.is_waiting:  # Requests that need not wait must not have to.
            return await run_in_threadpool(_call, service.recommend, body)
        return await run_in_pool(service.recommend, body)

    @routes.post("/recommend/batch", response_model=BatchResponse)
    async def recommend_batch(body: BatchRequest) -> Response:
        """Returns the best items of many queries, in their order."""
        return await run_in_threadpool(_call, service.recommend_batch, body)

    @routes.post("/similar-items", response_model=SimilarItemsResponse)
    async def similar_items(body: SimilarItemsRequest) -> Response:
        """Returns the items nearest to one."""
        return await run_in_pool(service.similar_items, body)

    @routes.post("/events", response_model=EventsResponse)
    async def events(body: EventsRequest) -> Response:
        """Adds events to the histories of queries, from the next answer on."""
        return await run_in_threadpool(_call, service.events, body)

    return routes


def _add_probes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_model_exclude_none=True)
    async def healthz() -> Health:
        """Tells that the process is up, and whether its online store answers."""
        return service.health()

    @app.get("/readyz", response_model=Health)
    async def readyz() -> Response:
        """Tells whether bundles are verified and answer their golden queries."""
        if service.fault is not None:
            return problem(503, service.fault)
        ready = Health(status="ready").model_dump_json(exclude_none=True)
        return Response(ready, media_type="application/json")

    @app.get("/version", response_model=Version)
    async def version() -> Response:
        """Returns the bundles that answer."""
        return _json(service.version())

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Returns metrics for Prometheus."""
        return Response(
            service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )


def _add_changes(app: FastAPI, deployment: Deployment) -> None:
    @app.post("/reload")
    def reload() -> Swapped:
        """Replaces the bundles by newer ones of the same source, if there are any."""
        return Swapped(changed=deployment.reload(), seals=deployment.serving.seals)

    @app.post("/rollback")
    def rollback() -> Swapped:
        """Restores the bundles before."""
        return Swapped(changed=deployment.rollback(), seals=deployment.serving.seals)


def lifespan_of(close: Sequence[Callable[[], None]]) -> Lifespan:
    """Makes the context of a server that calls some functions when it ends."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        for each in close:
            each()

    return lifespan


class _Timed:
    """ServerMetrics every request."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.perf_counter(), 500

        async def sent(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, sent)
        finally:
            # Clients could make up any number of other paths.
            path = scope["path"] if scope["path"] in _PATHS else "other"
            self._metrics.count_request(path, status, time.perf_counter() - started)


def _call(endpoint: Callable[[Any], BaseModel], body: BaseModel) -> Response:
    """Answers in this thread."""
    # A request is too small to share among threads; OpenMP keeps the number by calling thread.
    faiss.omp_set_num_threads(1)
    return _json(endpoint(body))


def _json(answer: BaseModel) -> Response:
    return Response(to_json(answer), media_type="application/json")


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    """Reports the first fault of a body."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:] if isinstance(part, str))
    if first["type"] == "json_invalid" or not where:
        where = "the body"
    message = re.sub(r"^[A-Z](?=[a-z])", lambda first: first[0].lower(), first["msg"])
    message = message.removeprefix("value error, ")
    if first["type"] == "extra_forbidden" and where.startswith("filters."):
        message += "; conditions on features of items belong in filters.where"
    return problem(422, f"{where}: {message}; see GET /openapi.json.")


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    path = f"{request.method} {request.url.path}"
    return problem(
        error.status_code, f"{path}: {error.detail}; GET /openapi.json lists what there is."
    )


async def _refused_value(request: Request, error: Exception) -> JSONResponse:
    """Reports a value that is none of the model's."""
    return problem(422, str(error))


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, UnavailableError)
    return problem(503, str(error), Retry_After=str(math.ceil(error.retry_seconds)))


def _failed(request: Request, error: Exception) -> JSONResponse:
    """Hides the traceback, which is in the log, from the client."""
    return problem(500, "the server could not answer because of an error of its own; see its log.")
