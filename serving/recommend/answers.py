"""The answers of a recommender."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from feature_store.core.settings import Frozen
from feature_store.core.tabular import Tabular


class Item(Frozen):
    """An item of the catalogue; the title is None where it has none."""

    item_id: str
    title: str | None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A recommended or similar item.

    The score is the inner product of the item's vector and the query's, or the other item's, and
    with a fused ranking the sum of this and other parts. In an answer by popularity it is the part
    of all training events that the item has.
    """

    item_id: str
    score: float
    title: str | None


@dataclass(frozen=True, slots=True)
class Reason:
    """An item of the query's history, and what it adds to a score."""

    item_id: str
    score: float
    title: str | None


@dataclass(frozen=True, slots=True)
class SharedValue:
    """A feature value that an item shares with items of the query, and what it adds to a score.

    Attributes:
        feature: Name of the feature.
        value: Value; None where it has no name, or is not equal but near, as numbers are.
        score: Part of the score.
    """

    feature: str
    value: str | None
    score: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The parts of a score, which is their sum.

    Attributes:
        towers: Part of the towers: the inner product of their vectors, by its weight.
        channels: Part of each channel by name, without those that say nothing of the item.
        trend: Part of the recent popularity.
        dial: Part that the popularity dial adds; below 0 for popular items.
        because: Items of the history that count most in the channels' part.
        shared: Feature values that count most in the part of content.
    """

    towers: float
    channels: dict[str, float]
    trend: float
    dial: float
    because: tuple[Reason, ...]
    shared: tuple[SharedValue, ...]


@dataclass(frozen=True, slots=True)
class ExplainedRecommendation:
    """A recommended item with the parts of its score."""

    item_id: str
    score: float
    title: str | None
    explanation: Explanation


class Recommendations(Frozen, Tabular):
    """The best items for a query, best first.

    Attributes:
        query_id: Id in the request.
        items: Items that the query is not known to have had, or any where repeats are allowed.
        fallback: Whether popularity answered, because nothing is known or given that the model
            could go by.
        source: `popularity` of a fallback, else `model`.
    """

    query_id: str
    items: tuple[Recommendation | ExplainedRecommendation, ...]
    fallback: bool
    source: str

    def to_arrow(self) -> pa.Table:
        """Returns a row for each item, best first.

        Returns:
            Columns rank (from 1), item_id, title and score; of explained items also `because` and
            `shared`: lists of what counts most.
        """
        explained = [each for each in self.items if isinstance(each, ExplainedRecommendation)]
        if not explained:
            return _table(self.items)
        why = [each.explanation for each in explained]
        because = [[_name(reason) for reason in each.because] for each in why]
        shared = [[f"{same.feature} {same.value or '(similar)'}" for same in w.shared] for w in why]
        texts = pa.list_(pa.string())
        table = _table(explained).append_column("because", pa.array(because, texts))
        return table.append_column("shared", pa.array(shared, texts))


class SimilarItems(Frozen, Tabular):
    """The items nearest to one, nearest first."""

    item_id: str
    items: tuple[Recommendation, ...]

    def to_arrow(self) -> pa.Table:
        """Returns a row for each item: rank (from 1), item_id, title and score."""
        return _table(self.items)


def _table(items: Sequence[Recommendation | ExplainedRecommendation]) -> pa.Table:
    return pa.table(
        {
            "rank": pa.array(range(1, len(items) + 1), pa.int32()),
            "item_id": pa.array([each.item_id for each in items], pa.string()),
            "title": pa.array([each.title for each in items], pa.string()),
            "score": pa.array([each.score for each in items], pa.float64()),
        }
    )


def _name(reason: Reason) -> str:
    return reason.item_id if reason.title is None else reason.title
