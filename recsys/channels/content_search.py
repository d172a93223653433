"""The search for similar content where comparing all items with all others would take too long."""

import numpy as np
from scipy import sparse

from feature_store.core.columns import Ints
from recsys.channels.product import Product

# Multiplications in all, up to which every item is compared with every other: minutes.
MOST_MULTIPLICATIONS = 20_000_000_000
# Items that an item is compared with, about, where these are too many.
_COMPARED = 20_000
# Directions of which a vector keeps some; items that have one in common, about.
_DIRECTIONS, _KEPT, _IN_COMMON = (64, 4096), 8, 2_500
_SEED, _AT_ONCE = 13, 4096


def similar(matrix: sparse.csr_matrix, frequency: Ints) -> Product:
    """Returns the inner products of all rows, found approximately where there are too many.

    Then an item is compared with those that share its rarest values, until they are about 20,000;
    of a value that more items have, with the most frequent of these. Numbers of vectors, which
    nearly all items have, are replaced by directions. What is found is scored exactly.

    Args:
        matrix: Content, [items, values].
        frequency: Training events of each item, [items].
    """
    exact = Product(matrix, matrix.T.tocsr())
    if int(exact.costs().sum()) <= MOST_MULTIPLICATIONS:
        return exact
    values = _with_directions(matrix)
    right = _most_frequent(values, frequency, _COMPARED)
    return Product(_rarest(values, np.diff(right.indptr), _COMPARED), right, matrix)


def _most_frequent(matrix: sparse.csr_matrix, frequency: Ints, most: int) -> sparse.csr_matrix:
    """Returns the items of each value, [values, items]; of many, the most frequent ones."""
    order = np.argsort(-frequency, kind="stable")
    by_value = matrix[order].T.tocsr()
    by_value.sort_indices()
    place = np.arange(by_value.nnz) - np.repeat(by_value.indptr[:-1], np.diff(by_value.indptr))
    kept = place < most
    offsets = np.concatenate([[0], np.cumsum(kept)])[by_value.indptr]
    return sparse.csr_matrix(
        (by_value.data[kept], order[by_value.indices[kept]], offsets), by_value.shape
    )


def _rarest(matrix: sparse.csr_matrix, having: Ints, most: int) -> sparse.csr_matrix:
    """Returns each item's rarest values: at least one, more until their items are too many.

    Args:
        matrix: Content, [items, values].
        having: Items of each value, [values].
        most: Number of items that are not too many.
    """
    row = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    order = np.lexsort((having[matrix.indices], row))  # The order keeps rows where they were.
    sums = np.cumsum(having[matrix.indices[order]])
    before = np.concatenate([[0], sums])[matrix.indptr[:-1]]
    is_first = np.arange(len(order)) == matrix.indptr[row]
    kept = is_first | (sums - before[row] <= most)
    chosen = order[kept]
    offsets = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    return sparse.csr_matrix((matrix.data[chosen], matrix.indices[chosen], offsets), matrix.shape)


def _with_directions(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Replaces columns in which most items have a number by directions, [items, values]."""
    having = np.bincount(matrix.indices, minlength=matrix.shape[1])
    is_dense = having > matrix.shape[0] / 2
    if is_dense.sum() < _KEPT:
        return matrix
    parts = [matrix[:, ~is_dense], directions(matrix[:, is_dense])]
    return sparse.hstack(parts, format="csr", dtype=np.float32)


def directions(vectors: sparse.csr_matrix) -> sparse.csr_matrix:
    """Returns the random directions in which each vector is longest, [items, directions] float32.

    Similar vectors have some of them in common, so they are found as items with common values are.
    Source: Pham, Simple yet efficient algorithms for maximum inner product search via extreme order
    statistics, KDD 2021.

    Args:
        vectors: Vectors, [items, dim]; those of length 0 have no directions.
    """
    items, dim = vectors.shape
    count = int(np.clip(items * _KEPT // _IN_COMMON, *_DIRECTIONS))
    random = np.random.default_rng(_SEED)
    axes = random.normal(size=(dim, count)).astype(np.float32) / np.sqrt(np.float32(dim))
    chosen = np.empty((items, _KEPT), np.int32)
    lengths = np.empty((items, _KEPT), np.float32)
    for start in range(0, items, _AT_ONCE):
        block = slice(start, start + _AT_ONCE)
        along = vectors[block] @ axes
        chosen[block] = np.argpartition(-along, _KEPT - 1, axis=1)[:, :_KEPT]
        lengths[block] = np.take_along_axis(along, chosen[block], axis=1)
    offsets = np.arange(items + 1) * _KEPT
    found = sparse.csr_matrix((lengths.reshape(-1), chosen.reshape(-1), offsets), (items, count))
    found.eliminate_zeros()
    return found
