"""The fused ranking as it is evaluated and served: what channels say of a query's candidates.

This module needs NumPy alone, because servers read it, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import Field

from feature_store.core.columns import Floats, Ints, Jagged
from feature_store.core.documents import read_record
from feature_store.core.files import FLOATS, mapped_numbers, write_array, write_text
from feature_store.core.settings import Frozen
from recsys.channels.neighbours import Neighbours, summed
from recsys.channels.sources import Reads, Sources
from recsys.fusion.weights import Weights

_SETTINGS = "fusion.json"
# Name of the lists of neighbours by content.
CONTENT_LISTS = "content"

_OF_ITEMS = ("rarity", "dial", "trend")
# Training events at which half of an item is known.
_KNOWN_BY_HALF = 5


class ChannelInfo(Frozen):
    """A fitted channel.

    Attributes:
        lists: Name of its lists of neighbours.
        reads: Items of a query that it reads.
    """

    lists: str = Field(pattern=r"^\w{1,100}$")  # It is the name of a folder.
    reads: Reads


class FusionInfo(Frozen):
    """Content of `fusion.json`.

    Attributes:
        weights: Weights that were found on validation.
        channels: Fitted channels by name.
        neighbours: Sources that each candidate keeps.
    """

    weights: Weights
    channels: dict[str, ChannelInfo]
    neighbours: int


@dataclass(frozen=True)
class Fused:
    """Channels and weights of a ranking.

    Attributes:
        info: Settings.
        lists: Lists of neighbours by name.
        rarity: Share of what is not known of an item, see `rarity`, [items] float32.
        dial: Popularity that the dial takes off, temperature * (log Q - mean), [items] float32.
        trend: Recent popularity from 0 to 1, [items] float32; zeros where the log has no time.
    """

    info: FusionInfo
    lists: Mapping[str, Neighbours]
    rarity: Floats
    dial: Floats
    trend: Floats

    def channel(self, name: str, sources: Sources) -> tuple[Jagged, Floats]:
        """Scores items by one channel.

        Args:
            name: Name of the channel.
            sources: Items of the queries.

        Returns:
            Items with a score, [queries], and their scores over the query's highest, [total].
        """
        channel = self.info.channels[name]
        items, scores = self.lists[channel.lists].sums(*sources.of(channel.reads))
        highest = np.zeros(len(items), np.float32)
        rows = items.row_of_value()
        np.maximum.at(highest, rows, scores)
        # Where no score is above 0, the channel has nothing to say.
        scale = np.divide(1, highest, out=np.zeros_like(highest), where=highest > 0)
        return items, scores * scale[rows]

    def channels(self, sources: Sources, weights: Weights) -> tuple[Jagged, Floats]:
        """Sums what all channels say, by their weights; the result is as that of `channel`."""
        count, keys, parts = len(self.dial), [], []
        for name, of_channel in weights.used().items():
            items, scores = self.channel(name, sources)
            keys.append(items.row_of_value() * np.int64(count) + items.values)
            parts.append(self.factors(items.values, *of_channel) * scores)
        if not keys:
            return Jagged(np.empty(0, np.int64), np.zeros(len(sources) + 1, np.int64)), _NOTHING
        distinct, sums = summed(np.concatenate(keys), np.concatenate(parts), len(sources) * count)
        row, item = np.divmod(distinct, count)
        return Jagged.from_lengths(item, np.bincount(row, minlength=len(sources))), sums

    def factors(self, items: Ints, weight: float, rare: float) -> Floats | np.float32:
        """Returns what a channel's scores of some items are multiplied by, [items] or the same.

        Args:
            items: Items.
            weight: Weight of the channel.
            rare: Its additional weight for rare items.
        """
        if not rare:
            return np.float32(weight)
        return np.float32(weight) + np.float32(rare) * self.rarity.take(items)

    @cached_property
    def most_rare(self) -> float:
        """Highest rarity of all items."""
        return float(self.rarity.max(initial=0.0))

    def of_items(self, weights: Weights) -> Floats:
        """Returns the part of the score that depends on the item alone, [items] float32."""
        return np.float32(weights.trend) * self.trend - np.float32(weights.dial) * self.dial

    def needed(self) -> "Fused":
        """Returns the same ranking without the channels whose weight is 0."""
        weights = self.info.weights.used()
        used = {name: c for name, c in self.info.channels.items() if name in weights}
        info = self.info.model_copy(update={"channels": used})
        lists = {channel.lists: self.lists[channel.lists] for channel in used.values()}
        return replace(self, info=info, lists=lists)

    def with_new_items(self, count: int, near: Mapping[str, tuple[Jagged, Floats]]) -> "Fused":
        """Returns the ranking with new items, which come last: unknown, and of no popularity.

        Args:
            count: Number of new items.
            near: Earlier items near each new one, with their scores, by name of the lists; see
                `Neighbours.with_new_items`. In other lists new items have no neighbours.
        """
        nothing = Jagged(np.empty(0, np.int64), np.zeros(count + 1, np.int64)), _NOTHING
        lists = {
            name: lists.with_new_items(*near.get(name, nothing))
            for name, lists in self.lists.items()
        }
        least = self.dial.min(initial=0.0)
        return replace(
            self,
            lists=lists,
            rarity=np.append(self.rarity, np.ones(count, np.float32)),
            dial=np.append(self.dial, np.full(count, least, np.float32)),
            trend=np.append(self.trend, np.zeros(count, np.float32)),
        )

    def save(self, directory: Path) -> None:
        """Writes a directory that `read` maps into memory."""
        for name, lists in self.lists.items():
            lists.save(directory / "lists" / name)
        for name in _OF_ITEMS:
            write_array(directory / f"{name}.npy", getattr(self, name))
        write_text(directory / _SETTINGS, self.info.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, directory: Path) -> "Fused":
        """Maps what `save` wrote into memory.

        Raises:
            ValueError: A file holds something else.
        """
        info = read_record(directory / _SETTINGS, FusionInfo)
        names = sorted({channel.lists for channel in info.channels.values()})
        lists = {name: Neighbours.read(directory / "lists" / name) for name in names}
        of_items = (mapped_numbers(directory / f"{name}.npy", FLOATS) for name in _OF_ITEMS)
        return cls(info, lists, *of_items)


def rarity(frequency: Ints) -> Floats:
    """Returns what is not known of each item, from 1 without training events to 0, [items].

    It is 1 / (1 + (training events / 5)^2): a half at the border of the tail, little beyond.
    """
    return (1 / (1 + (frequency / _KNOWN_BY_HALF) ** 2)).astype(np.float32)


_NOTHING = np.empty(0, np.float32)
