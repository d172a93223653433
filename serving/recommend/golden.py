"""Golden queries, whose recommendations a bundle must reproduce."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Self

from pydantic import RootModel, model_validator

from feature_store.core.documents import read_record
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

    @model_validator(mode="after")
    def _items_have_scores(self) -> Self:
        if len(self.items) != len(self.scores):
            raise ValueError(f"{len(self.items)} items have {len(self.scores)} scores")
        return self


def write_golden(directory: Path, golden: Sequence[Golden]) -> None:
    """Writes the golden queries of a bundle."""
    write_json(directory / GOLDEN, [each.model_dump(mode="json") for each in golden])


def read_golden(directory: Path) -> list[Golden]:
    """Reads the golden queries of a bundle.

    Raises:
        UserError: The file holds something else.
    """
    return read_record(directory / GOLDEN, RootModel[list[Golden]]).root


def require_golden(recommender: Recommender, golden: Sequence[Golden]) -> None:
    """Compares the answers of a bundle, as it was evaluated, with those of its golden queries.

    Raises:
        UserError: An answer is not that of the trained model.
    """
    recommender = recommender.as_evaluated()
    for each in golden:
        options = RecommendOptions(at=each.at)
        answer = recommender.recommend(each.query_id, GOLDEN_ITEMS, options)
        items = {item.item_id: item.score for item in answer.items}
        require_same_answer(each, items, "exported", is_exact=recommender.is_exact)


def require_same_answer(
    golden: Golden, items: Mapping[str, float], path: str, *, is_exact: bool
) -> None:
    """Refuses another answer than the golden one; items of nearly equal scores may change order.

    An approximate index may miss items, for which others that score less are in the answer. How
    many it misses is measured by its recall; here at most half may be missing.

    Args:
        golden: The golden query.
        items: Score of each item of the answer, best first.
        path: Name of the way by which it was answered.
        is_exact: Whether the index misses no item.

    Raises:
        UserError: The answers differ.
    """
    expected = dict(zip(golden.items, golden.scores, strict=True))
    last = min(golden.scores, default=0.0) + MAX_DIFFERENCE
    has_scores = all(
        abs(score - expected[item]) <= MAX_DIFFERENCE if item in expected else score <= last
        for item, score in items.items()
    )
    missing = sum(score > last and item not in items for item, score in expected.items())
    may_miss = 0 if is_exact else len(expected) // 2
    if len(items) != len(expected) or not has_scores or missing > may_miss:
        raise UserError(
            f"the {path} path answers the golden query {golden.query_id!r} with "
            f"{', '.join(list(items)[:5])}, the trained model with {', '.join(golden.items[:5])}: "
            "nothing was exported; train again, and report it if it stays."
        )
