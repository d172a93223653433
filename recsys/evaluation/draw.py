"""The draw of queries where a split has more than can be ranked exactly in bearable time."""

from collections.abc import Mapping

import numpy as np

from feature_store.core.columns import Bools, Ints
from feature_store.core.hashing import hash64

# Count of the queries that were drawn from; it is there where some were left out.
DRAWN_FROM = "drawn_from"

# Scores that a method computes at most: at 50 million a second, on two cores, in seven minutes.
_SCORES = 20_000_000_000
# Fewest queries that are ranked: a recall of 0.1 then has a 95 % interval of 0.004 around it.
_LEAST = 20_000
_SEED = 7


def most_queries(num_items: int) -> int:
    """Returns how many queries are ranked at most; 20,000 of a million items."""
    return max(_LEAST, _SCORES // max(1, num_items))


def is_drawn(queries: Ints, most: int) -> Bools:
    """Draws queries by a hash, so that others of the same data draw the same ones, or some more.

    Args:
        queries: Indices of queries, [queries].
        most: Number of queries to draw.

    Returns:
        Whether a query is drawn, [queries].
    """
    drawn = np.ones(len(queries), np.bool_)
    if len(queries) > most:
        drawn[np.argsort(hash64(_SEED, queries), kind="stable")[most:]] = False
    return drawn


def draw_sentences(counts: Mapping[str, int], split: str) -> list[str]:
    """Returns a sentence where figures are those of drawn queries.

    Args:
        counts: Counts of `Task.counts`.
        split: Name of the split.
    """
    if DRAWN_FROM not in counts:
        return []
    return [
        f"{counts['queries']:,} queries are ranked, drawn by a hash from the "
        f"{counts[DRAWN_FROM]:,} of the {split} split: to rank all exactly would take too long"
    ]
