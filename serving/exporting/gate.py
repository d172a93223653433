"""Checks of a bundle before it replaces another; see `serving.bundle.manifest.Gate`."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from feature_store.core.columns import Floats, Jagged
from feature_store.core.errors import UserError
from serving.recommend.golden import GOLDEN_ITEMS, MAX_DIFFERENCE, Golden, require_same_answer

# Slices with fewer pairs say too little.
_MIN_PAIRS = 30
_METRIC = "recall@50"


def require_finite(vectors: Floats, side: str) -> None:
    """Raises `UserError` where a vector of a side is not finite."""
    bad = int((~np.isfinite(vectors).all(axis=1)).sum())
    if bad:
        raise UserError(
            f"{bad} of {len(vectors)} {side} vectors are not finite: nothing was exported; lower "
            "training.sparse_learning_rate or training.dense_learning_rate and train again."
        )


def difference(found: Floats, expected: Floats, side: str) -> float:
    """The largest between the vectors of the exported tower and of the trained one.

    Raises:
        UserError: It is larger than `MAX_DIFFERENCE`.
    """
    largest = float(np.abs(found - expected).max(initial=0.0))
    if not largest <= MAX_DIFFERENCE:
        raise UserError(
            f"the exported {side} tower's vectors differ by {largest:.2g} from the trained "
            f"one's, expected at most {MAX_DIFFERENCE}: nothing was exported; train again, and "
            "report it if it stays."
        )
    return largest


def require_recall(by_slice: Mapping[str, float], least: float) -> None:
    """Raises `UserError` where the index misses items of a slice, such as the tail's."""
    for name, recall in by_slice.items():
        if recall < least:
            raise UserError(
                f"the index finds {recall:.4f} of the {name} items among the exact 100 nearest, "
                f"expected at least {least}: nothing was exported; set export.index: flat, or "
                "lower export.min_slice_recall."
            )


def exact_answers(
    query_vectors: Floats, item_vectors: Floats, excluded: Jagged, item_ids: Sequence[str]
) -> list[tuple[tuple[str, ...], tuple[float, ...]]]:
    """The best items and their scores by plain arithmetic.

    Args:
        query_vectors: [queries, dim] of the trained model.
        item_vectors: [items, dim] of those that are answers.
        excluded: [queries] rows of `item_vectors` that are none.
        item_ids: [items].
    """
    found = []
    for row, vector in enumerate(query_vectors):
        scores = (item_vectors.astype(np.float64) @ vector).astype(np.float32)
        scores[excluded.values[excluded.offsets[row] : excluded.offsets[row + 1]]] = -np.inf
        best = np.lexsort((np.arange(len(scores)), -scores))[:GOLDEN_ITEMS]
        best = best[np.isfinite(scores[best])]
        found.append((tuple(item_ids[i] for i in best.tolist()), tuple(scores[best].tolist())))
    return found


def require_served_golden(app: Any, golden: Sequence[Golden]) -> None:
    """The same over HTTP, in this process: `app` is an ASGI application.

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
        items = answer["items"]
        require_same_answer(
            each, [i["item_id"] for i in items], [i["score"] for i in items], "served"
        )


def changes_against(
    champion: Mapping[str, Mapping[str, float]],
    slices: Mapping[str, Mapping[str, float]],
    tolerance: float,
) -> dict[str, float]:
    """The relative change of each slice.

    Args:
        champion: Figures by slice.
        slices: The same of the new model, with intervals.
        tolerance: By how much of the champion's value a slice may be worse, beyond its interval.

    Raises:
        UserError: A slice is worse than that.
    """
    changes = {}
    for name, figures in slices.items():
        before = champion.get(name, {}).get(_METRIC)
        now = figures.get(_METRIC)
        if not before or now is None or figures["count"] < _MIN_PAIRS:
            continue
        changes[name] = now / before - 1
        best = figures.get(f"{_METRIC}_high", now)
        if best < before * (1 - tolerance):
            raise UserError(
                f"{_METRIC} of the slice {name} is {now:.4f}, the champion's {before:.4f}: worse "
                f"by more than {tolerance:.0%}: nothing was exported; keep the champion, or raise "
                "export.tolerance."
            )
    return changes


async def _post(app: Any, path: str, body: Any) -> tuple[int, Any]:
    """One request to an ASGI application."""
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
