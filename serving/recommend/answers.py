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

    The score is the inner product of the item's vector and the query's, or the other item's. In an
    answer by popularity it is the item's part of all training events.
    """

    item_id: str
    score: float
    title: str | None


class Recommendations(Frozen):
    """The best items for a query, best first.

    Attributes:
        query_id: Id in the request.
        items: Items that the query is not known to have had, or any where repeats are allowed.
        fallback: Whether the query is unknown.
        source: `model`, or `popularity` where the model had nothing to go by.
    """

    query_id: str
    items: tuple[Recommendation, ...]
    fallback: bool
    source: str


class SimilarItems(Frozen):
    """The items nearest to one, nearest first."""

    item_id: str
    items: tuple[Recommendation, ...]
