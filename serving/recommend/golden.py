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
from serving.recommend.queries import Asking
from serving.recommend.recommender import Recommender


class Golden(Frozen):
    """A question and what the trained model answers.

    Attributes:
        query_id: Who is asked for, without a context.
        at: When.
        items: Best first.
        scores: Of the items.
    """

    query_id: str
    at: datetime
    items: tuple[str, ...]
    scores: tuple[float, ...]


def write_golden(directory: Path, golden: Sequence[Golden]) -> None:
    """Writes the questions and answers that a bundle carries."""
    write_json(directory / GOLDEN, [each.model_dump(mode="json") for each in golden])


def read_golden(directory: Path) -> list[Golden]:
    """Those that a bundle carries."""
    documents = json.loads((directory / GOLDEN).read_text(encoding="utf-8"))
    return [Golden.model_validate(document) for document in documents]


def require_golden(recommender: Recommender, golden: Sequence[Golden]) -> None:
    """Asks a bundle, and compares.

    Raises:
        UserError: An answer is not that of the trained model.
    """
    for each in golden:
        found = recommender.recommend(each.query_id, GOLDEN_ITEMS, Asking(at=each.at))
        require_same_answer(
            each, [i.item_id for i in found.items], [i.score for i in found.items], "exported"
        )


MAX_DIFFERENCE = 1e-4


# Of a golden answer.
GOLDEN_ITEMS = 10


def require_same_answer(
    golden: Golden, items: Sequence[str], scores: Sequence[float], path: str
) -> None:
    """Items of nearly equal scores may change places."""
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
