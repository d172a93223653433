"""The answers of a recommender."""

from dataclasses import dataclass

from feature_store.core.settings import Frozen


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


class Recommendations(Frozen):
    """The best items for a query, best first.

    Attributes:
        query_id: Id in the request.
        items: Items that the query is not known to have had, or any where repeats are allowed.
        fallback: Whether the query is unknown.
        source: `model`, or `popularity` where the model had nothing to go by.
    """

    query_id: str
    items: tuple[Recommendation | ExplainedRecommendation, ...]
    fallback: bool
    source: str


class SimilarItems(Frozen):
    """The items nearest to one, nearest first."""

    item_id: str
    items: tuple[Recommendation, ...]
