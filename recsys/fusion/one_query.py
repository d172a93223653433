"""The sums of channels for one query, in a fraction of the time of a function for many queries.

This module needs NumPy alone, because servers read it, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Ints, Jagged
from recsys.channels.neighbours import Neighbours
from recsys.channels.sources import Reads, Sources
from recsys.fusion.fused import Fused
from recsys.fusion.weights import Weights

Doubles = npt.NDArray[np.float64]


class OneQuery:
    """Sums of channels, as `Fused.channels` has them, one query at a time.

    Sums are taken in arrays with a place for every item, which stay zero between the queries:
    nothing is sorted. Each thread has its own.

    Args:
        fused: Channels.
    """

    def __init__(self, fused: Fused) -> None:
        self._fused = fused
        self._of_thread = local()

    @contextmanager
    def __call__(self, sources: Sources, weights: Weights) -> Iterator["Said"]:
        """Sums what channels say of items, for as long as the context lasts.

        Args:
            sources: Items of the query; there is one row.
            weights: Weights of the channels.
        """
        fused = self._fused
        read: dict[Reads, _Read] = {}
        said = Said(fused)
        try:
            for name, of_channel in weights.used().items():
                channel = fused.info.channels[name]
                if channel.reads not in read:
                    read[channel.reads] = _Read(sources, channel.reads)
                items, scores = read[channel.reads].neighbours(fused.lists[channel.lists])
                if len(items):
                    said.add(self._place(len(said)), items, scores, of_channel)
            yield said
        finally:
            said.clear()

    def _place(self, number: int) -> Doubles:
        """Returns one of this thread's arrays of zeros, [items] float64."""
        places: list[Doubles] | None = getattr(self._of_thread, "places", None)
        if places is None:
            places = self._of_thread.places = []
        if number == len(places):
            places.append(np.zeros(len(self._fused.dial)))
        return places[number]


class Said:
    """The scores that channels give to items of one query.

    Args:
        fused: Channels.
    """

    def __init__(self, fused: Fused) -> None:
        self._fused = fused
        self._parts: list[_Part] = []

    def __len__(self) -> int:
        return len(self._parts)

    def add(
        self, place: Doubles, items: Ints, scores: Doubles, of_channel: tuple[float, float]
    ) -> None:
        """Adds what a channel says.

        Args:
            place: Zeros, [items], where sums are taken until `clear`.
            items: Neighbours of the query's items, with repetitions.
            scores: Score of each of them.
            of_channel: Weight of the channel, and its additional weight for rare items.
        """
        np.add.at(place, items, scores)
        sums = place.take(items)
        self._parts.append(_Part(place, items, sums, float(sums.max()), *of_channel))

    def at(self, items: Ints) -> Doubles:
        """Returns the scores of items, 0 of those that no channel names."""
        scores = np.zeros(len(items))
        rarity = self._fused.rarity.take(items) if any(p.rare for p in self._parts) else None
        for part in self._parts:
            if part.highest > 0:  # Else the channel has nothing to say.
                sums = part.place.take(items)
                factor = part.weight if rarity is None else part.weight + part.rare * rarity
                scores += factor / part.highest * sums
        return scores

    @property
    def most(self) -> float:
        """Highest score that an item could have; 1 where channels say nothing."""
        rare = self._fused.most_rare
        return sum(part.weight + part.rare * rare for part in self._parts) or 1.0

    def named(self, share: float = -np.inf) -> Ints:
        """Returns the items to which a channel gives some share of its highest score, ascending.

        An item's score is the sum of what channels say, each of which is at most its weight. So
        where the score is a share of `most`, one of them gives that share of its highest score.

        Args:
            share: Least share; 0 or less: all items that are named.
        """
        if share <= 0:
            return distinct([part.items for part in self._parts])
        return distinct([p.items[p.sums >= share * p.highest] for p in self._parts])

    def clear(self) -> None:
        """Makes all sums zero again."""
        for part in self._parts:
            part.place[part.items] = 0.0


class _Part(NamedTuple):
    """Scores of one channel; arrays are [neighbours], but `place`, which is [items].

    Attributes:
        place: Sums by item.
        items: Items that are named, with repetitions.
        sums: Sum of each of them.
        highest: Highest sum.
        weight: Weight of the channel.
        rare: Its additional weight for rare items.
    """

    place: Doubles
    items: Ints
    sums: Doubles
    highest: float
    weight: float
    rare: float


def distinct(parts: list[Ints]) -> Ints:
    """Sorts items and drops repetitions; `np.unique` takes ten times as long for so few."""
    if not parts:
        return np.empty(0, np.int64)
    items = np.sort(np.concatenate(parts))
    is_first = np.ones(len(items), np.bool_)
    np.not_equal(items[1:], items[:-1], out=is_first[1:])
    return items[is_first]


class _Read:
    """Items of a query that some channels read.

    Args:
        sources: Items of the query.
        reads: Items that the channels read.
    """

    def __init__(self, sources: Sources, reads: Reads) -> None:
        items, counts = sources.of(reads)
        self._sources = items.values
        self._next = items.values + 1
        self._counts = counts.astype(np.float64)

    def neighbours(self, neighbours: Neighbours) -> tuple[Ints, Doubles]:
        """Returns the neighbours of all items, with repetitions, and their scores."""
        lists: Jagged = neighbours.lists
        starts = lists.offsets.take(self._sources)
        lengths = lists.offsets.take(self._next) - starts
        ends = lengths.cumsum()
        at = np.repeat(starts - ends + lengths, lengths)
        at += np.arange(len(at))
        scores = np.repeat(self._counts, lengths)
        scores *= neighbours.scores.take(at)
        # Indices of another type would be converted at each use.
        return lists.values.take(at).astype(np.intp), scores
