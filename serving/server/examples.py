"""The document of the API, with examples that the loaded bundle has an answer to."""

import copy
from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse

from serving.recommend.recommender import Recommender
from serving.recommend.samples import Samples
from serving.server.http import carries
from serving.server.service import Service

OPENAPI = "/openapi.json"
Bodies = dict[str, list[dict[str, Any]]]


def add_openapi(app: FastAPI, service: Service, token: str | None) -> None:
    """Adds the document, whose examples are of the bundle that answers now.

    Its ids are for those alone who may ask: without the token the examples are any.
    """
    known: dict[str, Bodies] = {}

    def bodies(recommender: Recommender) -> Bodies:
        if (seal := recommender.manifest.seal) not in known:
            known.clear()
            known[seal] = bodies_of(recommender.samples())
        return known[seal]

    async def openapi(request: Request) -> JSONResponse:
        document = request.app.openapi()
        if token is None or carries(request.scope, token):
            document = _with(document, bodies(service.recommender))
        return JSONResponse(document)

    app.add_api_route(OPENAPI, openapi, include_in_schema=False)


def bodies_of(samples: Samples) -> Bodies:
    """Returns the bodies of requests, by the name of their schema; the first one is shown."""
    items, queries = list(samples.item_ids), list(samples.query_ids)
    asked = {"query_id": queries[0]} if queries else {"history": items[:2]}
    filters = {"filters": {"where": samples.where}} if samples.where else {}
    bodies: Bodies = {
        "RecommendRequest": [
            {**asked, "k": 10},
            {"history": items[:2], "k": 5, "filters": {"deny": items[-1:]}},
            # Whoever has had all items of a value still gets an answer.
            {**asked, "k": 10, "exclude_seen": False, **filters},
        ],
        "SimilarItemsRequest": [{"item_id": items[0], "k": 10}] if items else [],
    }
    if queries:
        event = {"query_id": queries[0], "item_id": items[0], "event_type": "purchase"}
        bodies["BatchRequest"] = [{"query_ids": queries, "k": 10}]
        bodies["EventsRequest"] = [{"events": [event]}] if items else []
    return bodies


def _with(document: dict[str, Any], bodies: Bodies) -> dict[str, Any]:
    changed = copy.deepcopy(document)
    for name, examples in bodies.items():
        if examples:
            changed["components"]["schemas"][name]["examples"] = examples
    return changed
