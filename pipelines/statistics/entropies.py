"""Entropies of features that take several values at once, and mutual information from them.

Items are the probability space. An item with several values of a feature takes each with equal
probability, independently of its other features, so it adds 1/(|V_i| |V_j|) of its mass to each of
its pairs of values. An item that lacks a feature takes an extra value, "absent": so each item has
its whole mass in every table, the tables' marginals agree, and the joint absence of two features
(typical of values that come from one source) counts as the correlation that it is.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from feature_store.core.columns import Column, Dense, Ints, Jagged
from feature_store.core.hashing import hash64

Floats = npt.NDArray[np.float64]

# Products in memory at a time.
_MAX_PRODUCTS = 1 << 24
# Items that are added to a table at a time.
_CHUNK = 1 << 17
_CELLS = 16
_VECTOR_BITS = 4  # 2^4 cells
_DIRECTIONS = 4


@dataclass(frozen=True)
class Values:
    """A feature whose values are numbered.

    Attributes:
        bags: Function that returns the values of given rows; an absent feature has none.
        size: Number of values, with "absent" as the last one.
        mean_length: Mean length of a bag.
    """

    bags: Callable[[Ints], Jagged]
    size: int
    mean_length: float

    def membership(self, rows: Ints) -> sparse.csr_matrix:
        """Computes the probability of each value given the row, [rows, size]; rows sum to 1.

        A value that a row repeats has the probability of all its occurrences.
        """
        bags = self.bags(rows)
        lengths = bags.lengths
        filled = np.maximum(lengths, 1)
        values = np.full(int(filled.sum()), self.size - 1, np.int64)
        values[np.repeat(lengths > 0, filled)] = bags.values
        row = np.repeat(np.arange(len(bags)), filled)
        probability = np.repeat(1.0 / filled, filled)
        # Repeated values of a row add up.
        return sparse.coo_matrix((probability, (row, values)), (len(bags), self.size)).tocsr()


def discrete(column: Column, known: Ints) -> Values:
    """Converts the values of a column to numbers.

    Numbers fall into 16 quantile bins. Vectors fall into 16 cells, by the signs of 4 pseudo-random
    projections of the centred vectors, which keep vectors that point the same way together.

    Args:
        column: Column of any kind.
        known: Rows of which the quantiles and the centre are taken.
    """
    if isinstance(column, Jagged):
        mean_length = float(column.lengths[known].mean()) if len(known) else 0.0
        return Values(column.take, int(column.values.max(initial=-1)) + 2, mean_length)
    codes = _cells(column, known) if column.values.shape[1] > 1 else _bins(column, known)

    def bags(rows: Ints) -> Jagged:
        taken = column.take(rows)
        return Jagged.from_lengths(codes(taken)[taken.present], taken.present.astype(np.int64))

    return Values(bags, _CELLS + 1, 1.0)


def _bins(column: Dense, known: Ints) -> Callable[[Dense], Ints]:
    taken = column.take(known)
    numbers = taken.values[taken.present, 0]
    shares = np.arange(1, _CELLS) / _CELLS
    edges = np.unique(np.quantile(numbers, shares)) if len(numbers) else numbers
    return lambda rows: np.searchsorted(edges, rows.values[:, 0], side="left")


def _cells(column: Dense, known: Ints) -> Callable[[Dense], Ints]:
    width = column.values.shape[1]
    bits = hash64(_DIRECTIONS, np.arange(width)[:, None], np.arange(_VECTOR_BITS)) & np.uint64(1)
    directions = 2.0 * bits - 1.0
    taken = column.take(known)
    centre = taken.values[taken.present].mean(axis=0) if taken.present.any() else 0.0
    powers = 1 << np.arange(_VECTOR_BITS)
    return lambda rows: ((rows.values - centre) @ directions > 0) @ powers


@dataclass(frozen=True)
class Entropies:
    """Entropies of two features, and of both together, in nats."""

    first: float
    second: float
    joint: float

    @property
    def information(self) -> float:
        """Mutual information; rounding can leave independent features a little below zero."""
        information = self.first + self.second - self.joint
        return max(0.0, min(information, self.first, self.second))

    @property
    def smaller(self) -> float:
        """The most that the features can have in common."""
        return min(self.first, self.second)


def entropies(first: sparse.csr_matrix, second: sparse.csr_matrix, mass: Floats) -> Entropies:
    """Computes the entropies of two features of the same items.

    The table of pairs is made in blocks of the first feature's values, each of at most
    `_MAX_PRODUCTS` products (or of one value), so that it need not fit into memory.

    Args:
        first: `Values.membership` of a feature, [items, values].
        second: `Values.membership` of another feature, [items, values].
        mass: Weights of the items, [items].
    """
    own, other = _weighted(first, mass), _weighted(second, mass)
    by_value = own.T.tocsr()
    # Products of each value: the values of the second feature that its items have.
    values = np.repeat(np.diff(second.indptr), np.diff(first.indptr))
    products = np.bincount(first.indices, values, first.shape[1])
    block = np.cumsum(products) // _MAX_PRODUCTS
    total = float(mass.sum())
    joint = 0.0
    for start, end in _runs(block):
        joint += entropy_of((by_value[start:end] @ second).data, total)
    return Entropies(
        first=entropy_of(_column_sums(own), total),
        second=entropy_of(_column_sums(other), total),
        joint=joint,
    )


def _column_sums(matrix: sparse.csr_matrix) -> Floats:
    return np.bincount(matrix.indices, matrix.data).astype(np.float64, copy=False)


def _weighted(matrix: sparse.csr_matrix, mass: Floats) -> sparse.csr_matrix:
    """Multiplies each row by its weight."""
    data = matrix.data * np.repeat(mass, np.diff(matrix.indptr))
    return sparse.csr_matrix((data, matrix.indices, matrix.indptr), matrix.shape)


def entropies_in_chunks(
    first: Values, second: Values, first_rows: Ints, second_rows: Ints, mass: Floats
) -> Entropies:
    """Computes `entropies` of any number of items; the table of pairs must fit into memory.

    Args:
        first: Values of a feature.
        second: Values of another feature.
        first_rows: Rows of the first feature, [items].
        second_rows: Rows of the second feature that they are paired with, [items].
        mass: Weights of the pairs, [items].
    """
    table = np.zeros((first.size, second.size))
    for start in range(0, len(mass), _CHUNK):
        part = slice(start, start + _CHUNK)
        weighted = _weighted(first.membership(first_rows[part]), mass[part])
        table += (weighted.T @ second.membership(second_rows[part])).toarray()
    total = float(mass.sum())
    return Entropies(
        first=entropy_of(table.sum(axis=1), total),
        second=entropy_of(table.sum(axis=0), total),
        joint=entropy_of(table.ravel(), total),
    )


def without_empty_columns(matrix: sparse.csr_matrix) -> sparse.csr_matrix:
    """Drops the values that do not occur; the probabilities stay."""
    distinct, codes = np.unique(matrix.indices, return_inverse=True)
    return sparse.csr_matrix((matrix.data, codes, matrix.indptr), (matrix.shape[0], len(distinct)))


def entropy_of(mass: Floats, total: float) -> float:
    """Computes the entropy of a distribution that sums to `total`, in nats."""
    share = mass[mass > 0] / total
    return float(-(share * np.log(share)).sum())


def _runs(block: Ints) -> list[tuple[int, int]]:
    starts = np.flatnonzero(np.concatenate([[True], block[1:] != block[:-1]]))
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(block)], strict=True))
