"""Answers for queries of which nothing is known: the most frequent items of training."""

from functools import cached_property

import numpy as np

from feature_store.core.columns import Bools, Floats, Ints

# Items that are looked at first; few filters and exclusions leave less than an answer of these.
_FIRST = 4096


class Popularity:
    """Items by falling training events; of equal ones the lower index.

    Args:
        frequency: Training events of the indexed items, by position.
    """

    def __init__(self, frequency: Ints) -> None:
        self._frequency = frequency

    @cached_property
    def _order(self) -> Ints:
        return np.argsort(-self._frequency, kind="stable")

    @cached_property
    def _total(self) -> int:
        return max(1, int(self._frequency.sum()))

    def top(self, k: int, excluded: Ints, allowed: Bools | None) -> tuple[Ints, Floats]:
        """Finds the k most frequent items; fewer where no more are left.

        Args:
            k: Number of items.
            excluded: Positions that are no answers.
            allowed: Whether an item may be an answer, by position; None: all may.

        Returns:
            Positions, and each item's part of all events.
        """
        for end in (_FIRST, len(self._order)):
            positions = self._order[:end]
            if allowed is not None:
                positions = positions[allowed[positions]]
            positions = positions[~np.isin(positions, excluded)]
            if len(positions) >= k:
                break
        positions = positions[:k]
        return positions, (self._frequency[positions] / self._total).astype(np.float32)
