"""The sums of channels for one query, in a fraction of the time of a function for many queries.

This module needs NumPy alone, because servers read it, too.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import local

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

    Sums are taken in an array with a place for every item, which stays zero between the queries:
    nothing is sorted. Each thread has its own.

    Args:
        fused: Channels.
    """

    def __init__(self, fused: Fused) -> None:
        self._fused = fused
        self._of_thread = local()

    @contextmanager
    def __call__(self, sources: Sources, weights: Weights) -> Iterator["Said"]:
        """Sums what all channels say, by their weights, for as long as the context lasts.

        Args:
            sources: Items of the query; there is one row.
            weights: Weights of the channels.
        """
        fused = self._fused
        sums, total = self._places()
        read: dict[Reads, _Read] = {}
        said = Said(total)
        try:
            for name, of_channel in weights.used().items():
                channel = fused.info.channels[name]
                if channel.reads not in read:
                    read[channel.reads] = _Read(sources, channel.reads)
                items, scores = read[channel.reads].neighbours(fused.lists[channel.lists])
                if not len(items):
                    continue
                np.add.at(sums, items, scores)
                highest = sums.take(items).max()
                sums[items] = 0.0
                said.items.append(items)
                if highest > 0:
                    scores *= fused.factors(items, *of_channel) / highest
                    np.add.at(total, items, scores)
            yield said
        finally:
            said.clear()

    def _places(self) -> tuple[Doubles, Doubles]:
        """Returns this thread's arrays of zeros, [items] float64."""
        places = getattr(self._of_thread, "places", None)
        if places is None:
            size = len(self._fused.dial)
            places = self._of_thread.places = np.zeros(size), np.zeros(size)
        return places


class Said:
    """The scores that channels give to items of one query.

    Args:
        total: Sums of the channels, [items]; they are only there while the context lasts.

    Attributes:
        items: Items with a sum, in parts, which may repeat them.
    """

    def __init__(self, total: Doubles) -> None:
        self.items: list[Ints] = []
        self._dropped: list[Ints] = []
        self._total = total

    def at(self, items: Ints) -> Doubles:
        """Returns the scores of items, 0 of those that no channel names."""
        return self._total.take(items)

    def drop(self, items: Ints) -> None:
        """Gives items a score of minus infinity from now on: they are no candidates any more."""
        self._dropped.append(items)
        self._total[items] = -np.inf

    def clear(self) -> None:
        """Makes all sums zero again."""
        for items in (*self.items, *self._dropped):
            self._total[items] = 0.0


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
