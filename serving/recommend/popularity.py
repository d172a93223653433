"""Answers for queries of which nothing is known: what most had in training."""

from functools import cached_property

import numpy as np

from feature_store.core.columns import Bools, Floats, Ints

# Items that are looked at first; few filters and exclusions leave less than an answer of these.
_FIRST = 4096


class Popularity:
    """Items by falling training events; of equal ones the lower index.

    Args:
        frequency: [places] training events of the items of the index.
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
        """The k most frequent places and their shares of all events; fewer where no more are left.

        Args:
            k: How many.
            excluded: Places that are no answers.
            allowed: [places] which ones may be; None: all.
        """
        for end in (_FIRST, len(self._order)):
            places = self._order[:end]
            if allowed is not None:
                places = places[allowed[places]]
            places = places[~np.isin(places, excluded)]
            if len(places) >= k:
                break
        places = places[:k]
        return places, (self._frequency[places] / self._total).astype(np.float32)
