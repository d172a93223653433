"""A few queries in words, for reports."""

from dataclasses import dataclass

import numpy as np

from feature_store.core.columns import Ints, Jagged
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.evaluation.titles import item_titles

SHOWN_ITEMS = 10
_EXAMPLES = 6


@dataclass(frozen=True)
class Example:
    """One query, in words.

    Attributes:
        query: Its id.
        liked: The latest items that it is known to have, latest first where there is an order.
        recommended: The first items of its ranking, and whether each was held out.
        held_out: How many items were to be found.
    """

    query: str
    liked: list[str]
    recommended: list[tuple[str, bool]]
    held_out: int


def example_queries(
    config: Config,
    prepared: Prepared,
    *,
    queries: Ints,
    held_out: Jagged,
    history: Jagged,
    top: Ints,
) -> list[Example]:
    """A few queries, evenly spaced, so that they are not chosen by how well they are answered.

    Args:
        config: Says where the items' titles are.
        prepared: Of the ids.
        queries: [queries] indices of the evaluated queries.
        held_out: [queries] items to find.
        history: [queries] items, oldest first.
        top: [queries, k] ranked items, best first, -1 where there are fewer.
    """
    ids = prepared.item_encoder.ids.tokens
    titles = item_titles(config, prepared)
    names = ids if titles is None else titles
    query_ids = prepared.query_encoder.ids.tokens
    places = np.unique(np.linspace(0, len(queries) - 1, min(_EXAMPLES, len(queries))).astype(int))
    examples = []
    for place in places:
        wanted = set(held_out.take(np.array([place])).values.tolist())
        known = history.take(np.array([place])).values[::-1][:SHOWN_ITEMS]
        ranked = [item for item in top[place, :SHOWN_ITEMS].tolist() if item >= 0]
        examples.append(
            Example(
                query=query_ids[int(queries[place])].as_py(),
                liked=[names[item].as_py() for item in known.tolist()],
                recommended=[(names[item].as_py(), item in wanted) for item in ranked],
                held_out=len(wanted),
            )
        )
    return examples
