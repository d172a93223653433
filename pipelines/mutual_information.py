"""Mutual information between item features (Yao et al. 2021, section 3.2).

Items are the probability space, all equally likely. An item with several values of a feature takes
each with equal probability, independently of its other features, so it adds 1/(|V_i| |V_j|) to
each of its pairs of values. An item that lacks a feature takes a value of its own, "absent": so
each item has mass 1 in every table, the tables' marginals agree, and lacking two features together
(typical of values that come from one source) counts as the correlation that it is.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import sparse

from feature_store.columns import Column, Dense, Ints, Jagged, read_columns
from feature_store.history import hash64
from pipelines.prepared import MutualInformation

# More items than this are sampled: the estimate hardly changes, and its cost is bounded.
_MAX_ITEMS = 200_000
# Products that are in memory at a time.
_MAX_PRODUCTS = 1 << 24
_NUMERIC_BINS = 16
_VECTOR_BITS = 4
_SAMPLE, _DIRECTIONS = 3, 4


@dataclass(frozen=True)
class Pairs:
    """A task: joint entropies of one feature with each of some others.

    Attributes:
        columns: File of the encoded item features.
        current: [items] file of NumPy: which items are of this run.
        feature: A name.
        others: Names.
    """

    columns: Path
    current: Path
    feature: str
    others: tuple[str, ...]


def joint_entropies(task: Pairs) -> list[float]:
    """In nats, in the order of `others`."""
    columns, items = _load(task.columns, task.current)
    first = membership(columns[task.feature], items)
    return [
        entropy(first)
        if other == task.feature
        else joint_entropy(first, membership(columns[other], items))
        for other in task.others
    ]


def pair_tasks(columns: Path, current: Path, features: tuple[str, ...]) -> list[Pairs]:
    """One task for each feature, with itself and those after it."""
    return [
        Pairs(columns, current, feature, features[index:]) for index, feature in enumerate(features)
    ]


def mutual_information(
    features: tuple[str, ...], entropies: list[list[float]]
) -> MutualInformation:
    """From what `joint_entropies` returned for the tasks of `pair_tasks`.

    Raw is I(i; j) = H(i) + H(j) - H(i, j), and H(i) on the diagonal; normalised is
    I(i; j) / min(H(i), H(j)), and 0 where an entropy is 0.
    """
    size = len(features)
    raw = np.zeros((size, size))
    own = np.array([row[0] for row in entropies])
    for i, row in enumerate(entropies):
        raw[i, i] = own[i]
        for j, joint in enumerate(row[1:], i + 1):
            # Rounding can leave independent features a little below zero.
            raw[i, j] = raw[j, i] = max(0.0, min(own[i] + own[j] - joint, own[i], own[j]))
    smaller = np.minimum(own[:, None], own[None, :])
    normalised = np.divide(raw, smaller, out=np.zeros_like(raw), where=smaller > 0)
    return MutualInformation(
        features=features,
        raw=tuple(map(tuple, raw.tolist())),
        normalised=tuple(map(tuple, normalised.tolist())),
    )


def membership(column: Column, items: Ints) -> sparse.csr_matrix:
    """[items, values]: the probability of each value given the item; every row sums to 1.

    Sparse features have a column for each table row that occurs, and one for "absent". A value that
    an item repeats counts as often. Numbers have one for each of 16 quantile bins. Vectors have one
    for each of 16 cells, by the signs of 4 pseudo-random projections of the centred vectors, which
    keep vectors that point the same way together.
    """
    bags = _discrete(column, items)
    lengths = bags.lengths
    absent = int(bags.values.max(initial=-1)) + 1
    filled = np.maximum(lengths, 1)
    values = np.full(int(filled.sum()), absent, np.int64)
    values[np.repeat(lengths > 0, filled)] = bags.values
    distinct, codes = np.unique(values, return_inverse=True)
    row = np.repeat(np.arange(len(bags)), filled)
    probability = np.repeat(1.0 / filled, filled)
    # Repeated values of an item add up.
    return sparse.coo_matrix((probability, (row, codes)), (len(bags), len(distinct))).tocsr()


def entropy(values: sparse.csr_matrix) -> float:
    """H of a feature, in nats."""
    mass = np.asarray(values.sum(axis=0)).ravel()
    return _entropy_of(mass, values.shape[0])


def joint_entropy(first: sparse.csr_matrix, second: sparse.csr_matrix) -> float:
    """H of two features together, in nats.

    The table of pairs is made in blocks of the first feature's values, each of at most
    `_MAX_PRODUCTS` products (or one value's), so that it need not fit into memory.
    """
    items = first.shape[0]
    by_value = first.T.tocsr()
    # Products of each value: the values of the second feature that its items have.
    products = (first != 0).T @ np.diff(second.indptr)
    block = np.cumsum(products) // _MAX_PRODUCTS
    total = 0.0
    for start, end in _runs(block):
        table = by_value[start:end] @ second
        total += _entropy_of(table.data, items)
    return total


def _entropy_of(mass: npt.NDArray[np.float64], total: int) -> float:
    share = mass[mass > 0] / total
    return float(-(share * np.log(share)).sum())


def _runs(block: Ints) -> list[tuple[int, int]]:
    starts = np.flatnonzero(np.concatenate([[True], block[1:] != block[:-1]]))
    return list(zip(starts.tolist(), [*starts[1:].tolist(), len(block)], strict=True))


def _discrete(column: Column, items: Ints) -> Jagged:
    taken = column.take(items)
    if isinstance(taken, Jagged):
        return taken
    present = taken.present
    codes = _cells(taken) if taken.values.shape[1] > 1 else _bins(taken)
    return Jagged.from_lengths(codes[present], present.astype(np.int64))


def _bins(column: Dense) -> Ints:
    numbers = column.values[:, 0]
    known = numbers[column.present]
    if not len(known):
        return np.zeros(len(numbers), np.int64)
    edges = np.unique(np.quantile(known, np.arange(1, _NUMERIC_BINS) / _NUMERIC_BINS))
    return np.searchsorted(edges, numbers, side="left")


def _cells(column: Dense) -> Ints:
    width = column.values.shape[1]
    bits = hash64(_DIRECTIONS, np.arange(width)[:, None], np.arange(_VECTOR_BITS)) & np.uint64(1)
    centre = column.values[column.present].mean(axis=0) if column.present.any() else 0.0
    projected = (column.values - centre) @ (2.0 * bits - 1.0)
    return (projected > 0) @ (1 << np.arange(_VECTOR_BITS))


@lru_cache(maxsize=2)
def _load(columns: Path, current: Path) -> tuple[dict[str, Column], Ints]:
    return read_columns(columns), sampled(np.load(current))


def sampled(current: npt.NDArray[np.bool_]) -> Ints:
    """Indices of the items of this run, or of `_MAX_ITEMS` of them by a hash."""
    items = np.flatnonzero(current)
    if len(items) <= _MAX_ITEMS:
        return items
    order = np.argsort(hash64(_SAMPLE, items), kind="stable")
    return np.sort(items[order[:_MAX_ITEMS]])
