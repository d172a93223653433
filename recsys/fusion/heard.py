"""The lists of all channels that one query reads, a block at a time.

Most of the time of a read goes into waiting for memory, and into calls of NumPy, each of which
takes as long as a thousand sums. So whole lines of memory are copied, and entries of other lists on
the first and last line of a list count nothing.

This module needs NumPy alone, because servers read it, too.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np

from feature_store.core.columns import Floats, Ints
from recsys.channels.neighbours import Neighbours
from recsys.channels.sources import Reads, Sources

# Entries of a block: 64 bytes of items, and as many of scores.
_BITS = 4
_SIZE = 1 << _BITS
_NO, _NO_COUNTS = np.empty(0, np.int64), np.empty(0, np.float32)


class ListBlocks:
    """The lists of neighbours, cut into blocks whatever list an entry is of.

    Args:
        neighbours: Lists; as files have them they are not copied, but for the end of the last one.
    """

    def __init__(self, neighbours: Neighbours) -> None:
        self.whole = len(neighbours.scores) >> _BITS
        items = neighbours.lists.values.astype(np.int32, copy=False)
        entries = items, neighbours.scores.astype(np.float32, copy=False)
        self._blocks = [each[: self.whole * _SIZE].reshape(-1, _SIZE) for each in entries]
        self._last = [np.zeros(_SIZE, each.dtype) for each in entries]
        for last, each in zip(self._last, entries, strict=True):
            rest = each[self.whole * _SIZE :]
            last[: len(rest)] = rest

    def copy(self, blocks: Ints, items: Ints, scores: Floats) -> None:
        """Copies blocks.

        Args:
            blocks: Numbers of the blocks, [blocks].
            items: Place of their items, [blocks, 16] int32.
            scores: Place of their scores, [blocks, 16] float32.
        """
        has_last = len(blocks) and int(blocks.max()) == self.whole
        for of_all, last, out in zip(self._blocks, self._last, (items, scores), strict=True):
            if self.whole:
                of_all.take(blocks, axis=0, out=out, mode="clip")
            if has_last:
                out[blocks == self.whole] = last


class AllLists:
    """The lists of all channels.

    Args:
        lists: Lists by name; all have as many items.
    """

    def __init__(self, lists: Mapping[str, Neighbours]) -> None:
        self.blocks = {name: ListBlocks(each) for name, each in lists.items()}
        self.columns = {name: column for column, name in enumerate(lists)}
        # An item's lists begin side by side, [items + 1, lists]: one place in memory to wait for.
        offsets = [each.lists.offsets for each in lists.values()]
        self.offsets = np.stack(offsets, axis=1) if offsets else np.zeros((1, 0), np.int64)


class Heard(NamedTuple):
    """Entries of the lists of a query's items, channel by channel.

    Attributes:
        items: Item of each entry, with repetitions, [entries] int32.
        scores: Score of each entry, [entries] float32.
        counts: Weight of the item whose list has the entry, [entries] float32; 0: no list has it.
        ends: End of each channel's entries, [channels].
    """

    items: Ints
    scores: Floats
    counts: Floats
    ends: list[int]

    @classmethod
    def of(
        cls, lists: AllLists, names: Sequence[str], reads: Sequence[Reads], sources: Sources
    ) -> Self:
        """Reads the lists.

        Args:
            lists: All lists.
            names: Name of each channel's lists.
            reads: Items of the query that each channel reads.
            sources: Items of the query; there is one row.
        """
        read: dict[Reads, tuple[Floats, Ints, Ints]] = {}
        for each in set(reads):
            items, count = sources.of(each)
            begun = lists.offsets.take(items.values, axis=0)
            read[each] = count, begun, lists.offsets.take(items.values + 1, axis=0)
        starts: list[Ints] = [_NO]
        stops: list[Ints] = [_NO]
        counts = [_NO_COUNTS]
        for name, each in zip(names, reads, strict=True):
            count, begun, ended = read[each]
            column = lists.columns[name]
            starts.append(begun[:, column])
            stops.append(ended[:, column])
            counts.append(count)
        start, stop = np.concatenate(starts), np.concatenate(stops)
        first = start >> _BITS
        length = ((stop + (_SIZE - 1)) >> _BITS) - first
        ends = length.cumsum()
        block = (first - ends + length).repeat(length)
        block += np.arange(len(block))
        # Entries before a list, in it, and after it.
        spans = np.empty((len(start), 3), np.int64)
        np.bitwise_and(start, _SIZE - 1, out=spans[:, 0])
        np.subtract(stop, start, out=spans[:, 1])
        np.bitwise_and(-stop, _SIZE - 1, out=spans[:, 2])
        counted = np.zeros((len(start), 3), np.float32)
        counted[:, 1] = np.concatenate(counts)
        heard = np.empty((len(block), _SIZE), np.int32)
        scores = np.empty((len(block), _SIZE), np.float32)
        begin, number, ends_of = 0, 0, []
        for name, count in zip(names, counts[1:], strict=True):
            number += len(count)
            end = int(ends[number - 1]) if number else 0
            lists.blocks[name].copy(block[begin:end], heard[begin:end], scores[begin:end])
            ends_of.append(end * _SIZE)
            begin = end
        of_entry = counted.reshape(-1).repeat(spans.reshape(-1))
        return cls(heard.reshape(-1), scores.reshape(-1), of_entry, ends_of)
