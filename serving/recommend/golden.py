"""Golden queries, whose recommendations a bundle must reproduce."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from feature_store.core.errors import UserError
from feature_store.core.files import write_json
from feature_store.core.settings import Frozen
from serving.bundle.manifest import GOLDEN
from serving.recommend.options import RecommendOptions
from serving.recommend.recommender import Recommender

# Number of items of a golden answer.
GOLDEN_ITEMS = 10
# Scores, and numbers of a vector, that differ by no more are equal.
MAX_DIFFERENCE = 1e-4


class Golden(Frozen):
    """A request without a context, and the trained model's answer.

    Attributes:
        query_id: Id of the query.
        at: Time of the request.
        items: Ids, best first.
        scores: Scores of the items.
    """

    query_id: str
    at: datetime
    items: tuple[str, ...]
    scores: tuple[float, ...]


def write_golden(directory: Path, golden: Sequence[Golden]) -> None:
    """Writes the golden queries of a bundle."""
    write_json(directory / GOLDEN, [each.model_dump(mode="json") for each in golden])


def read_golden(directory: Path) -> list[Golden]:
    """Reads the golden queries of a bundle."""
    documents = json.loads((directory / GOLDEN).read_text(encoding="utf-8"))
    return [Golden.model_validate(document) for document in documents]


def require_golden(recommender: Recommender, golden: Sequence[Golden]) -> None:
    """Compares the answers of a bundle with those of its golden queries.

    Raises:
        UserError: An answer is not that of the trained model.
    """
    for each in golden:
        options = RecommendOptions(at=each.at)
        items = recommender.recommend(each.query_id, GOLDEN_ITEMS, options).items
        require_same_answer(each, [i.item_id for i in items], [i.score for i in items], "exported")


def require_same_answer(
    golden: Golden, items: Sequence[str], scores: Sequence[float], path: str
) -> None:
    """Refuses another answer than the golden one; items of nearly equal scores may change places.

    Args:
        golden: The golden query.
        items: Ids of the answer.
        scores: Scores of the answer.
        path: Name of the way by which it was answered.

    Raises:
        UserError: The answers differ.
    """
    near = len(scores) == len(golden.scores) and np.allclose(
        scores, golden.scores, atol=MAX_DIFFERENCE
    )
    last = min(golden.scores, default=0.0) + MAX_DIFFERENCE
    certain = {i for i, s in zip(golden.items, golden.scores, strict=True) if s > last}
    if not near or not certain <= set(items):
        raise UserError(
            f"the {path} path answers the golden query {golden.query_id!r} with "
            f"{', '.join(items[:5])}, the trained model with {', '.join(golden.items[:5])}: "
            "nothing was exported; train again, and report it if it stays."
        )
