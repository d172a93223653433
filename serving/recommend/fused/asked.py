"""The question of a search: vectors, histories, and what may be an answer."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from feature_store.core.columns import Bools, Floats, Ints, Jagged
from recsys.channels.sources import Sources


@dataclass(frozen=True)
class Asked:
    """Queries of one search, [queries].

    Attributes:
        vectors: Query vectors, [queries, dim].
        sources: Items of the queries that channels read.
        excluded: Positions in the index that are no answers.
        allowed: Whether an item may be an answer, by position; None: all may.
    """

    vectors: Floats
    sources: Sources
    excluded: Jagged
    allowed: Bools | None

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: Ints) -> "Asked":
        """Returns some of the queries, in that order."""
        sources, excluded = self.sources.take(rows), self.excluded.take(rows)
        return Asked(self.vectors[rows], sources, excluded, self.allowed)

    def each(self) -> Iterator["AskedOne"]:
        """Yields one query after the other."""
        for row, vector in enumerate(self.vectors):
            bags = (self.sources.history, self.sources.known, self.sources.own, self.excluded)
            history, known, own, excluded = (_one(each, row) for each in bags)
            sources = Sources(history, known, own)
            yield AskedOne(vector, sources, excluded, self.allowed)


@dataclass(frozen=True, slots=True)
class AskedOne:
    """One query of a search; see `Asked`."""

    vector: Floats
    sources: Sources
    excluded: Jagged
    allowed: Bools | None


def _one(bags: Jagged, row: int) -> Jagged:
    values = bags.values[bags.offsets[row] : bags.offsets[row + 1]]
    return Jagged(values, np.array([0, len(values)]))
