"""The sums of channels for one query, in a fraction of the time of a function for many queries.

Of the thousands of items that channels name, few can be among the best. So all entries are only
summed by a hash of their items, in a table that stays in the processor's cache: no item has more
than its place there. Sums are computed for what may be among the best all the same, and for what
is asked for.

This module needs NumPy alone, because servers read it, too.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Floats, Ints
from recsys.channels.sources import Sources
from recsys.fusion.fused import Fused
from recsys.fusion.heard import AllLists, Heard
from recsys.fusion.weights import Weights

Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]

# Places of a channel in the table, a power of two: a hash is an item's last bits.
_BITS = 14
_PLACES = 1 << _BITS
# Part of a channel's highest place whose items are looked at for the highest sum.
_HIGH = 0.5
# Sums in float64, of products in float32, that are off by less may be equal.
_ROUNDED = 1e-6


class OneQuery:
    """Sums of channels, as `Fused.channels` has them, one query at a time.

    Several threads may use it at a time.

    Args:
        fused: Channels.
    """

    def __init__(self, fused: Fused) -> None:
        self._fused = fused
        self._used = fused.info.weights.used()
        self._lists = AllLists(fused.lists)

    def __call__(self, sources: Sources, weights: Weights, asked: Ints) -> "Said":
        """Reads what channels say of items.

        Args:
            sources: Items of the query; there is one row.
            weights: Weights of the channels.
            asked: Items whose scores are wanted in any case.
        """
        fused = self._fused
        used = self._used if weights is fused.info.weights else weights.used()
        channels = [fused.info.channels[name] for name in used]
        names, reads = [each.lists for each in channels], [each.reads for each in channels]
        heard = Heard.of(self._lists, names, reads, sources)
        both = np.array(list(used.values())).reshape(-1, 2)
        return Said(fused, heard, both[:, 0], both[:, 1], asked)


class Said:
    """The scores that channels give to items of one query.

    Args:
        fused: Channels.
        heard: Entries of the lists of the query's items.
        weights: Weight of each channel, [channels].
        rare: Its additional weight for rare items, [channels].
        asked: Items whose scores are wanted in any case.

    Attributes:
        asked: Score of each of them, 0 of those that no channel names, [asked].
    """

    def __init__(
        self, fused: Fused, heard: Heard, weights: Doubles, rare: Doubles, asked: Ints
    ) -> None:
        self._fused, self._heard = fused, heard
        self._is_rarer = bool(rare.any())
        hashes = heard.items & np.int32(_PLACES - 1)
        for channel, end in enumerate(heard.ends[1:], 1):
            hashes[heard.ends[channel - 1] : end] |= np.int32(channel << _BITS)
        self._hashes = hashes
        size = len(weights) << _BITS
        most = np.abs(heard.scores)
        most *= heard.counts
        self._table = np.bincount(hashes, most, size).reshape(-1, _PLACES)
        sums, highest = self._highest(asked)
        no = np.zeros(len(weights))
        self._weights = np.divide(weights, highest, out=no, where=highest > 0)
        self._rare = np.divide(rare, highest, out=no.copy(), where=highest > 0)
        self.asked = self._of_channels(sums, asked)

    def above(
        self, least: float, others: Ints, least_of_others: Floats | Doubles
    ) -> tuple[Ints, Doubles]:
        """Returns the items whose scores may be as high as some bound, and maybe others.

        Args:
            least: Least score.
            others: Items that have bounds of their own.
            least_of_others: Least score of each of them; 0 and less: also where no channel names
                it.

        Returns:
            Items, ascending, and the score of each.
        """
        factor = self._weights + self._rare * self._fused.most_rare
        bound = (factor * (1 + _ROUNDED)) @ self._table
        is_wanted = bound >= least
        places = others & (_PLACES - 1)
        wanted = others[bound.take(places) >= least_of_others]
        is_wanted[wanted & (_PLACES - 1)] = True
        found = self._entries(is_wanted.take(self._hashes & np.int32(_PLACES - 1)))
        factors = self._weights.take(found.channels)
        if self._is_rarer:
            rarity = self._fused.rarity.take(found.items)
            factors += self._rare.take(found.channels) * rarity
        items = np.concatenate([found.items, wanted])
        return _summed(items, np.concatenate([found.scores * factors, np.zeros(len(wanted))]))

    def everything(self) -> tuple[Ints, Doubles]:
        """Returns at least all items that channels name, ascending, and the score of each."""
        return self.above(-np.inf, _NO, np.empty(0))

    def _highest(self, asked: Ints) -> tuple["_Sums", Doubles]:
        """Returns the sums of some items by channel, those asked for, and the highest sums."""
        lowest = _HIGH * self._table.max(axis=1)
        sums, highest = self._highest_from(lowest, asked)
        if (highest >= lowest).all():
            return sums, highest
        # Several items share the highest place. No other item is above what was found now.
        return self._highest_from(np.minimum(lowest, highest * (1 - _ROUNDED)), asked)

    def _highest_from(self, lowest: Doubles, asked: Ints) -> tuple["_Sums", Doubles]:
        """Does so for items whose places are not below the lowest, [channels]; NaN: for all."""
        items = np.int64(len(self._fused.dial))
        is_wanted = ~(self._table < lowest[:, None])
        is_wanted[:, asked & (_PLACES - 1)] = True
        found = self._entries(is_wanted.reshape(-1).take(self._hashes))
        sums = _Sums(*_summed(found.items + found.channels * items, found.scores), items)
        highest = np.zeros(len(lowest))
        np.maximum.at(highest, sums.keys // items, sums.values)
        return sums, highest

    def _entries(self, is_wanted: Bools) -> "_Entries":
        """Returns the entries, [entries], that are wanted."""
        heard, at = self._heard, is_wanted.nonzero()[0]
        scores = heard.scores.take(at).astype(np.float64)
        scores *= heard.counts.take(at)
        channels = self._hashes.take(at) >> _BITS
        return _Entries(heard.items.take(at).astype(np.int64), channels, scores)

    def _of_channels(self, sums: "_Sums", items: Ints) -> Doubles:
        """Returns the scores of items whose sums were computed."""
        shift = np.arange(len(self._weights))[:, None] * sums.items
        of_channels = sums.at(items + shift)
        if not self._is_rarer:
            return self._weights @ of_channels
        rarity = self._fused.rarity.take(items)
        return self._weights @ of_channels + (self._rare @ of_channels) * rarity


class _Entries(NamedTuple):
    """Some entries of the lists: item, channel and weighted score of each."""

    items: Ints
    channels: Ints
    scores: Doubles


class _Sums(NamedTuple):
    """Sums of items by channel.

    Attributes:
        keys: Channel and item of each, as channel * items + item, ascending.
        values: Sums.
        items: Number of all items.
    """

    keys: Ints
    values: Doubles
    items: np.int64

    def at(self, keys: Ints) -> Doubles:
        """Returns the sums of keys, 0 of those that have none."""
        if not len(self.keys):
            return np.zeros(keys.shape)
        at = self.keys.searchsorted(keys)
        sums = self.values.take(at, mode="clip")
        np.copyto(sums, 0, where=self.keys.take(at, mode="clip") != keys)
        return sums


def _summed(keys: Ints, values: Doubles) -> tuple[Ints, Doubles]:
    """Returns the distinct keys, ascending, and the sum of each."""
    order = keys.argsort()
    keys, values = keys.take(order), values.take(order)
    is_first = np.ones(len(keys), np.bool_)
    np.not_equal(keys[1:], keys[:-1], out=is_first[1:])
    first = is_first.nonzero()[0]
    return keys.take(first), np.add.reduceat(values, first) if len(first) else values


_NO = np.empty(0, np.int64)
