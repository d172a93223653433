"""The interface of baselines, and the data that they are fitted to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from feature_store.core.columns import Ints, Jagged
from recsys.evaluation.ranking import Scorer
from recsys.evaluation.selection import Score


class Fitted(Protocol):
    """A baseline that was fitted to the training events."""

    def scorer(self, known: Jagged) -> Scorer:
        """Returns the scores of all items for queries with the given known items, [queries]."""


@dataclass(frozen=True)
class Training:
    """Data that baselines are fitted to.

    Attributes:
        items: Items of the training events of all queries, [queries].
        frequency: Number of training events of each item, [items].
        validate: Function that scores a fitted baseline on the validation split.
    """

    items: Jagged
    frequency: Ints
    validate: Callable[[Fitted], Score]
