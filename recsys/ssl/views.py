"""The views of items that self-supervision compares: which items, and what each view hides.

Every random choice is a hash of the seed, the step and the item's place in the global batch; see
`recsys.collate`.
"""

from dataclasses import dataclass

import numpy as np

from feature_store.core.columns import Bools, Ints, Jagged
from feature_store.core.hashing import hash64, hash_uniform
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.config.ssl import CorrelatedMasking, FeatureDropout, RandomMasking, SpreadOut
from recsys.ssl.masking import Masking, build_masking

_VALUE_DROPOUT, _VIEW_ITEMS, _FEATURE_DROPOUT = 13, 14, 16


@dataclass(frozen=True)
class Views:
    """One rank's rows of one step: [view 0 of S items | view 1 of the same S items | ...].

    Attributes:
        items: [S]; -1 is padding.
        places: [S] in the global batch.
        hidden: [views, features], the features that each view hides.
        step: Counted from 0.
        seed: Of the choice of dropped values.
        value_dropout: How often a value of a bag is left out.
    """

    items: Ints
    places: Ints
    hidden: Bools
    step: int
    seed: int
    value_dropout: float

    def matrix(self) -> Ints:
        """The item of each row, [views, S]."""
        return np.tile(self.items, (len(self.hidden), 1))

    def shows(self, feature: int) -> Bools:
        """Which rows show the feature, [views x S]."""
        return ((self.items >= 0) & ~self.hidden[:, feature, None]).reshape(-1)

    def drop_values(self, feature: int, column: Jagged, start: int) -> Jagged:
        """Leaves values out, independently in each view.

        Args:
            feature: Its place among the features.
            column: Of the feature.
            start: The first of these rows in the column.
        """
        rows = np.arange(start, start + len(self.hidden) * len(self.items))
        first, last = column.offsets[start], column.offsets[start + len(rows)]
        if self.value_dropout == 0.0 or first == last:
            return column
        # One place of several views differs in the row that goes into the hash.
        views = np.arange(len(self.hidden))
        keys = (len(views) * self.places + views[:, None]).reshape(-1)
        row, position = value_places(column.take(rows), keys)
        draws = hash_uniform(self.seed, _VALUE_DROPOUT, self.step, feature, row, position)
        kept = np.ones(len(column.values), bool)
        kept[first:last] = draws >= self.value_dropout
        return column.keep(kept)


class ItemSampler:
    """Draws items with replacement.

    Args:
        candidates: [candidates] items.
        events: [candidates] of each, which it is drawn by; None: all alike.
        seed: Of the draws.
    """

    def __init__(self, candidates: Ints, events: Ints | None, seed: int) -> None:
        self._candidates = candidates
        self._ends = None if events is None else np.cumsum(events, dtype=np.uint64)
        self._seed = seed

    def items(self, step: int, count: int) -> Ints:
        """[count] items."""
        draws = hash64(self._seed, _VIEW_ITEMS, step, np.arange(count))
        if self._ends is None:
            places = (draws % np.uint64(len(self._candidates))).astype(np.int64)
        else:
            places = np.searchsorted(self._ends, draws % self._ends[-1], side="right")
        return self._candidates[places]


class ViewBuilder:
    """Draws the items and the views of each step.

    Attributes:
        masking: Which features are hidden; None where none are masked.

    Args:
        prepared: The prepared data.
        config: Its ssl and training sections are used.
    """

    def __init__(self, prepared: Prepared, config: Config) -> None:
        ssl = config.ssl
        self._ssl = ssl
        self._seed = config.training.seed
        self._num_features = len(prepared.features.item)
        self._count = 0
        self._value_dropout = 0.0
        self.masking: Masking | None = None
        if isinstance(ssl, RandomMasking | CorrelatedMasking | SpreadOut):
            self._count = ssl.batch_size or config.training.batch_size
            candidates = np.flatnonzero(prepared.is_current_item)
            is_by_frequency = ssl.items == "frequency"
            events = prepared.item_frequency[candidates] if is_by_frequency else None
            self._sampler = ItemSampler(candidates, events, self._seed)
        if isinstance(ssl, RandomMasking | CorrelatedMasking):
            self._value_dropout = ssl.value_dropout
            self.masking = build_masking(
                ssl, prepared.features.item, prepared.mutual_information, self._seed
            )

    def none(self) -> Views:
        """No views at all."""
        nothing = np.zeros(0, np.int64)
        return self._views(nothing, nothing, np.zeros((0, self._num_features), bool), 0)

    def items(self, step: int, positives: Ints) -> Ints:
        """The global batch's items of the self-supervised task, [items].

        Args:
            step: Counted from 0.
            positives: [examples] of the global batch.
        """
        if isinstance(self._ssl, RandomMasking | CorrelatedMasking | SpreadOut):
            is_by_batch = self._ssl.items == "training"
            return positives if is_by_batch else self._sampler.items(step, self._count)
        return positives[:0]

    def share(self, step: int, positives: Ints, rank: int, world_size: int) -> Views:
        """One rank's part, padded to as many items as every rank has.

        Args:
            step: Counted from 0.
            positives: [examples] of the global batch.
            rank: Whose part.
            world_size: Of how many.
        """
        items = self.items(step, positives)
        if not len(items):
            return self.none()
        size = -(-len(items) // world_size)
        own = np.arange(rank * size, (rank + 1) * size)
        items = np.append(items, np.full(size * world_size - len(items), -1))
        if self.masking is None:  # Of spread-out regularisation: the items as they are.
            hidden = np.zeros((1, self._num_features), bool)
        else:
            hidden = self.masking.hidden(np.array([step]))[0]
        return self._views(items[own], own, hidden, step)

    def shown_in_main(self, step: int, places: Ints) -> Bools:
        """Which features each example's positive shows, [features, examples].

        Args:
            step: Counted from 0.
            places: [examples] in the global batch.
        """
        if not isinstance(self._ssl, FeatureDropout):
            return np.ones((self._num_features, len(places)), bool)
        features = np.arange(self._num_features)[:, None]
        draws = hash_uniform(self._seed, _FEATURE_DROPOUT, step, features, places)
        return draws >= self._ssl.rate

    def _views(self, items: Ints, places: Ints, hidden: Bools, step: int) -> Views:
        return Views(items, places, hidden, step, self._seed, self._value_dropout)


def value_places(column: Jagged, rows: Ints) -> tuple[Ints, Ints]:
    """Of each value: its row's entry in `rows`, and its position within the bag."""
    row = column.row_of_value()
    return rows[row], np.arange(len(row)) - column.offsets[row]
