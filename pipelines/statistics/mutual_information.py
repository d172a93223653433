"""Mutual information between item features (Yao et al. 2021, section 3.2), corrected for chance.

Blocks of pairs of features are tasks. Each pair is counted twice, with equal weights of the items
(as in the paper) and with their training events as weights, and gives three numbers each time:

- raw: I(i; j) = H(i) + H(j) - H(i, j), as in the paper. On the diagonal it is H(i).
- normalised: I / min(H(i), H(j)).
- corrected: adjusted for chance (Vinh et al. 2010). Features with many values share information by
  accident: an id determines every other feature. This is measured by pairing one feature with the
  other feature of random items. With I_0 and H_0 of these pairs,

      corrected = H (I / H - c) / (1 - c),   c = I_0 / H_0,   H = min(H(i), H(j)),

  which is about 0 for independent features, and H where one determines the other, however many
  values there are. It is 0 for an id, from which nothing can be learned beyond chance.

Pairs of small vocabularies are counted over all items, others over a sample of at most `MAX_ITEMS`;
docs/statistics.md states its error.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store.core.columns import Column, Ints, read_columns
from feature_store.core.files import write_array
from feature_store.core.hashing import token_digests
from pipelines.prepared.manifest import InformationMatrices, MutualInformation
from pipelines.statistics.entropies import (
    Entropies,
    discrete,
    entropies,
    entropies_in_chunks,
    without_empty_columns,
)

Floats = npt.NDArray[np.float64]

# More items than this are sampled, unless the table of pairs of values has few cells.
MAX_ITEMS = 1_000_000
# Pairs of values that are added up for one table; long texts are counted over fewer items.
_MAX_PRODUCTS = 1 << 27
_EXACT_CELLS = 1 << 20
# Random pairings by which chance is measured, alternately of the first and the second feature.
_PAIRINGS = 2
# Items that are assumed to share a value by accident, so that a feature whose values hardly ever
# repeat is not judged by a single repetition.
_ACCIDENTS = 5
_DECIMALS = 9
# Number of pairs of a task.
_BLOCK = 8


@dataclass(frozen=True)
class Pairs:
    """A task: some pairs of item features.

    Attributes:
        columns: File of the encoded item features.
        items: File that `save_items` wrote.
        pairs: Names of two features each, which may be the same.
    """

    columns: Path
    items: Path
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Estimate:
    """An estimate of the information that two features share, in nats but for `normalised`."""

    raw: float
    normalised: float
    corrected: float


@dataclass(frozen=True)
class PairInformation:
    """The estimates with both weights of an item: 1, and its training events."""

    items: Estimate
    interactions: Estimate


def save_items(path: Path, ids: pa.Array, current: npt.NDArray[np.bool_], events: Ints) -> None:
    """Writes the counted items, in an order that depends on their ids alone.

    The first of them are a sample that is the same whatever the order of rows, and that hardly
    changes when items are added.

    Args:
        path: NumPy file of rows and training events, [2, counted items].
        ids: Ids of the items, [items].
        current: Whether an item is in this run's catalogue, [items].
        events: Training events of each item, [items].
    """
    rows = np.flatnonzero(current)
    rows = rows[np.argsort(token_digests(ids.take(pa.array(rows))), kind="stable")]
    write_array(path, np.stack([rows, events[rows]]))


def pair_tasks(columns: Path, items: Path, features: tuple[str, ...]) -> list[Pairs]:
    """Returns the tasks, in blocks: each feature with itself and with each of those after it."""
    pairs = tuple(combinations_with_replacement(features, 2))
    return [
        Pairs(columns, items, pairs[start : start + _BLOCK])
        for start in range(0, len(pairs), _BLOCK)
    ]


def pair_information(task: Pairs) -> list[PairInformation]:
    """Estimates the information that the two features of each pair share."""
    columns, rows, events = _load(task.columns, task.items, task.items.stat().st_mtime_ns)
    estimates = []
    for first, second in task.pairs:
        estimate = estimator(columns, rows, first, second)
        estimates.append(
            PairInformation(items=estimate(np.ones(len(rows))), interactions=estimate(events))
        )
    return estimates


def estimator(
    columns: dict[str, Column], rows: Ints, first: str, second: str
) -> Callable[[Floats], Estimate]:
    """Reads the features once, for several weightings.

    Args:
        columns: Encoded features.
        rows: Rows of the items in the order of `save_items`, [items].
        first: Name of a feature.
        second: Name of a feature.

    Returns:
        Function of the items' weights, [items], that returns the estimate.
    """
    known = rows[:MAX_ITEMS]
    left, right = discrete(columns[first], known), discrete(columns[second], known)
    is_same = first == second
    if len(rows) > MAX_ITEMS and left.size * right.size <= _EXACT_CELLS:

        def from_all(mass: Floats) -> Estimate:
            is_counted = mass > 0
            counted, weights = rows[is_counted], mass[is_counted]

            def pairing(one: Ints, other: Ints) -> Entropies:
                return entropies_in_chunks(left, right, counted[one], counted[other], weights)

            return _estimate(pairing, weights, is_same)

        return from_all
    sample = known[: _MAX_PRODUCTS // max(1, round(left.mean_length * right.mean_length))]
    first_matrix = without_empty_columns(left.membership(sample))
    second_matrix = without_empty_columns(right.membership(sample))

    def from_sample(mass: Floats) -> Estimate:
        weights = mass[: len(sample)]
        is_counted = weights > 0
        one, other = first_matrix[is_counted], second_matrix[is_counted]
        weights = weights[is_counted]
        return _estimate(lambda a, b: entropies(one[a], other[b], weights), weights, is_same)

    return from_sample


def _estimate(pairing: Callable[[Ints, Ints], Entropies], mass: Floats, is_same: bool) -> Estimate:
    """Computes the estimate from entropies of positions of one feature paired with the other's."""
    if not len(mass):
        return Estimate(0.0, 0.0, 0.0)
    positions = np.arange(len(mass))
    own = pairing(positions, positions)
    if is_same:
        own = Entropies(own.first, own.first, own.first)
    raw, most = own.information, own.smaller
    if most == 0:
        return Estimate(0.0, 0.0, 0.0)
    chance = []
    for index in range(_PAIRINGS):
        # Items are in the order of a hash, so a shift is as good as a random order.
        shifted = np.roll(positions, (index + 1) * len(positions) // (_PAIRINGS + 1))
        # Weights stay with one of the features: uneven weights add to chance.
        by_chance = pairing(positions, shifted) if index % 2 == 0 else pairing(shifted, positions)
        chance.append(by_chance.information / by_chance.smaller if by_chance.smaller else 0.0)
    expected = float(np.mean(chance))
    effective_items = float(mass.sum() ** 2 / (mass**2).sum())
    accidents = _ACCIDENTS * 2 * math.log(2) / (effective_items * most)
    corrected = most * max(0.0, raw / most - expected) / (1 - expected + accidents)
    return Estimate(raw=raw, normalised=raw / most, corrected=corrected)


def mutual_information(
    features: tuple[str, ...], blocks: Sequence[list[PairInformation]]
) -> MutualInformation:
    """Assembles the matrices from the results of the tasks of `pair_tasks`."""

    def matrices(weighting: str) -> InformationMatrices:
        estimates = [getattr(pair, weighting) for block in blocks for pair in block]
        return InformationMatrices(
            **{
                kind: _symmetric(len(features), [getattr(e, kind) for e in estimates])
                for kind in ("raw", "normalised", "corrected")
            }
        )

    return MutualInformation(
        features=features, items=matrices("items"), interactions=matrices("interactions")
    )


def _symmetric(size: int, upper: list[float]) -> tuple[tuple[float, ...], ...]:
    matrix = np.zeros((size, size))
    rows, columns = np.triu_indices(size)
    # The last digits depend on the order in which rows are added up.
    matrix[rows, columns] = matrix[columns, rows] = np.round(upper, _DECIMALS)
    return tuple(map(tuple, matrix.tolist()))


@lru_cache(maxsize=1)
def _load(columns: Path, items: Path, version: int) -> tuple[dict[str, Column], Ints, Floats]:
    """Loads columns, rows and events once for all tasks; a rewritten file has another version."""
    rows, events = np.load(items)
    return read_columns(columns), rows, events.astype(np.float64)
