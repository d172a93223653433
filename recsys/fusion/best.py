"""The best items of each part of a score, without the scores of all items at once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from feature_store.core.columns import Bools, Floats, Ints, Jagged
from recsys.evaluation.ranking import one_thread_a_core

# Scores of a block of queries and items, which bounds the memory of a thread.
_SCORES_AT_ONCE = 16_000_000
_ITEMS_AT_ONCE = 131_072


@dataclass(frozen=True)
class Allowed:
    """Items that may be answers.

    Attributes:
        is_ranked: Whether an item is an answer at all, [items].
        excluded: Items that are none for a query, [queries].
    """

    is_ranked: Bools
    excluded: Jagged

    def take(self, rows: Ints) -> "Allowed":
        """Returns what the given queries allow."""
        return Allowed(self.is_ranked, self.excluded.take(rows))

    def mask(self, items: Ints, rows: Ints) -> Bools:
        """Tells which items are allowed for the queries in the given rows, in their shape."""
        width = np.int64(len(self.is_ranked))
        excluded = self.excluded.row_of_value() * width + self.excluded.values
        return self.is_ranked[items] & ~np.isin(rows * width + items, excluded)


def best_by_vectors(
    query_vectors: Floats,
    item_vectors: Floats,
    less: tuple[Floats | None, ...],
    allowed: Allowed,
    count: int,
) -> list[npt.NDArray[np.int64]]:
    """Finds the items of highest inner product, from which something may be taken off.

    Args:
        query_vectors: Query vectors, [queries, dim].
        item_vectors: Item vectors, [items, dim].
        less: Amounts that are taken off the items' scores, [items], one for each result; None:
            nothing is.
        allowed: Items that may be answers.
        count: Number of items for each query.

    Returns:
        For each of `less`, items [queries, count]; -1 where there are fewer.
    """
    items = torch.from_numpy(item_vectors)
    hidden = torch.from_numpy(~allowed.is_ranked)
    offs = [None if off is None else torch.from_numpy(off) for off in less]
    step = max(1, _SCORES_AT_ONCE // min(len(items), _ITEMS_AT_ONCE))
    found = [np.full((len(query_vectors), count), -1, np.int64) for _ in less]

    def search(start: int) -> None:
        rows = np.arange(start, min(start + step, len(query_vectors)))
        queries = torch.from_numpy(query_vectors[rows])
        best = [_Best(len(rows), count) for _ in less]
        excluded = allowed.excluded.take(rows)
        row, item = (torch.from_numpy(a) for a in (excluded.row_of_value(), excluded.values.copy()))
        for first in range(0, len(items), _ITEMS_AT_ONCE):
            span = slice(first, min(first + _ITEMS_AT_ONCE, len(items)))
            scores = queries @ items[span].T
            scores[:, hidden[span]] = -torch.inf
            is_here = (item >= span.start) & (item < span.stop)
            scores[row[is_here], item[is_here] - first] = -torch.inf
            for each, off in zip(best, offs, strict=True):
                each.add(scores if off is None else scores - off[span], first)
        for each, into in zip(best, found, strict=True):
            into[rows] = each.items.numpy()

    with one_thread_a_core() as pool:
        for _ in pool.map(search, range(0, len(query_vectors), step)):
            pass  # Raises the block's error.
    return found


class _Best:
    """The best items of some queries so far, [rows, count]."""

    def __init__(self, rows: int, count: int) -> None:
        self._scores = torch.full((rows, count), -torch.inf)
        self.items = torch.full((rows, count), -1)

    def add(self, scores: Tensor, first: int) -> None:
        """Looks at a block of scores, [rows, items], whose first item is given."""
        count = self.items.shape[1]
        values, positions = scores.topk(min(count, scores.shape[1]), dim=1)
        both = torch.cat([self._scores, values], dim=1)
        items = torch.cat([self.items, positions + first], dim=1)
        self._scores, chosen = both.topk(count, dim=1)
        self.items = items.gather(1, chosen).masked_fill(self._scores.isinf(), -1)


def best_by_scores(
    items: Jagged, scores: Floats, allowed: Allowed, count: int
) -> npt.NDArray[np.int64]:
    """Finds the items of highest score above 0 among those that have one.

    Args:
        items: Items with a score, [queries].
        scores: Score of each of them, [total].
        allowed: Items that may be answers.
        count: Number of items for each query.

    Returns:
        Items [queries, count]; -1 where there are fewer.
    """
    kept = np.flatnonzero(scores > 0)
    rows, values = items.row_of_value()[kept], items.values[kept]
    is_allowed = allowed.mask(values, rows)
    rows, values, kept = rows[is_allowed], values[is_allowed], kept[is_allowed]
    order = np.lexsort((-scores[kept], rows))
    rows, values = rows[order], values[order]
    lengths = np.bincount(rows, minlength=len(items))
    place = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    best = np.full((len(items), count), -1, np.int64)
    first = place < count
    best[rows[first], place[first]] = values[first]
    return best


def best_by_item(scores: Floats, allowed: Allowed, count: int) -> npt.NDArray[np.int64]:
    """Finds the items of highest score above 0 where every query scores items alike.

    Args:
        scores: Score of each item, [items].
        allowed: Items that may be answers.
        count: Number of items for each query.

    Returns:
        Items [queries, count]; -1 where there are fewer.
    """
    ranked = np.flatnonzero((scores > 0) & allowed.is_ranked)
    most = count + int(allowed.excluded.lengths.max(initial=0))
    first = ranked[np.argsort(-scores[ranked], kind="stable")[:most]]
    lengths = np.full(len(allowed.excluded), len(first))
    everyone = Jagged.from_lengths(np.tile(first, len(lengths)), lengths)
    return best_by_scores(everyone, np.tile(scores[first], len(lengths)), allowed, count)


def scores_at(items: Jagged, scores: Floats, candidates: Ints) -> Floats:
    """Returns the scores of candidates, 0 where there is none, in the shape of the candidates.

    Args:
        items: Items with a score, ascending, [queries].
        scores: Score of each of them, [total].
        candidates: Items, [queries, candidates]; -1 has no score.
    """
    width = 1 + max(items.values.max(initial=0), candidates.max(initial=0))
    keys = items.row_of_value() * np.int64(width) + items.values
    wanted = np.arange(len(candidates))[:, None] * np.int64(width) + candidates
    at = np.searchsorted(keys, wanted).clip(max=max(0, len(keys) - 1))
    found = np.zeros(candidates.shape, np.float32)
    if len(keys):
        is_there = (keys[at] == wanted) & (candidates >= 0)
        found[is_there] = scores[at[is_there]]
    return found
