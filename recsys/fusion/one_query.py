"""The sums of channels for one query, in a fraction of the time of a function for many queries.

This module needs NumPy alone, because servers read it, too.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import local
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Ints
from recsys.channels.neighbours import Neighbours
from recsys.channels.sources import Reads, Sources
from recsys.fusion.fused import Fused
from recsys.fusion.weights import Weights

Doubles = npt.NDArray[np.float64]


class OneQuery:
    """Sums of channels, as `Fused.channels` has them, one query at a time.

    Sums are taken in an array with a place for every item in every channel, which stays zero
    between the queries: nothing is sorted. Each thread has its own. What all channels say is read
    and summed together: of a few thousand neighbours, calling NumPy takes as long as the sums.

    Args:
        fused: Channels.
    """

    def __init__(self, fused: Fused) -> None:
        self._fused = fused
        self._used = fused.info.weights.used()
        self._of_thread = local()

    @contextmanager
    def __call__(self, sources: Sources, weights: Weights) -> Iterator["Said"]:
        """Sums what channels say of items, for as long as the context lasts.

        Args:
            sources: Items of the query; there is one row.
            weights: Weights of the channels.
        """
        fused = self._fused
        used = self._used if weights is fused.info.weights else weights.used()
        channels = [fused.info.channels[name] for name in used]
        lists = [fused.lists[channel.lists] for channel in channels]
        heard = _Heard.of(lists, [channel.reads for channel in channels], sources)
        places = self._places(len(used))
        try:
            yield Said(fused, places, heard, list(used.values()))
        finally:  # Also where it fails: the next query of this thread needs zeros.
            places.reshape(-1)[heard.places] = 0.0

    def _places(self, channels: int) -> Doubles:
        """Returns this thread's zeros, [channels or more, items] float64."""
        places: Doubles | None = getattr(self._of_thread, "places", None)
        if places is None or len(places) < channels:
            places = self._of_thread.places = np.zeros((channels, len(self._fused.dial)))
        return places


@dataclass(frozen=True, slots=True)
class _Heard:
    """Neighbours of a query's items, channel by channel.

    Attributes:
        places: Place of each neighbour in [channels, items], with repetitions, [neighbours].
        scores: Score of each neighbour, [neighbours].
        ends: End of each channel's neighbours, [channels].
    """

    places: Ints
    scores: Doubles
    ends: list[int]

    @classmethod
    def of(cls, lists: Sequence[Neighbours], reads: Sequence[Reads], sources: Sources) -> Self:
        """Reads the neighbours.

        Args:
            lists: Lists of each channel.
            reads: Items of the query that each channel reads.
            sources: Items of the query.
        """
        read = {name: sources.of(name) for name in set(reads)}
        starts: list[Ints] = [_NO]
        lengths: list[Ints] = [_NO]
        counts = [_NO_COUNTS]
        for each, name in zip(lists, reads, strict=True):
            items, count = read[name]
            first = each.lists.offsets.take(items.values)
            starts.append(first)
            lengths.append(each.lists.offsets.take(items.values + 1) - first)
            counts.append(count)
        length = np.concatenate(lengths)
        stops = length.cumsum()
        total = int(stops[-1]) if len(stops) else 0
        at = (np.concatenate(starts) - stops + length).repeat(length)
        at += np.arange(total)
        scores = np.concatenate(counts, dtype=np.float64).repeat(length)
        places, ends, begin = np.empty(total, np.intp), [], 0
        for number, (each, of_channel) in enumerate(zip(lists, lengths[1:], strict=True)):
            end = begin + int(of_channel.sum())
            span = at[begin:end]
            shift = np.int64(number * len(each))
            np.add(each.lists.values.take(span), shift, out=places[begin:end])
            scores[begin:end] *= each.scores.take(span)
            ends.append(end)
            begin = end
        return cls(places, scores, ends)


class Said:
    """The scores that channels give to items of one query.

    Args:
        fused: Channels.
        places: Zeros, [channels, items], where sums are taken.
        heard: Neighbours of the query's items.
        weights: Weight of each channel, and its additional weight for rare items.
    """

    def __init__(
        self,
        fused: Fused,
        places: Doubles,
        heard: _Heard,
        weights: Sequence[tuple[float, float]],
    ) -> None:
        self._fused = fused
        flat = places.reshape(-1)
        np.add.at(flat, heard.places, heard.scores)
        sums = flat.take(heard.places)
        self._parts: list[_Part] = []
        begin = 0
        for number, (end, of_channel) in enumerate(zip(heard.ends, weights, strict=True)):
            highest = float(sums[begin:end].max(initial=0.0))
            if highest > 0:  # Else the channel has nothing to say.
                first = number * places.shape[1]
                said = heard.places[begin:end], sums[begin:end], highest
                self._parts.append(_Part(places[number], first, *said, *of_channel))
            begin = end
        self._is_rarer = any(part.rare for part in self._parts)

    def at(self, items: Ints) -> Doubles:
        """Returns the scores of items, 0 of those that no channel names."""
        scores = np.zeros(len(items))
        rarity = self._fused.rarity.take(items) if self._is_rarer else None
        for part in self._parts:
            sums = part.place.take(items)
            factor = part.weight if rarity is None else part.weight + part.rare * rarity
            sums *= factor / part.highest
            scores += sums
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
            return distinct([part.heard - part.first for part in self._parts])
        found = []
        for part in self._parts:
            high = (part.sums >= share * part.highest).nonzero()[0]
            found.append(part.heard.take(high) - part.first)
        return distinct(found)


class _Part(NamedTuple):
    """Scores of one channel that says something.

    Attributes:
        place: Sums by item, [items].
        first: Place of the first item in [channels, items].
        heard: Places of the items that are named, with repetitions, [neighbours].
        sums: Sum of each of them, [neighbours].
        highest: Highest sum.
        weight: Weight of the channel.
        rare: Its additional weight for rare items.
    """

    place: Doubles
    first: int
    heard: Ints
    sums: Doubles
    highest: float
    weight: float
    rare: float


def distinct(parts: list[Ints]) -> Ints:
    """Sorts items and drops repetitions; `np.unique` takes ten times as long for so few."""
    if not parts:
        return _NO
    items = np.concatenate(parts)
    items.sort()
    is_first = np.ones(len(items), np.bool_)
    np.not_equal(items[1:], items[:-1], out=is_first[1:])
    return items[is_first]


_NO, _NO_COUNTS = np.empty(0, np.int64), np.empty(0, np.float32)
