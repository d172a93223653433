"""The items of a query that channels read, and how much each counts."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from feature_store.core.columns import Floats, Ints, Jagged

# Number of later items after which one counts half, where the order means something.
_HALF_LIFE = 3.0

# The history, oldest first, of which later items count more; every known item alike; or the item
# that the query itself is.
Reads = Literal["history", "known", "own"]


@dataclass(frozen=True)
class Sources:
    """Items that channels read, by query; every field is [queries].

    Attributes:
        history: History, oldest first.
        known: Distinct items of the query's events.
        own: Item that the query is itself, if any.
    """

    history: Jagged
    known: Jagged
    own: Jagged

    def __len__(self) -> int:
        return len(self.history)

    def take(self, rows: Ints) -> "Sources":
        """Returns those of the given queries."""
        return Sources(self.history.take(rows), self.known.take(rows), self.own.take(rows))

    def of(self, reads: Reads) -> tuple[Jagged, Floats]:
        """Returns the items that a channel reads, [queries], and their weights, [total] float32."""
        items: Jagged = getattr(self, reads)
        if reads != "history":
            return items, np.ones(len(items.values), np.float32)
        if len(items) == 1:  # Requests of one query take this path.
            return items, _latest(len(items.values))
        later = np.repeat(items.offsets[1:], items.lengths) - 1 - np.arange(len(items.values))
        return items, _weights(later)


def _latest(count: int) -> Floats:
    """Returns the weights of a history of some length, [count]."""
    if count > len(_LATEST):
        return _weights(np.arange(count - 1, -1, -1))
    return _LATEST[len(_LATEST) - count :]


def _weights(later: Ints) -> Floats:
    return (0.5 ** (later / _HALF_LIFE)).astype(np.float32)


# Weights of the items of a long history.
_LATEST = _weights(np.arange(1023, -1, -1))
