"""Item-item scores as a product of two sparse matrices, of which the highest are kept."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sparse_dot_topn import sp_matmul_topn

from feature_store.core.columns import Floats, Ints, Jagged
from recsys.channels.matrix_files import read_matrix, write_matrix

Doubles = npt.NDArray[np.float64]

# Neighbours that are scored for each that is kept, where a product only finds them.
_LOOKED_AT = 3
# Rows whose entries are converted at a time.
_BLOCK = 65_536
# Rows that are scored at a time, and entries of their neighbours.
_ROWS_AT_ONCE, _ENTRIES_AT_ONCE = 512, 2_000_000


@dataclass(frozen=True)
class Product:
    """Scores of every item as a neighbour of every other, which are never all in memory.

    Attributes:
        left: [candidates, inner].
        right: [inner, sources].
        rows: Rows whose inner products are the scores, [items, values], where the product of left
            and right only finds the neighbours to score; None: that product is the score.
    """

    left: sparse.csr_matrix
    right: sparse.csr_matrix
    rows: sparse.csr_matrix | None = None

    def write(self, directory: Path) -> None:
        """Writes the matrices to a directory."""
        for name, matrix in (("left", self.left), ("right", self.right), ("rows", self.rows)):
            if matrix is not None:
                write_matrix(directory / name, matrix)

    @classmethod
    def read(cls, directory: Path) -> "Product":
        """Maps what `write` wrote into memory."""
        left, right = (read_matrix(directory / name) for name in ("left", "right"))
        rows = directory / "rows"
        return cls(left, right, read_matrix(rows) if rows.exists() else None)

    def costs(self) -> Ints:
        """Returns the number of multiplications for each candidate, [candidates]."""
        lengths = np.diff(self.right.indptr)
        sums = np.concatenate([[0], np.cumsum(lengths[self.left.indices])])
        return sums[self.left.indptr[1:]] - sums[self.left.indptr[:-1]]

    def scaled(self, candidates: Doubles, sources: Doubles) -> "Product":
        """Returns the product with each candidate's and each source's scores multiplied."""
        left, right = np.empty_like(self.left.data), np.empty_like(self.right.data)
        for rows, entries in _row_blocks(self.left):
            lengths = np.diff(self.left.indptr[rows.start : rows.stop + 1])
            left[entries] = self.left.data[entries] * np.repeat(candidates[rows], lengths)
        for _, entries in _row_blocks(self.right):
            right[entries] = self.right.data[entries] * sources[self.right.indices[entries]]
        return Product(_with_data(self.left, left), _with_data(self.right, right))

    def sums(self) -> tuple[Doubles, Doubles]:
        """Returns the sums of scores of each candidate and of each source, without the diagonal."""
        of_inner = _row_sums(self.right)
        of_candidates, diagonal = np.empty((2, self.left.shape[0]))
        left_sums = np.zeros(self.left.shape[1])
        transposed = self.right.T.tocsr()
        for rows, _ in _row_blocks(self.left):
            block = self.left[rows].astype(np.float64)
            of_candidates[rows] = block @ of_inner
            left_sums += np.bincount(block.indices, block.data, len(left_sums))
            both = block.multiply(transposed[rows])
            diagonal[rows] = np.asarray(both.sum(axis=1)).reshape(-1)
        of_sources = np.zeros(self.right.shape[1])
        for rows, _ in _row_blocks(self.right):
            of_sources += left_sums[rows] @ self.right[rows].astype(np.float64)
        return of_candidates - diagonal, of_sources - diagonal

    def highest(self, start: int, stop: int, count: int) -> sparse.csr_matrix:
        """Finds each candidate's sources of highest positive score, never itself.

        Args:
            start: First candidate.
            stop: Candidate after the last one.
            count: Number of sources for each candidate.

        Returns:
            [stop - start, sources] float32.
        """
        found = self._found(start, stop, count)
        row = np.repeat(np.arange(stop - start), np.diff(found.indptr))
        is_other = found.indices != row + start
        position = np.cumsum(is_other) - is_other
        first = np.concatenate([position, [position[-1] if len(position) else 0]])[
            found.indptr[:-1]
        ]
        kept = is_other & (position - first[row] < count)
        return sparse.csr_matrix(
            (found.data[kept], (row[kept], found.indices[kept])), found.shape, dtype=np.float32
        )

    def _found(self, start: int, stop: int, count: int) -> sparse.csr_matrix:
        """Returns sources in the order of their scores; the candidate itself may be among them."""
        block = self.left[start:stop]
        wanted = count + 1 if self.rows is None else _LOOKED_AT * count + 1
        # A transposed right-hand side of the same shape would be taken for what it is not, so the
        # inner dimension always differs.
        found = sp_matmul_topn(block, self.right, top_n=wanted, threshold=0.0, sort=True)
        return found if self.rows is None else _scored(found, self.rows, start)


def _row_blocks(matrix: sparse.csr_matrix) -> Iterator[tuple[slice, slice]]:
    """Yields ranges of rows and of their entries, which bound the memory of what is done to all."""
    for start in range(0, matrix.shape[0], _BLOCK):
        stop = min(start + _BLOCK, matrix.shape[0])
        yield slice(start, stop), slice(matrix.indptr[start], matrix.indptr[stop])


def _row_sums(matrix: sparse.csr_matrix) -> Doubles:
    """Sums the entries of each row, [rows] float64."""
    sums = np.empty(matrix.shape[0])
    for rows, _ in _row_blocks(matrix):
        sums[rows] = matrix[rows].astype(np.float64) @ np.ones(matrix.shape[1])
    return sums


def _with_data(matrix: sparse.csr_matrix, data: Floats) -> sparse.csr_matrix:
    """Returns a matrix with other entries at the same places, which both share."""
    return sparse.csr_matrix((data, matrix.indices, matrix.indptr), matrix.shape, copy=False)


def _scored(found: sparse.csr_matrix, rows: sparse.csr_matrix, start: int) -> sparse.csr_matrix:
    """Replaces scores by inner products of rows, and sorts by them; `start` is the first row."""
    row = np.repeat(np.arange(found.shape[0]), np.diff(found.indptr))
    bags = Jagged(rows.indices, rows.indptr.astype(np.int64))
    scores = np.zeros(found.nnz, np.float32)
    column_of = np.zeros(rows.shape[1], np.int32)
    for first in range(0, found.shape[0], _ROWS_AT_ONCE):
        block = rows[start + first : start + min(first + _ROWS_AT_ONCE, found.shape[0])]
        # Columns that no row of the block has are all the first one of zeros.
        used = np.unique(block.indices)
        column_of[used] = np.arange(1, len(used) + 1)
        dense = np.zeros((block.shape[0], len(used) + 1), np.float32)
        of_entry = np.repeat(np.arange(block.shape[0]), np.diff(block.indptr))
        dense[of_entry, column_of[block.indices]] = block.data
        pairs = slice(found.indptr[first], found.indptr[first + block.shape[0]])
        scores[pairs] = _inner_products(
            dense, column_of, row[pairs] - first, bags, rows.data, found.indices[pairs]
        )
        column_of[used] = 0
    order = np.lexsort((-scores, row))
    order = order[scores[order] > 0]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row[order], minlength=found.shape[0]))])
    return sparse.csr_matrix((scores[order], found.indices[order], offsets), found.shape)


def _inner_products(
    dense: Floats, column_of: Ints, row: Ints, bags: Jagged, data: Floats, other: Ints
) -> Floats:
    """Returns the inner products of dense rows with sparse ones, [pairs].

    Args:
        dense: Rows of a block by its own columns, of which the first is zero.
        column_of: Column of the block for each column of the sparse rows; 0: the block has none.
        row: Dense row of each pair, [pairs].
        bags: Columns of the sparse rows.
        data: Values of the sparse rows.
        other: Sparse row of each pair, [pairs].
    """
    scores = np.zeros(len(row), np.float32)
    ends = np.cumsum(bags.lengths[other])
    cuts = np.searchsorted(ends, np.arange(0, ends[-1] if len(ends) else 0, _ENTRIES_AT_ONCE))
    for pairs in map(slice, cuts, [*cuts[1:], len(row)]):
        at, lengths = bags.positions(other[pairs])
        of_entry = np.repeat(row[pairs] * np.int64(dense.shape[1]), lengths)
        products = dense.reshape(-1)[of_entry + column_of[bags.values[at]]] * data[at]
        some = np.flatnonzero(lengths)
        if len(some):
            starts = (np.cumsum(lengths) - lengths)[some]
            scores[np.arange(pairs.start, pairs.stop)[some]] = np.add.reduceat(products, starts)
    return scores


def ranges(costs: Ints, most: int) -> list[tuple[int, int]]:
    """Cuts candidates into ranges of about equal cost.

    Args:
        costs: Cost of each candidate, [candidates].
        most: Cost of a range; one candidate alone may cost more.
    """
    part = np.cumsum(costs) // max(1, most)
    starts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist()]
    return list(zip(starts, [*starts[1:], len(costs)], strict=True)) if len(costs) else []
