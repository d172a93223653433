"""Exact ranking of the whole corpus, block by block, so that memory is bounded for any corpus."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from feature_store.core.columns import Bools, Floats, Ints, Jagged
from feature_store.core.errors import UserError
from recsys import nearest
from recsys.nearest import Items, Nearest, is_worth_it

# Function of (start, stop) that returns the scores of these items, [rows, stop - start].
ItemScores = Callable[[int, int], Tensor]
# Function of query positions, [rows], that returns the scores of items for these queries.
Scorer = Callable[[Ints], ItemScores]

QUERY_BLOCK, ITEM_BLOCK = 256, 4096
# Pairs that are compared with a block of items at a time.
_PAIR_BLOCK = 1024

# A candidate is one int64, its score's bits above its index: a total order, in which the lower of
# two items of equal score is first, whatever the blocks.
_INDEX_BITS = 32
_LAST_INDEX = 2**31 - 1
_EXCLUDED = torch.iinfo(torch.int64).min


class VectorScorer:
    """Scorer by inner products.

    Products are summed in float64 and rounded once: their float32 sums would depend on the blocks.

    Args:
        query_vectors: Query vectors, [queries, dim].
        item_vectors: Item vectors, [items, dim].

    Raises:
        UserError: A vector is not finite.
    """

    def __init__(self, query_vectors: Floats, item_vectors: Floats) -> None:
        for name, vectors in (("query", query_vectors), ("item", item_vectors)):
            if not np.isfinite(vectors).all():
                raise UserError(
                    f"the model's {name} vectors are not finite, because its training diverged; "
                    "lower training.sparse_learning_rate or training.dense_learning_rate and train "
                    "again."
                )
        self.query_vectors = query_vectors
        self.item_vectors = item_vectors

    def __call__(self, rows: Ints) -> ItemScores:
        """Returns the scores of items for the queries of these positions."""
        queries = torch.from_numpy(self.query_vectors[rows]).double()
        return lambda start, stop: queries @ self._doubled[start:stop].T

    @property
    def is_float32(self) -> bool:
        """Whether all vectors are float32."""
        return self.query_vectors.dtype == self.item_vectors.dtype == np.float32

    def from_row(self, start: int) -> "VectorScorer":
        """Returns the scorer of the queries from `start` on."""
        return VectorScorer(self.query_vectors[start:], self.item_vectors)

    @cached_property
    def _doubled(self) -> Tensor:
        return torch.from_numpy(self.item_vectors).double()


def vector_scorer(query_vectors: Floats, item_vectors: Floats) -> VectorScorer:
    """Returns a scorer by inner products; see `VectorScorer`."""
    return VectorScorer(query_vectors, item_vectors)


def top_items(
    scorer: Scorer,
    *,
    num_items: int,
    excluded: Jagged,
    k: int,
    is_candidate: Bools | None = None,
    query_block: int = QUERY_BLOCK,
    item_block: int = ITEM_BLOCK,
) -> npt.NDArray[np.int64]:
    """Returns the k best items of each query, best first; of equal scores the lower index is first.

    Args:
        scorer: Scorer of the queries.
        num_items: Number of items of the corpus.
        excluded: Items that are not candidates, [queries].
        k: Number of items a query.
        is_candidate: Whether an item is ranked, [items]; None: all are.
        query_block: Number of queries at a time.
        item_block: Number of items at a time; blocks change memory and speed alone.

    Returns:
        [queries, k] item indices, -1 where there are fewer candidates.
    """
    top = np.full((len(excluded), k), -1, np.int64)
    hidden = None if is_candidate is None else torch.from_numpy(~is_candidate)
    if isinstance(scorer, VectorScorer) and scorer.is_float32 and is_worth_it(num_items, k):
        _rank_by_vectors(scorer, num_items, excluded, hidden, top)
        return top

    def rank(start: int) -> None:
        rows = np.arange(start, min(start + query_block, len(excluded)))
        best = _best(scorer(rows), num_items, excluded.take(rows), hidden, k, item_block)
        items = torch.where(best == _EXCLUDED, -1, _LAST_INDEX - (best & _LAST_INDEX))
        top[rows, : items.shape[1]] = items.numpy()

    with one_thread_a_core() as pool:
        for _ in pool.map(rank, range(0, len(excluded), query_block)):
            pass  # Raises the block's error.
    return top


def _rank_by_vectors(
    scorer: VectorScorer, num_items: int, excluded: Jagged, hidden: Tensor | None, top: Ints
) -> None:
    """Writes the best items of all queries to `top`, [queries, k]."""
    items = Items(torch.from_numpy(scorer.item_vectors[:num_items]))

    def rank(start: int) -> None:
        rows = np.arange(start, min(start + nearest.QUERY_BLOCK, len(excluded)))
        queries = torch.from_numpy(scorer.query_vectors[rows])
        search = Nearest(queries, items, excluded.take(rows), hidden, top.shape[1])
        top[rows] = search.best(nearest.ITEM_BLOCK).numpy()

    with one_thread_a_core() as pool:
        for _ in pool.map(rank, range(0, len(excluded), nearest.QUERY_BLOCK)):
            pass  # Raises the block's error.


@contextmanager
def one_thread_a_core() -> Iterator[ThreadPoolExecutor]:
    """Opens a pool of one thread a core, each of which runs its operations alone.

    Where other processes want the cores too, threads that share one small operation mostly wait for
    each other: ranking then took four to ten times as long.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(count) as pool:
            yield pool
    finally:
        torch.set_num_threads(count)


def whole_ranks(
    scorer: Scorer,
    wanted: Jagged,
    *,
    num_items: int,
    excluded: Jagged,
    is_candidate: Bools | None = None,
    query_block: int = QUERY_BLOCK,
    item_block: int = ITEM_BLOCK,
) -> npt.NDArray[np.int64]:
    """Counts the items above each wanted one in the whole ranking, whose order `top_items` has.

    A wanted item that is not ranked itself is below all others.

    Args:
        scorer: Scorer of the queries.
        wanted: Items to find, [queries].
        num_items: Number of items of the corpus.
        excluded: Items that are not candidates, [queries].
        is_candidate: Whether an item is ranked, [items]; None: all are.
        query_block: Number of queries at a time.
        item_block: Number of items at a time; blocks change memory and speed alone.

    Returns:
        Ranks from 0, [pairs], in the order of `wanted`.
    """
    found = np.empty(len(wanted.values), np.int64)
    hidden = None if is_candidate is None else torch.from_numpy(~is_candidate)

    def rank(start: int) -> None:
        rows = np.arange(start, min(start + query_block, len(wanted)))
        scores, block = scorer(rows), (num_items, excluded.take(rows), hidden, item_block)
        pairs = wanted.take(rows)
        row = torch.from_numpy(pairs.row_of_value())
        item = torch.from_numpy(pairs.values.astype(np.int64))
        own, above = torch.empty_like(item), torch.zeros_like(item)
        for first, keys in _key_blocks(scores, *block):
            is_here = (item >= first) & (item < first + keys.shape[1])
            own[is_here] = keys[row[is_here], item[is_here] - first]
        for _, keys in _key_blocks(scores, *block):
            for part in torch.arange(len(item)).split(_PAIR_BLOCK):
                above[part] += (keys[row[part]] > own[part, None]).sum(dim=1)
        found[wanted.offsets[rows[0]] : wanted.offsets[rows[-1] + 1]] = above.numpy()

    with one_thread_a_core() as pool:
        for _ in pool.map(rank, range(0, len(wanted), query_block)):
            pass  # Raises the block's error.
    return found


def _best(
    scores: ItemScores,
    num_items: int,
    excluded: Jagged,
    hidden: Tensor | None,
    k: int,
    item_block: int,
) -> Tensor:
    """Returns the keys of the best items, best first, [rows, min(k, items)]."""
    best = torch.empty((len(excluded), 0), dtype=torch.int64)
    for _, keys in _key_blocks(scores, num_items, excluded, hidden, item_block):
        block = keys.topk(min(k, keys.shape[1]), dim=1).values
        both = torch.cat([best, block], dim=1)
        best = both.topk(min(k, both.shape[1]), dim=1).values
    return best


def _key_blocks(
    scores: ItemScores, num_items: int, excluded: Jagged, hidden: Tensor | None, item_block: int
) -> Iterator[tuple[int, Tensor]]:
    """Yields the first item of each block, and the keys of its items, [rows, items]."""
    rows = torch.from_numpy(excluded.row_of_value())
    items = torch.from_numpy(excluded.values.astype(np.int64))
    for start in range(0, num_items, item_block):
        stop = min(start + item_block, num_items)
        keys = _keys(scores(start, stop), start)
        is_here = (items >= start) & (items < stop)
        keys[rows[is_here], items[is_here] - start] = _EXCLUDED
        if hidden is not None:
            keys[:, hidden[start:stop]] = _EXCLUDED
        yield start, keys


def _keys(scores: Tensor, start: int) -> Tensor:
    """Turns scores of items from `start` on, [rows, items], into int64 keys of the same order."""
    bits = (scores.float() + 0.0).view(torch.int32)  # Minus zero becomes zero, as they are equal.
    # Floats below zero have their order reversed when read as integers.
    ordered = bits ^ ((bits >> 31) & _LAST_INDEX)
    index = torch.arange(start, start + scores.shape[1])
    return (ordered.long() << _INDEX_BITS) | (_LAST_INDEX - index)


def top_items_on_ray(
    scorer: Scorer,
    *,
    num_items: int,
    excluded: Jagged,
    k: int,
    is_candidate: Bools | None,
    tasks: int,
) -> Ints:
    """Ranks as `top_items` does, to the bit: a ranking does not depend on how queries are cut.

    Args:
        scorer: Scorer of the queries; each node gets it once, through Ray's object store.
        num_items: Number of items of the corpus.
        excluded: Items that are not candidates, [queries].
        k: Number of items a query.
        is_candidate: Whether an item is ranked, [items]; None: all are.
        tasks: Number of tasks of one core each; those beyond the cluster's cores wait.

    Returns:
        [queries, k] item indices, -1 where there are fewer candidates.
    """
    import ray

    from pipelines.executor.session import ensure_ray

    ensure_ray()
    shared = ray.put((scorer, num_items, k, is_candidate))
    bounds = np.linspace(0, len(excluded), min(tasks, max(1, len(excluded))) + 1).astype(np.int64)
    rank = ray.remote(num_cpus=1, max_retries=2, scheduling_strategy="SPREAD")(_rank)
    parts = [
        rank.remote(shared, start, excluded.take(np.arange(start, stop)))
        for start, stop in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
    ]
    return np.concatenate(ray.get(parts))


def _rank(shared: tuple[Any, ...], start: int, excluded: Jagged) -> Ints:
    """Ranks the queries from `start` on, as many as `excluded` has."""
    scorer, num_items, k, is_candidate = shared
    is_vectors = isinstance(scorer, VectorScorer)
    return top_items(
        scorer.from_row(start) if is_vectors else lambda rows: scorer(rows + start),
        num_items=num_items,
        excluded=excluded,
        k=k,
        is_candidate=is_candidate,
    )
