"""Views of items for self-supervision: the items of each step, and what each view shows of them.

Every random choice is a hash of the seed, the step and the item's position in the global batch; see
`recsys.data.builder`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feature_store.core.columns import Bools, Ints, Jagged
from feature_store.core.hashing import hash64, hash_uniform
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.ssl.masking import Masking, build_masking
from recsys.ssl.neighbours import ItemNeighbours

# Streams of random choices; 11, 12 and 15 are those of `recsys.data.builder`, and 18 to 21 those of
# `recsys.ssl.neighbours`.
_VALUE_DROPOUT, _VIEW_ITEMS, _FEATURE_DROPOUT, _KEY, _ID_DROPOUT = 13, 14, 16, 17, 22


@dataclass(frozen=True)
class Views:
    """One rank's rows of one step: [view 0 of S items | view 1 of these, or of neighbours | ...].

    Attributes:
        items: [views, S]; -1 is padding.
        positions: [S] in the global batch.
        hidden: [views, features], the features that each view hides.
        step: Number of the step, from 0.
        seed: Seed of all random choices.
        value_dropout: Probability that a value of a bag is left out.
        id_dropout: Probability that a row hides the id of its item, beside the masks.
    """

    items: Ints
    positions: Ints
    hidden: Bools
    step: int
    seed: int
    value_dropout: float
    id_dropout: float

    @property
    def key(self) -> Ints:
        """Key of the random numbers that a loss draws in this step, [1] int64."""
        return np.atleast_1d(hash64(self.seed, _KEY, self.step)).view(np.int64)

    def shows(self, feature: int, *, is_id: bool) -> Bools:
        """Returns the rows that show a feature, [views x S].

        Args:
            feature: Position of the feature.
            is_id: Whether it is the id of the item.
        """
        shown = ((self.items >= 0) & ~self.hidden[:, feature, None]).reshape(-1)
        if is_id and self.id_dropout:
            shown &= (
                hash_uniform(self.seed, _ID_DROPOUT, self.step, self._keys()) >= self.id_dropout
            )
        return shown

    def drop_values(self, feature: int, column: Jagged, start: int) -> Jagged:
        """Leaves values out, independently in each view.

        Args:
            feature: Position of the feature.
            column: Bags of the feature.
            start: First of these rows in the column.
        """
        rows = np.arange(start, start + self.items.size)
        first, last = column.offsets[start], column.offsets[start + len(rows)]
        if self.value_dropout == 0.0 or first == last:
            return column
        row, position = value_positions(column.take(rows), self._keys())
        draws = hash_uniform(self.seed, _VALUE_DROPOUT, self.step, feature, row, position)
        kept = np.ones(len(column.values), bool)
        kept[first:last] = draws >= self.value_dropout
        return column.keep(kept)

    def _keys(self) -> Ints:
        """Returns numbers of the rows that differ from view to view, and not by rank."""
        views = np.arange(len(self.hidden))
        return (len(views) * self.positions + views[:, None]).reshape(-1)


class ItemSampler:
    """Draws items with replacement.

    Args:
        candidates: [candidates] items.
        events: [candidates] weights of the items; None: all alike.
        seed: Seed of the draws.
    """

    def __init__(self, candidates: Ints, events: Ints | None, seed: int) -> None:
        self._candidates = candidates
        self._ends = None if events is None else np.cumsum(events, dtype=np.uint64)
        self._seed = seed

    def items(self, step: int, count: int) -> Ints:
        """Draws [count] items."""
        draws = hash64(self._seed, _VIEW_ITEMS, step, np.arange(count))
        if self._ends is None:
            chosen = (draws % np.uint64(len(self._candidates))).astype(np.int64)
        else:
            chosen = np.searchsorted(self._ends, draws % self._ends[-1], side="right")
        return self._candidates[chosen]


class ViewBuilder:
    """Draws the items and the views of each step.

    Attributes:
        masking: Features that the views hide; None where they hide none.

    Args:
        prepared: The prepared data.
        config: Configuration; its ssl and training sections are used.
        neighbours: Directory of the items' neighbours; None: there is none, and views of neighbours
            show the item itself.
    """

    def __init__(self, prepared: Prepared, config: Config, neighbours: Path | None = None) -> None:
        self._plan = plan = config.ssl.view_plan
        self._main_dropout = config.ssl.main_dropout
        self._seed = config.training.seed
        self._num_features = len(prepared.features.item)
        self.masking: Masking | None = None
        self._neighbours: ItemNeighbours | None = None
        if neighbours is not None:
            self._neighbours = ItemNeighbours.read(neighbours, prepared.item_frequency, self._seed)
        if plan is not None:
            self._count = plan.batch_size or config.training.batch_size
            candidates = np.flatnonzero(prepared.is_current_item)
            is_by_frequency = plan.items == "frequency"
            events = prepared.item_frequency[candidates] if is_by_frequency else None
            self._sampler = ItemSampler(candidates, events, self._seed)
            self.masking = build_masking(
                config.ssl, prepared.features.item, prepared.mutual_information, self._seed
            )

    def none(self) -> Views:
        """Returns no views at all."""
        hidden = np.zeros((0, self._num_features), bool)
        return self._views(np.zeros((0, 0), np.int64), np.zeros(0, np.int64), hidden, 0)

    def items(self, step: int, positives: Ints) -> Ints:
        """Returns the global batch's items of the self-supervised task, [items].

        Args:
            step: Number of the step, from 0.
            positives: [examples] of the global batch.
        """
        if self._plan is None:
            return positives[:0]
        if self._plan.items == "training":
            return positives
        return self._sampler.items(step, self._count)

    def build(self, step: int, positives: Ints, rank: int, world_size: int) -> Views:
        """Draws one rank's part, padded to equally many items on every rank.

        Args:
            step: Number of the step, from 0.
            positives: [examples] of the global batch.
            rank: Number of the rank.
            world_size: Number of ranks.
        """
        items = self.items(step, positives)
        if self._plan is None or not len(items):
            return self.none()
        size = -(-len(items) // world_size)
        positions = np.arange(rank * size, (rank + 1) * size)
        items = np.append(items, np.full(size * world_size - len(items), -1))
        hidden = np.zeros((self._plan.count, self._num_features), bool)
        if self.masking is not None:
            hidden = self.masking.hidden(np.array([step]))[0]
        shown = np.tile(items[positions], (self._plan.count, 1))
        if self._neighbours is not None and self._plan.of_neighbours:
            shown[1::2] = self._neighbours.draw(step, shown[0], positions)
        return self._views(shown, positions, hidden, step)

    def shown_in_main(self, step: int, keys: Ints) -> Bools:
        """Draws which features each candidate of the main task shows, [features, candidates].

        Args:
            step: Number of the step, from 0.
            keys: [candidates] numbers that tell the candidates of the global batch apart.
        """
        if self._main_dropout == 0.0:
            return np.ones((self._num_features, len(keys)), bool)
        features = np.arange(self._num_features)[:, None]
        draws = hash_uniform(self._seed, _FEATURE_DROPOUT, step, features, keys)
        return draws >= self._main_dropout

    def _views(self, items: Ints, positions: Ints, hidden: Bools, step: int) -> Views:
        plan = self._plan
        rates = (plan.value_dropout, plan.id_dropout) if plan is not None else (0.0, 0.0)
        return Views(items, positions, hidden, step, self._seed, *rates)


def value_positions(column: Jagged, rows: Ints) -> tuple[Ints, Ints]:
    """Returns for each value its row's entry in `rows`, and its position within the bag."""
    row = column.row_of_value()
    return rows[row], np.arange(len(row)) - column.offsets[row]
