"""The items of a bundle."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Ints
from serving.bundle.ids import IdTable
from serving.recommend.filters.value_lists import ValueLists


@dataclass(frozen=True)
class Catalogue:
    """Items, [items].

    Attributes:
        ids: Ids of all items that ever were.
        indexed: Items of the index, ascending; others are gone.
        titles: Strings, if there are any.
        frequency: Training events.
        filters: Items of each value, by feature.
    """

    ids: IdTable
    indexed: Ints
    titles: pa.Array | None
    frequency: Ints
    filters: dict[str, ValueLists]

    @cached_property
    def positions(self) -> Ints:
        """Positions of the items in the index, [items]; -1 of those that are gone."""
        positions = np.full(len(self.ids), -1)
        positions[self.indexed] = np.arange(len(self.indexed))
        return positions

    def named(self, items: Ints) -> tuple[list[str], list[str | None]]:
        """Returns ids and titles of items; a title is None where an item has none."""
        ids: list[str] = self.ids.ids.take(pa.array(items, pa.int64())).to_pylist()
        if self.titles is None:
            return ids, [None] * len(ids)
        return ids, [self.title(item) for item in items.tolist()]

    def title(self, item: int) -> str | None:
        """Returns the title of an item; None where it has none."""
        titles = self.titles
        return None if titles is None or item >= len(titles) else titles[item].as_py()
