"""Least squares of each item on its nearest ones, where the weights of all would be too many."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from scipy import sparse

from feature_store.core.columns import Floats, Ints
from feature_store.core.files import mapped_array, write_array
from recsys.channels.matrix_files import read_matrix, stack, write_matrix

# Most frequent items, whose common queries are counted once; they are in most equations.
_FREQUENT = 4_000
# Candidates whose common queries are counted together, in a matrix that fits in the cache, and the
# cost of one beside its solution.
_AT_ONCE, _COST = 32, 10_000


@dataclass(frozen=True)
class Ridge:
    """Weights that predict whether a query has an item from those of its nearest items it has.

    It is EASE (Steck 2019), of which each candidate may read its nearest items alone.

    Attributes:
        near: Nearest items of each candidate, [candidates, sources]; the scores are not read.
        queries: Binary matrix of items and the queries that have them, [items, queries] float32.
        frequent: Most frequent items, ascending.
        together: Common queries of these, [frequent, frequent] float32.
        penalties: Weight of the squared weights from each item, [items].
    """

    near: sparse.csr_matrix
    queries: sparse.csr_matrix
    frequent: Ints
    together: Floats
    penalties: Floats

    @staticmethod
    def write(
        seen: sparse.csr_matrix, penalties: Floats, parts: list[Path], directory: Path
    ) -> None:
        """Writes a step.

        Args:
            seen: Binary matrix of queries and their items.
            penalties: Weight of the squared weights from each item, [items].
            parts: Directories of the nearest items of ranges of candidates, in order.
            directory: Directory to write.
        """
        stack(parts, directory / "near")
        queries = seen.T.tocsr()
        counts = np.diff(queries.indptr)
        frequent = np.sort(np.argsort(-counts, kind="stable")[:_FREQUENT])
        of_frequent = queries[frequent]
        together = (of_frequent @ of_frequent.T).toarray()
        write_matrix(directory / "queries", queries)
        for name, array in (
            ("frequent", frequent),
            ("together", together),
            ("penalties", penalties),
        ):
            write_array(directory / f"{name}.npy", array)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Maps what `write` wrote into memory."""
        near, queries = (read_matrix(directory / name) for name in ("near", "queries"))
        names = ("frequent", "together", "penalties")
        frequent, together, penalties = (mapped_array(directory / f"{name}.npy") for name in names)
        return cls(near, queries, frequent, together, penalties)

    def costs(self) -> Ints:
        """Returns the number of multiplications for each candidate, about, [candidates]."""
        return np.diff(self.near.indptr).astype(np.int64) ** 3 // 12 + _COST

    def highest(self, start: int, stop: int, count: int) -> sparse.csr_matrix:
        """Returns the weights of each candidate's nearest items, whatever their sign.

        Args:
            start: First candidate.
            stop: Candidate after the last one.
            count: Most sources of a candidate.

        Returns:
            [stop - start, sources] float32.
        """
        cuts = range(start, stop, _AT_ONCE)
        parts = [self._solved(first, min(first + _AT_ONCE, stop), count) for first in cuts]
        return sparse.vstack(parts, format="csr")

    def _solved(self, start: int, stop: int, count: int) -> sparse.csr_matrix:
        near = self.near[start:stop]
        lengths = np.minimum(np.diff(near.indptr), count)
        is_source = np.arange(max(1, lengths.max(initial=0))) < lengths[:, None]
        # A place without a source has common queries with nothing, and so gets the weight 0.
        sources = np.full(is_source.shape, -1)
        place = np.arange(near.nnz) - np.repeat(near.indptr[:-1], np.diff(near.indptr))
        sources[is_source] = near.indices[place < count]
        candidates = np.arange(start, stop)
        items, common = self._common(np.union1d(sources[is_source], candidates))
        order = np.argsort(items)
        at = order[np.searchsorted(items, sources, sorter=order).clip(max=len(items) - 1)]
        at[~is_source] = len(items)
        own = order[np.searchsorted(items, candidates, sorter=order)]
        equations = common[at[:, :, None], at[:, None, :]].astype(np.float64)
        unknown = np.arange(at.shape[1])
        equations[:, unknown, unknown] += self.penalties[sources.clip(min=0)]
        wanted = common[at, own[:, None]].astype(np.float64)
        weights = np.linalg.solve(equations, wanted[:, :, None])[:, :, 0]
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        found = (weights[is_source].astype(np.float32), sources[is_source], offsets)
        matrix = sparse.csr_matrix(found, near.shape)
        matrix.eliminate_zeros()
        return matrix

    def _common(self, items: Ints) -> tuple[Ints, Floats]:
        """Counts common queries of items, with a row and a column of zeros as the last ones.

        Returns:
            The items, the frequent ones last, and the counts, [items + 1, items + 1] float32.
        """
        place = np.searchsorted(self.frequent, items).clip(max=len(self.frequent) - 1)
        is_frequent = self.frequent[place] == items
        items = np.concatenate([items[~is_frequent], items[is_frequent]])
        known, rare = place[is_frequent], int((~is_frequent).sum())
        common = np.zeros((len(items) + 1, len(items) + 1), np.float32)
        rows = self.queries[items]
        common[:rare, : len(items)] = (rows[:rare] @ rows.T).toarray()
        common[rare:-1, :rare] = common[:rare, rare:-1].T
        common[rare:-1, rare:-1] = self.together[np.ix_(known, known)]
        return items, common
