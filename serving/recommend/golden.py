"""Golden queries, whose recommendations a bundle must reproduce."""

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from feature_store.core.files import write_json
from serving.bundle.manifest import GOLDEN
from serving.exporting.gate import _K, _compare
from serving.recommend.queries import Asking
from serving.recommend.recommender import Recommender


class Golden(BaseModel):
    """A question and what the trained model answers.

    Attributes:
        query_id: Who is asked for, without a context.
        at: When.
        items: Best first.
        scores: Of the items.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

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
        found = recommender.recommend(each.query_id, _K, Asking(at=each.at))
        _compare(each, [i.item_id for i in found.items], [i.score for i in found.items], "exported")
