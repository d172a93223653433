"""Item-item scores as a product of two sparse matrices, of which the highest are kept."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from sparse_dot_topn import sp_matmul_topn

from feature_store.core.columns import Ints

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Product:
    """Scores of every item as a neighbour of every other, which are never all in memory.

    Attributes:
        left: [candidates, inner].
        right: [inner, sources].
    """

    left: sparse.csr_matrix
    right: sparse.csr_matrix

    def costs(self) -> Ints:
        """Returns the number of multiplications for each candidate, [candidates]."""
        lengths = np.diff(self.right.indptr)
        sums = np.concatenate([[0], np.cumsum(lengths[self.left.indices])])
        return sums[self.left.indptr[1:]] - sums[self.left.indptr[:-1]]

    def scaled(self, candidates: Doubles, sources: Doubles) -> "Product":
        """Returns the product with each candidate's and each source's scores multiplied."""
        return Product(
            (sparse.diags(candidates) @ self.left).tocsr().astype(np.float32),
            (self.right @ sparse.diags(sources)).tocsr().astype(np.float32),
        )

    def sums(self) -> tuple[Doubles, Doubles]:
        """Returns the sums of scores of each candidate and of each source, without the diagonal."""
        left, right = self.left.astype(np.float64), self.right.astype(np.float64)
        diagonal = np.asarray(left.multiply(right.T.tocsr()).sum(axis=1)).reshape(-1)
        of_candidates = left @ (right @ np.ones(right.shape[1]))
        of_sources = right.T @ (left.T @ np.ones(left.shape[0]))
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
        block = self.left[start:stop]
        # The candidate itself may be among the highest. A transposed right-hand side of the same
        # shape would be taken for what it is not, so the inner dimension always differs.
        found = sp_matmul_topn(block, self.right, top_n=count + 1, threshold=0.0, sort=True)
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


def ranges(costs: Ints, most: int) -> list[tuple[int, int]]:
    """Cuts candidates into ranges of about equal cost.

    Args:
        costs: Cost of each candidate, [candidates].
        most: Cost of a range; one candidate alone may cost more.
    """
    part = np.cumsum(costs) // max(1, most)
    starts = [0, *(np.flatnonzero(np.diff(part)) + 1).tolist()]
    return list(zip(starts, [*starts[1:], len(costs)], strict=True)) if len(costs) else []
