"""Item-kNN: items that share many queries with the items of a query."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy import sparse
from torch import Tensor

from feature_store.core.columns import Ints, Jagged
from recsys.evaluation.ranking import ItemScores, Scorer

# Entries of the item-item matrix that are counted at a time.
_ENTRIES_AT_ONCE = 16_000_000


@dataclass(frozen=True)
class ItemKnn:
    """Item-kNN: the summed similarities of an item to the known ones; see `item_similarity`.

    Attributes:
        similarity: Similarities of the nearest items, sparse [items, items].
    """

    similarity: sparse.csr_matrix

    def scorer(self, known: Jagged) -> Scorer:
        """Returns the sums over the known items of each query, [queries]."""
        return item_knn_scorer(known, self.similarity)


def item_knn_scorer(known: Jagged, similarity: sparse.csr_matrix) -> Scorer:
    """Scores an item by the sum of its similarities to the query's known items.

    Args:
        known: Known items, [queries].
        similarity: Result of `item_similarity`, [items, items].
    """

    def choose(rows: Ints) -> ItemScores:
        queries = binary_matrix(known.take(rows), similarity.shape[0])
        scores = (queries @ similarity).tocsc()

        def score(start: int, stop: int) -> Tensor:
            return torch.from_numpy(scores[:, start:stop].toarray())

        return score

    return choose


def item_similarity(train: Jagged, num_items: int, neighbours: int) -> sparse.csr_matrix:
    """Finds each item's most similar items, by the cosine of the binary query-item matrix.

    `known @ similarity` sums, for each candidate, over those of its neighbours that are known
    (Deshpande & Karypis 2004).

    Args:
        train: Items of the training events, [queries].
        num_items: Number of items of the corpus.
        neighbours: Neighbours kept for each item; of equal ones those of lower index.

    Returns:
        [items, items] float64; column j holds the neighbours of item j, never j itself.
    """
    matrix = binary_matrix(train, num_items)
    by_item = matrix.T.tocsr()
    norm = np.sqrt(np.maximum(np.diff(by_item.indptr), 1))
    block = max(1, _ENTRIES_AT_ONCE // max(1, num_items))
    rows = [
        _nearest(by_item[start : start + block] @ matrix, start, norm, neighbours)
        for start in range(0, num_items, block)
    ]
    return sparse.vstack(rows).T.tocsr()


def _nearest(
    together: sparse.csr_matrix, start: int, norm: npt.NDArray[np.float64], neighbours: int
) -> sparse.csr_matrix:
    """Turns counts of common queries, [block, items], into the cosines that are kept."""
    row = np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
    column = together.indices
    cosine = together.data / (norm[start + row] * norm[column])
    cosine[column == start + row] = 0.0
    order = np.lexsort((column, -cosine, row))
    position = np.arange(len(order)) - together.indptr[row]  # The order keeps rows where they were.
    kept = order[position < neighbours]
    kept = kept[cosine[kept] > 0]
    return sparse.csr_matrix((cosine[kept], (row[kept], column[kept])), together.shape)


def binary_matrix(values: Jagged, width: int) -> sparse.csr_matrix:
    """Returns a matrix of ones, [rows, width]; a value that a row repeats counts once."""
    # A copy, because the sum of duplicates sorts in place.
    matrix = sparse.csr_matrix(
        (np.ones(len(values.values)), values.values, values.offsets),
        (len(values), width),
        copy=True,
    )
    matrix.sum_duplicates()
    matrix.data[:] = 1.0
    return matrix
