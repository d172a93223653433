"""Lists of neighbours: the items that an item of a query's history speaks for.

This module needs NumPy alone, because servers read it, too.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Floats, Ints, Jagged
from feature_store.core.files import FLOATS, INTEGERS, mapped_numbers, write_array

Doubles = npt.NDArray[np.float64]

_FILES = {"offsets": INTEGERS, "items": INTEGERS, "scores": FLOATS}
# Neighbours that are summed at a time, which bounds the memory.
_AT_ONCE = 4_000_000
# Keys from whose share of all on a place for every key is faster than a sort.
_DENSE = 0.05
_NO = np.empty(0, np.int64)


@dataclass(frozen=True)
class Neighbours:
    """The neighbours of each item and their scores, as rows of a sparse matrix.

    Lists are kept for each candidate: an item keeps the sources that speak most for it. So a rare
    item is in as many lists as a popular one, and the list of a source can be of any length.

    Attributes:
        lists: Items that each source speaks for, ascending, [sources].
        scores: Score of each of them, [total] float32.
    """

    lists: Jagged
    scores: Floats

    def __len__(self) -> int:
        return len(self.lists)

    def sums(self, sources: Jagged, weights: Floats) -> tuple[Jagged, Floats]:
        """Sums the scores of all sources of each query.

        Args:
            sources: Source items of each query, [queries].
            weights: Weight of each source, [total sources].

        Returns:
            Items with a score, ascending, [queries], and the score of each, [total] float32. The
            sum is taken in float64, so that it does not depend on the order of sources.
        """
        costs = np.concatenate([[0], np.cumsum(self.lists.lengths[sources.values])])
        ends = costs[sources.offsets]
        blocks, start = [], 0
        while start < len(sources):  # At least one query, and no more than fit in memory.
            stop = int(np.searchsorted(ends, ends[start] + _AT_ONCE, side="right")) - 1
            stop = max(stop, start + 1)
            blocks.append(self._sums(sources, weights, start, stop))
            start = stop
        items, lengths, totals = zip(*blocks, strict=True) if blocks else ([_NO], [_NO], [_NO])
        found = Jagged.from_lengths(np.concatenate(items), np.concatenate(lengths))
        return found, np.concatenate(totals).astype(np.float32)

    def _sums(
        self, sources: Jagged, weights: Floats, start: int, stop: int
    ) -> tuple[Ints, Ints, Floats]:
        """Returns the items of a range of queries, their number by query, and their scores."""
        of_range = slice(sources.offsets[start], sources.offsets[stop])
        positions, lengths = self.lists.positions(sources.values[of_range])
        query = np.repeat(np.arange(stop - start), sources.lengths[start:stop])
        key = np.repeat(query, lengths) * np.int64(len(self)) + self.lists.values[positions]
        weighted = np.repeat(weights[of_range], lengths).astype(np.float64)
        distinct, total = summed(key, weighted * self.scores[positions], (stop - start) * len(self))
        row, item = np.divmod(distinct, len(self))
        return item, np.bincount(row, minlength=stop - start), total

    def with_new_items(self, near: Jagged, scores: Floats) -> "Neighbours":
        """Returns the lists with new items, which come last.

        A new item and the items that are near it speak for each other: these name it to those who
        have them, and it names them to those who have it.

        Args:
            near: Earlier items near each new one, ascending, [new items].
            scores: Score of each, [total].
        """
        first, new = len(self), near.row_of_value()
        by_source = np.lexsort((new, near.values))
        source = near.values[by_source]
        at = self.lists.offsets[source + 1]
        named = np.insert(self.lists.values, at, first + new[by_source])
        more = np.bincount(near.values, minlength=first)
        return Neighbours(
            Jagged.from_lengths(
                np.concatenate([named, near.values.astype(named.dtype)]),
                np.concatenate([self.lists.lengths + more, near.lengths]),
            ),
            np.concatenate([np.insert(self.scores, at, scores[by_source]), scores]),
        )

    @classmethod
    def create(cls, directory: Path, lengths: Ints) -> "Neighbours":
        """Creates what `read` reads, mapped into memory so that the lists can be filled.

        Args:
            directory: Directory to write.
            lengths: Length of each source's list, [sources].
        """
        directory.mkdir(parents=True, exist_ok=True)
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        write_array(directory / "offsets.npy", offsets)
        total = (int(offsets[-1]),)
        items, scores = (
            np.lib.format.open_memmap(directory / f"{name}.npy", "w+", kind, total)
            for name, kind in (("items", np.int32), ("scores", np.float32))
        )
        return cls(Jagged(items, offsets), scores)

    def save(self, directory: Path) -> None:
        """Writes three files of NumPy, which `read` maps into memory."""
        items = self.lists.values.astype(np.int32, copy=False)
        arrays = (self.lists.offsets, items, self.scores)
        for name, array in zip(_FILES, arrays, strict=True):
            write_array(directory / f"{name}.npy", array)

    @classmethod
    def read(cls, directory: Path) -> "Neighbours":
        """Maps what `save` wrote into memory.

        Raises:
            ValueError: A file holds something else.
        """
        offsets, items, scores = (
            mapped_numbers(directory / f"{name}.npy", kinds) for name, kinds in _FILES.items()
        )
        return cls(Jagged(items, offsets), scores)


def summed(keys: Ints, values: Floats | Doubles, size: int) -> tuple[Ints, Floats]:
    """Sums values by key, in float64 and in their order.

    Args:
        keys: Key of each value, from 0 to `size`, [values].
        values: Values.
        size: Number of possible keys.

    Returns:
        Distinct keys, ascending, and the sum of each in float32.
    """
    if len(keys) < _DENSE * size:
        distinct, inverse = np.unique(keys, return_inverse=True)
        return distinct, np.bincount(inverse, values, len(distinct)).astype(np.float32)
    has_value = np.zeros(size, np.bool_)
    has_value[keys] = True
    distinct = np.flatnonzero(has_value)
    return distinct, np.bincount(keys, values, size)[distinct].astype(np.float32)
