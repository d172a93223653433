"""Mutual information between item features (Yao et al. 2021, section 3.2), and what is chance.

Blocks of pairs of features are tasks. Each pair is counted twice, with every item alike (the
paper's) and with each item by its training events, and gives three numbers each time:

- raw: I(i; j) = H(i) + H(j) - H(i, j), the paper's. On the diagonal it is H(i).
- normalised: I / min(H(i), H(j)).
- corrected: adjusted for chance (Vinh et al. 2010). Features with many values share information by
  accident: an id tells everything of any feature. How much it would be is found by pairing one
  feature with the other one of random items. With I_0 and H_0 of such pairs,

      corrected = H (I / H - c) / (1 - c),   c = I_0 / H_0,   H = min(H(i), H(j)),

  which is about 0 for independent features, and H where one tells all of the other, both however
  many values there are. It is 0 for an id, from which nothing can be learnt beyond chance.

Pairs of small vocabularies are counted over all items. For others it is a sample of at most
`MAX_ITEMS` of them; docs/statistics.md states its error.
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
from pipelines.prepared.reader import InformationMatrices, MutualInformation
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
# Random pairings that chance is measured by, each of one of the two features.
_PAIRINGS = 2
# Items that share a value by accident, in the thought that keeps a feature whose values hardly ever
# repeat from being judged by one repetition.
_ACCIDENTS = 5
_DECIMALS = 9
# Pairs of a task.
_BLOCK = 8


@dataclass(frozen=True)
class Pairs:
    """A task: some pairs of item features.

    Attributes:
        columns: File of the encoded item features.
        items: File of `save_items`.
        pairs: Two names each, which may be the same.
    """

    columns: Path
    items: Path
    pairs: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Estimate:
    """Of what two features tell of each other, in nats but for `normalised`."""

    raw: float
    normalised: float
    corrected: float


@dataclass(frozen=True)
class PairInformation:
    """By both weights of an item: 1, and its training events."""

    items: Estimate
    interactions: Estimate


def save_items(path: Path, ids: pa.Array, current: npt.NDArray[np.bool_], events: Ints) -> None:
    """Writes which items are counted, in an order that depends on their ids alone.

    So the first of them are a sample that is the same whatever the order of rows, and that hardly
    changes when items are added.

    Args:
        path: NumPy file, [2, counted items] rows and training events.
        ids: [items].
        current: [items] whether an item is of this run.
        events: [items] training events.
    """
    rows = np.flatnonzero(current)
    rows = rows[np.argsort(token_digests(ids.take(pa.array(rows))), kind="stable")]
    write_array(path, np.stack([rows, events[rows]]))


def pair_tasks(columns: Path, items: Path, features: tuple[str, ...]) -> list[Pairs]:
    """Tasks for each feature with itself and each of those after it, in blocks."""
    pairs = tuple(combinations_with_replacement(features, 2))
    return [
        Pairs(columns, items, pairs[start : start + _BLOCK])
        for start in range(0, len(pairs), _BLOCK)
    ]


def pair_information(task: Pairs) -> list[PairInformation]:
    """What the two features of each pair tell of each other."""
    columns, rows, events = _load(task.columns, task.items, task.items.stat().st_mtime_ns)
    found = []
    for first, second in task.pairs:
        estimate = estimator(columns, rows, first, second)
        found.append(
            PairInformation(items=estimate(np.ones(len(rows))), interactions=estimate(events))
        )
    return found


def estimator(
    columns: dict[str, Column], rows: Ints, first: str, second: str
) -> Callable[[Floats], Estimate]:
    """Reads the features once, for several weightings.

    Args:
        columns: Encoded features.
        rows: [items] in the order of `save_items`.
        first: A name.
        second: A name.

    Returns:
        Of the items' weights [items], the estimate.
    """
    known = rows[:MAX_ITEMS]
    left, right = discrete(columns[first], known), discrete(columns[second], known)
    is_same = first == second
    if len(rows) > MAX_ITEMS and left.size * right.size <= _EXACT_CELLS:

        def from_all(mass: Floats) -> Estimate:
            counted = mass > 0
            found, own = rows[counted], mass[counted]
            return _estimate(
                lambda a, b: entropies_in_chunks(left, right, found[a], found[b], own), own, is_same
            )

        return from_all
    sample = known[: _MAX_PRODUCTS // max(1, round(left.mean_length * right.mean_length))]
    first_matrix = without_empty_columns(left.membership(sample))
    second_matrix = without_empty_columns(right.membership(sample))

    def from_sample(mass: Floats) -> Estimate:
        own = mass[: len(sample)]
        counted = own > 0
        one, other, own = first_matrix[counted], second_matrix[counted], own[counted]
        return _estimate(lambda a, b: entropies(one[a], other[b], own), own, is_same)

    return from_sample


def _estimate(pairing: Callable[[Ints, Ints], Entropies], mass: Floats, is_same: bool) -> Estimate:
    """From the entropies of the first feature's places paired with the second's."""
    if not len(mass):
        return Estimate(0.0, 0.0, 0.0)
    places = np.arange(len(mass))
    found = pairing(places, places)
    if is_same:
        found = Entropies(found.first, found.first, found.first)
    raw, most = found.information, found.smaller
    if most == 0:
        return Estimate(0.0, 0.0, 0.0)
    chance = []
    for index in range(_PAIRINGS):
        # Items are in the order of a hash, so that others are as good as random ones.
        shuffled = np.roll(places, (index + 1) * len(places) // (_PAIRINGS + 1))
        # Weights stay with one of the features: how uneven they are adds to chance.
        by_chance = pairing(places, shuffled) if index % 2 == 0 else pairing(shuffled, places)
        chance.append(by_chance.information / by_chance.smaller if by_chance.smaller else 0.0)
    expected = float(np.mean(chance))
    effective_items = float(mass.sum() ** 2 / (mass**2).sum())
    accidents = _ACCIDENTS * 2 * math.log(2) / (effective_items * most)
    corrected = most * max(0.0, raw / most - expected) / (1 - expected + accidents)
    return Estimate(raw=raw, normalised=raw / most, corrected=corrected)


def mutual_information(
    features: tuple[str, ...], blocks: Sequence[list[PairInformation]]
) -> MutualInformation:
    """From what `pair_information` returned for the tasks of `pair_tasks`."""

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
    """Kept between tasks; a file that is written anew has another version."""
    rows, events = np.load(items)
    return read_columns(columns), rows, events.astype(np.float64)
