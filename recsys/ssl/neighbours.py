"""Neighbours that views show in the place of an item, after transitive invariance.

Wang, He and Gupta (ICCV 2017) train on pairs that are near by one relation, and on those that a
second relation leads to. Here the first is co-occurrence, and the second is likeness of content: an
item that few queries have takes a neighbour of an item whose content is like its own.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from feature_store.core.columns import Bools, Floats, Ints, Jagged
from feature_store.core.hashing import hash_uniform
from recsys.channels.neighbours import Doubles, Neighbours

# Streams of random choices, beside those of the views.
_NEAR, _ALIKE, _NEAR_ALIKE, _RELATION = 18, 19, 20, 21
# Training events at which co-occurrence speaks half of the time.
_KNOWN_BY_HALF = 5
# Neighbours of an item; they are drawn by their scores.
_COUNT = 10
# Least cosine of content: what shares but a frequent value is not alike.
_LEAST_COSINE = 0.1
# Entries of lists that are sorted at a time, which bounds the memory.
_AT_ONCE = 8_000_000

_CO_OCCURRENCE, _CONTENT = "co_occurrence", "content"


@dataclass(frozen=True)
class ItemNeighbours:
    """Nearest items of each item by both relations.

    Attributes:
        near: Items by co-occurrence, and their scores, [items].
        alike: Items by content, and their scores, [items].
        frequency: Training events, [items].
        seed: Seed of all draws.
    """

    near: Neighbours
    alike: Neighbours
    frequency: Ints
    seed: int

    @classmethod
    def read(cls, directory: Path, frequency: Ints, seed: int) -> "ItemNeighbours":
        """Maps what `write_neighbours` wrote into memory."""
        near, alike = (Neighbours.read(directory / name) for name in (_CO_OCCURRENCE, _CONTENT))
        return cls(near, alike, frequency, seed)

    def draw(self, step: int, items: Ints, positions: Ints) -> Ints:
        """Draws a neighbour of each item, [S]; the item itself where it has none, -1 for padding.

        Args:
            step: Number of the step, from 0.
            items: [S]; -1 is padding.
            positions: [S] in the global batch.
        """
        is_item = items >= 0
        item = items[is_item]

        def uniform(stream: int) -> Doubles:
            return hash_uniform(self.seed, stream, step, positions[is_item])

        near = _drawn(self.near, item, uniform(_NEAR))
        alike = _drawn(self.alike, item, uniform(_ALIKE))
        beyond = _drawn(self.near, alike, uniform(_NEAR_ALIKE))
        events = self.frequency[item]
        is_known = uniform(_RELATION) < events / (events + _KNOWN_BY_HALF)
        # Where the item that is alike has no neighbours, `beyond` is that item itself.
        found = np.where(is_known & (near != item), near, np.where(alike != item, beyond, near))
        drawn = items.copy()
        drawn[is_item] = found
        return drawn


def write_neighbours(
    directory: Path, near: Neighbours | None, alike: Neighbours | None, is_current: Bools
) -> None:
    """Writes the nearest items of each item, from the lists of channels.

    Args:
        directory: Directory to write.
        near: Lists by co-occurrence; None: the log has none.
        alike: Lists by content; None: items have no features.
        is_current: Whether an item takes part, [items].
    """
    for name, lists, least in ((_CO_OCCURRENCE, near, 0.0), (_CONTENT, alike, _LEAST_COSINE)):
        nearest(lists, is_current, _COUNT, least).save(directory / name)


def nearest(
    lists: Neighbours | None, is_current: Bools, count: int, least: float = 0.0
) -> Neighbours:
    """Returns each item's sources of highest score, in the order of the scores.

    Args:
        lists: Items that each source speaks for; None: there are none.
        is_current: Whether an item takes part, [items].
        count: Most sources of an item.
        least: Score below which a source does not count.
    """
    items = len(is_current)
    if lists is None:
        nothing = np.zeros(items + 1, np.int64)
        return Neighbours(Jagged(np.empty(0, np.int32), nothing), np.empty(0, np.float32))
    candidate = lists.lists.values
    ends = np.cumsum(np.bincount(candidate, minlength=items))
    found: list[tuple[Ints, Ints, Floats]] = []
    start = 0
    while start < items:  # At least one item, and no more than fit in memory.
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _AT_ONCE, side="right")))
        at = np.flatnonzero((candidate >= start) & (candidate < stop) & (lists.scores > least))
        source = np.searchsorted(lists.lists.offsets, at, side="right") - 1
        kept = is_current[candidate[at]] & is_current[source]
        at, source = at[kept], source[kept]
        order = np.lexsort((source, -lists.scores[at], candidate[at]))
        item = candidate[at[order]]
        place = np.arange(len(item)) - np.searchsorted(item, item, side="left")
        best = order[place < count]
        found.append((candidate[at[best]], source[best], lists.scores[at[best]]))
        start = stop
    item, source, score = (np.concatenate(parts) for parts in zip(*found, strict=True))
    lengths = np.bincount(item, minlength=items)
    return Neighbours(Jagged.from_lengths(source.astype(np.int32), lengths), score)


def _drawn(near: Neighbours, items: Ints, uniform: Doubles) -> Ints:
    """Draws a neighbour of each item by its score, [S]; the item itself where it has none."""
    at, lengths = near.lists.positions(items)
    ends = np.concatenate([[0.0], np.cumsum(near.scores[at], dtype=np.float64)])
    last = np.cumsum(lengths)
    low, high = ends[last - lengths], ends[last]
    chosen = np.searchsorted(ends, low + uniform * (high - low), side="right") - 1
    has = lengths > 0
    found = items.astype(np.int64)
    found[has] = near.lists.values[at[np.minimum(chosen, last - 1)[has]]]
    return found
