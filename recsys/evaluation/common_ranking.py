"""Ranks where every query has the same scores, such as by popularity, without ranking for each."""

import numpy as np

from feature_store.core.columns import Bools, Floats, Jagged
from recsys.evaluation.metrics import Ranks


def common_ranks(
    scores: Floats, held_out: Jagged, excluded: Jagged, is_candidate: Bools, depth: int
) -> Ranks:
    """Ranks held-out items as `ranks_of` does in the rankings of `top_items`.

    An item's rank is its place in the one order of all items, less the excluded ones before it.

    Args:
        scores: Score of each item, [items] float32.
        held_out: Held-out items, [queries]; the query excludes none of them.
        excluded: Items that are not candidates, [queries].
        is_candidate: Whether an item is ranked, [items].
        depth: Length of the rankings.
    """
    candidates = np.flatnonzero(is_candidate)
    order = candidates[np.argsort(-scores[candidates], kind="stable")]
    place = np.full(len(scores), len(scores), np.int64)
    place[order] = np.arange(len(order))
    query, width = held_out.row_of_value(), np.int64(len(scores) + 1)
    taken = np.unique(excluded.row_of_value() * width + place[excluded.values])
    rank = place[held_out.values]
    before = np.searchsorted(taken, query * width + np.stack([np.zeros_like(rank), rank]))
    rank -= before[1] - before[0]
    rank[~is_candidate[held_out.values]] = depth
    return Ranks(query, held_out.values, np.minimum(rank, depth), len(held_out))
