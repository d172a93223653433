"""Golden queries of an export: the trained model's answers by plain arithmetic."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Floats, Ints, Jagged
from feature_store.core.errors import UserError
from recsys.channels.sources import Sources
from recsys.evaluation.ranking import top_items
from recsys.fusion.fused import Fused
from recsys.fusion.scorer import fused_scorer
from serving.index.index import ItemIndex
from serving.recommend.golden import GOLDEN_ITEMS, Golden, require_same_answer

# Ids of items, and their scores.
_Answer = tuple[tuple[str, ...], tuple[float, ...]]


@dataclass(frozen=True)
class FusedRequests:
    """The parts of requests that a fused ranking reads beside their vectors.

    Attributes:
        fused: Channels and weights.
        sources: Items of the requests' queries that channels read.
    """

    fused: Fused
    sources: Sources


def golden_queries(
    requests: Sequence[tuple[str, datetime]],
    query_vectors: Floats,
    excluded: Jagged,
    index: ItemIndex,
    indexed: Ints,
    ids: pa.Array,
    fused: FusedRequests | None = None,
) -> list[Golden]:
    """Answers requests by comparing with all vectors, as the index stores them.

    Args:
        requests: Query id and time of each request.
        query_vectors: Vectors of the trained model, [requests, dim].
        excluded: Items that are no answers, [requests].
        index: Index of the bundle.
        indexed: Item at each position of the index.
        ids: Ids of all items.
        fused: State of the requests' queries for the fused ranking; None: the model ranks alone.
    """
    vectors = index.vectors_of(np.arange(len(index)))
    if fused is not None:
        answers = _fused_answers(query_vectors, vectors, excluded, indexed, ids, fused)
    else:
        positions = np.full(len(ids), -1)
        positions[indexed] = np.arange(len(indexed))
        excluded = Jagged(positions[excluded.values], excluded.offsets)
        excluded = excluded.keep(excluded.values >= 0)
        names = ids.take(pa.array(indexed)).to_pylist()
        answers = exact_answers(query_vectors, vectors, excluded, names)
    return [
        Golden(query_id=query_id, at=at, items=items, scores=scores)
        for (query_id, at), (items, scores) in zip(requests, answers, strict=True)
    ]


def _fused_answers(
    query_vectors: Floats,
    vectors: Floats,
    excluded: Jagged,
    indexed: Ints,
    ids: pa.Array,
    fused: FusedRequests,
) -> list[_Answer]:
    """Finds the best items and their scores as the evaluation does."""
    item_vectors = np.zeros((len(ids), vectors.shape[1]), np.float32)
    item_vectors[indexed] = vectors
    is_indexed = np.zeros(len(ids), np.bool_)
    is_indexed[indexed] = True
    scorer = fused_scorer(
        fused.fused,
        fused.fused.info.weights,
        sources=fused.sources,
        query_vectors=query_vectors,
        item_vectors=item_vectors,
    )
    top = top_items(
        scorer,
        num_items=len(ids),
        excluded=excluded,
        k=GOLDEN_ITEMS,
        is_candidate=is_indexed,
    )
    answers = []
    for row, items in enumerate(top):
        best = items[items >= 0]
        scores = scorer(np.array([row]))(0, len(ids))[0].float().numpy()[best]
        answers.append((tuple(ids.take(pa.array(best)).to_pylist()), tuple(scores.tolist())))
    return answers


def exact_answers(
    query_vectors: Floats, item_vectors: Floats, excluded: Jagged, item_ids: Sequence[str]
) -> list[_Answer]:
    """Finds the best items and their scores by plain arithmetic.

    Args:
        query_vectors: [queries, dim].
        item_vectors: Vectors of the items that may be answers, [items, dim].
        excluded: Rows of `item_vectors` that are no answers, [queries].
        item_ids: [items].
    """
    answers = []
    for row, vector in enumerate(query_vectors):
        scores = (item_vectors.astype(np.float64) @ vector).astype(np.float32)
        scores[excluded.values[excluded.offsets[row] : excluded.offsets[row + 1]]] = -np.inf
        best = np.lexsort((np.arange(len(scores)), -scores))[:GOLDEN_ITEMS]
        best = best[np.isfinite(scores[best])]
        answers.append((tuple(item_ids[i] for i in best.tolist()), tuple(scores[best].tolist())))
    return answers


def require_served_golden(app: Any, golden: Sequence[Golden], *, is_exact: bool) -> None:
    """Compares the answers over HTTP, in this process, with those of golden queries.

    Args:
        app: ASGI application.
        golden: Golden queries.
        is_exact: Whether the index misses no item.

    Raises:
        UserError: An answer is not that of the trained model.
    """
    for each in golden:
        body = {"query_id": each.query_id, "k": GOLDEN_ITEMS, "at": each.at.isoformat()}
        status, answer = asyncio.run(_post(app, "/recommend", body))
        if status != 200:
            raise UserError(
                f"the server refuses the golden query {each.query_id!r} with {answer}: nothing was "
                "exported; report it."
            )
        items = {item["item_id"]: item["score"] for item in answer["items"]}
        require_same_answer(each, items, "served", is_exact=is_exact)


async def _post(app: Any, path: str, body: Any) -> tuple[int, Any]:
    """Sends one request to an ASGI application, and returns status and answer."""
    content = json.dumps(body).encode()
    sent: dict[str, Any] = {"status": 0, "body": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent["status"] = message.get("status", sent["status"])
        sent["body"] += message.get("body", b"")

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), (b"host", b"localhost")],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
    }
    await app(scope, receive, send)
    return sent["status"], json.loads(sent["body"])
