"""Recall of an index against exact search."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import faiss
import numpy as np

from feature_store.core.columns import Bools, Floats, Ints, Jagged
from serving.index.index import TIED, ItemIndex
from serving.index.kind import RECALL_AT
from serving.index.vectors import blocks


@dataclass(frozen=True)
class ExactTop:
    """The k nearest items of sampled queries, by exact search.

    Attributes:
        vectors: [items, dim] float32.
        queries: [queries, dim].
        items: [queries, k], best first.
        scores: [queries, k].
    """

    vectors: Floats
    queries: Floats
    items: Ints
    scores: Floats

    @classmethod
    def of(cls, vectors: Floats, queries: Floats, k: int) -> "ExactTop":
        """Searches block by block; k is at most the number of items."""
        items, scores = _nearest(blocks(vectors), queries, min(k, len(vectors)))
        return cls(vectors, queries, items, scores)

    def is_found(self, answers: Jagged) -> Bools:
        """Tells which of the nearest items are among the answers, [queries, k].

        One that is as near as the last one also counts where an equal answer is in its place.
        """
        is_found = np.zeros(self.items.shape, np.bool_)
        for row, (expected, scores) in enumerate(zip(self.items, self.scores, strict=True)):
            answer = answers.values[answers.offsets[row] : answers.offsets[row + 1]]
            is_found[row] = np.isin(expected, answer)
            others = self.vectors[np.setdiff1d(answer, expected)] @ self.queries[row]
            equal = np.count_nonzero(others >= scores[-1] - TIED)
            tied = np.flatnonzero(~is_found[row] & (scores <= scores[-1] + TIED))
            is_found[row, tied[:equal]] = True
        return is_found

    def recall(self, index: ItemIndex) -> float:
        """Computes the mean recall@k of an index of the vectors."""
        return float(self.is_found(nearest_items(index, self.queries, self.items.shape[1])).mean())

    def stored_recall(self, index: ItemIndex) -> float:
        """Computes the mean recall@k of exact search by an index's stored vectors."""
        items, _ = _nearest(index.kind.vectors.blocks(), self.queries, self.items.shape[1])
        lengths = np.full(len(items), items.shape[1])
        return float(self.is_found(Jagged.from_lengths(items.reshape(-1), lengths)).mean())


def recall_by_slice(
    index: ItemIndex,
    vectors: Floats,
    queries: Floats,
    slices: Mapping[str, Bools],
    k: int = RECALL_AT,
) -> dict[str, float]:
    """Measures which part of a slice's items among the exact top k the index finds.

    An answer that is as near as the last of the top k counts for one of these that is not found.

    Args:
        index: Index of the vectors.
        vectors: [items, dim] float32.
        queries: [queries, dim] of a sample.
        slices: [items] whether an item is of the slice, by the slice's name.
        k: Number of nearest items, of all slices together.

    Returns:
        Recall by slice; without slices of which no item is among any query's top k.
    """
    exact = ExactTop.of(vectors, queries, k)
    is_found = exact.is_found(nearest_items(index, queries, k))
    recalls = {}
    for name, is_in_slice in slices.items():
        is_expected = is_in_slice[exact.items]
        if is_expected.any():
            recalls[name] = float(is_found[is_expected].mean())
    return recalls


def nearest_items(index: ItemIndex, queries: Floats, k: int) -> Jagged:
    """Searches without exclusions: k items of each query, [queries]."""
    nothing = Jagged(np.empty(0, np.int64), np.zeros(len(queries) + 1, np.int64))
    return index.search(queries, k, nothing)[0]


def _nearest(parts: Iterable[Floats], queries: Floats, k: int) -> tuple[Ints, Floats]:
    """Searches exactly among consecutive parts of the vectors: items and scores, [queries, k]."""
    heap = faiss.ResultHeap(len(queries), k, keep_max=True)
    start = 0
    for part in parts:
        scores, items = faiss.knn(
            queries, part, min(k, len(part)), metric=faiss.METRIC_INNER_PRODUCT
        )
        heap.add_result(scores, items + start)
        start += len(part)
    heap.finalize()
    return heap.I, heap.D
