"""What a recommender answers."""

from dataclasses import dataclass

from feature_store.core.settings import Frozen


class Item(Frozen):
    """An item of the catalogue; the title is None where it has none."""

    item_id: str
    title: str | None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A recommended or similar item.

    The score is the inner product of its vector and that of what was asked for; of an answer by
    popularity it is the item's share of the training events.
    """

    item_id: str
    score: float
    title: str | None


class Recommendations(Frozen):
    """A query's best items, best first.

    Attributes:
        query_id: As asked.
        items: None of them is one that the query is known to have had.
        fallback: The query is unknown.
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
