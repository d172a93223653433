"""Example queries in words, for reports."""

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
        liked: Latest items of the query's history, latest first where there is an order.
        recommended: First items of the ranking, each with whether it was held out.
        held_out: Number of held-out items.
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
    """Returns a few queries, evenly spaced so that the choice does not depend on the results.

    Args:
        config: Configuration, which names the items' titles.
        prepared: Prepared data, for the ids.
        queries: Indices of the evaluated queries, [queries].
        held_out: Held-out items, [queries].
        history: Items of the histories, oldest first, [queries].
        top: Ranked items, best first, [queries, k]; -1 where there are fewer.
    """
    ids = prepared.item_encoder.ids.tokens
    titles = item_titles(config, prepared)
    names = ids if titles is None else titles
    query_ids = prepared.query_encoder.ids.tokens
    positions = np.unique(
        np.linspace(0, len(queries) - 1, min(_EXAMPLES, len(queries))).astype(int)
    )
    examples = []
    for position in positions:
        wanted = set(held_out.take(np.array([position])).values.tolist())
        known = history.take(np.array([position])).values[::-1][:SHOWN_ITEMS]
        ranked = [item for item in top[position, :SHOWN_ITEMS].tolist() if item >= 0]
        examples.append(
            Example(
                query=query_ids[int(queries[position])].as_py(),
                liked=[names[item].as_py() for item in known.tolist()],
                recommended=[(names[item].as_py(), item in wanted) for item in ranked],
                held_out=len(wanted),
            )
        )
    return examples
