"""The best items of queries by the fused ranking: the model, channels, and the items themselves."""

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Floats, Ints, Jagged
from recsys.fusion.fused import Fused
from recsys.fusion.one_query import OneQuery, Said
from recsys.fusion.weights import Weights
from serving.index.index import ItemIndex
from serving.recommend.fused.asked import Asked, AskedOne
from serving.recommend.fused.explain import Parts, parts_of
from serving.recommend.fused.shared import SharedContent

Doubles = npt.NDArray[np.float64]

# Weight of the dial where a request asks for the most of the tail.
_STRONGEST_DIAL = 1.2
# Items that are candidates because of what depends on the item alone.
_BEST_OF_ITEMS = 300
# Items whose vectors are read because of all but the model's part.
_MOST_NAMED = 300
# Nearest items by the model that are candidates where a request asks for more of the tail.
_FOR_TAIL = 1000
# Sums in float32 that differ by less may be equal.
_TIED = 1e-5
# Scores that are in memory at a time where all items are scored.
_SCORES_AT_ONCE = 2**24


class FusedSearch:
    """Finds the best items by the sum of the model, the channels and what the item itself adds.

    An exact index has few items, and all are scored. Otherwise candidates are the nearest items by
    the model, and the best by channels and by what depends on the item alone. Of items that the
    index did not find, no inner product is above that of the last one that it found: those that
    could not reach the answer even with that are left out before any vector is read.

    Args:
        fused: Channels and weights, of all items.
        index: Index of the catalogue's indexed items.
        indexed: Item at each position of the index.
        positions: Position of each item in the index; -1 of those that are gone.
        candidates: Nearest items by the model that are candidates, beyond the wanted ones.
    """

    def __init__(
        self, fused: Fused, index: ItemIndex, indexed: Ints, positions: Ints, candidates: int
    ) -> None:
        self.fused = fused
        self._index = index
        self._indexed = indexed
        self._positions = positions
        self._is_whole = len(indexed) == len(positions)
        self._candidates = candidates
        self._channels = OneQuery(fused)
        self._as_validated = fused.of_items(fused.info.weights)
        ends = [self.weights(tail) for tail in (0.0, 1.0)]
        of_items = [fused.of_items(end)[indexed] for end in ends]
        first = [_highest(end, _BEST_OF_ITEMS) for end in of_items]
        # The most that depends on an item alone, of others than the first ones.
        self._dials = [end.dial for end in ends]
        self._most_of_others = [
            float(each[at].min(initial=np.inf)) for each, at in zip(of_items, first, strict=True)
        ]
        self._first_as_validated = indexed[np.sort(first[0])]
        self._of_first_as_validated = self._as_validated[self._first_as_validated]
        self._first = indexed[np.unique(np.concatenate(first))]

    @property
    def reads_own_item(self) -> bool:
        """Whether a channel reads the item that a query is itself."""
        info = self.fused.info
        return any(info.channels[name].reads == "own" for name in info.weights.used())

    def weights(self, tail: float = 0.0) -> Weights:
        """Returns the weights with more of the popularity taken off.

        Args:
            tail: 0: as validated; 1: the strongest dial; linear between.
        """
        weights = self.fused.info.weights
        if not tail:
            return weights
        strongest = max(_STRONGEST_DIAL, weights.dial)
        dial = weights.dial + tail * (strongest - weights.dial)
        return weights.model_copy(update={"dial": dial})

    def search(self, asked: Asked, k: int, weights: Weights) -> tuple[Jagged, Floats]:
        """Finds the best items that are not excluded, best first; of equal scores the lower index.

        Args:
            asked: Queries.
            k: Number of items.
            weights: Weights of the parts.

        Returns:
            Positions of each query's items, [queries], and the score of each, [total] float32.
        """
        if self._index.kind.is_exact:
            answers = self._among_all(asked, k, weights)
        else:
            answers = [self._among_candidates(one, k, weights) for one in asked.each()]
        if len(answers) == 1:
            [(positions, scores)] = answers
            return Jagged(positions, np.array([0, len(positions)])), scores
        lengths = np.array([len(positions) for positions, _ in answers], np.int64)
        found = [*answers, (np.empty(0, np.int64), np.empty(0, np.float32))]
        positions, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Jagged.from_lengths(positions, lengths), scores

    def explain(
        self, one: AskedOne, positions: Ints, weights: Weights, content: SharedContent | None
    ) -> list[Parts]:
        """Returns the parts of the scores at some positions."""
        products, items = self._products(one, positions), self._indexed[positions]
        return parts_of(self.fused, one.sources, items, products, weights, content)

    def _among_all(self, asked: Asked, k: int, weights: Weights) -> list[tuple[Ints, Floats]]:
        """Scores all items in float32, and the best again in float64."""
        of_items = self._of_items(self._indexed, weights)
        at_once = max(1, _SCORES_AT_ONCE // len(of_items))
        added = np.empty(len(of_items))
        answers = []
        for number, one in enumerate(asked.each()):
            if number % at_once == 0:
                block = asked.vectors[number : number + at_once]
                products = self._index.products(block) * np.float32(weights.model)
            scores = products[number % at_once]
            scores += of_items
            items, of_channels = self._channels(one.sources, weights, _NO).everything()
            added[:] = 0.0
            at = self._positions[items]
            added[at[at >= 0]] = of_channels[at >= 0]
            scores += added
            scores[one.excluded.values] = -np.inf
            if one.allowed is not None:
                scores[~one.allowed] = -np.inf
            last = np.partition(scores, -k)[-k] if k < len(scores) else -np.inf
            near = np.flatnonzero((scores >= last - _TIED) & (scores > -np.inf))
            found = weights.model * self._products(one, near) + added[near] + of_items[near]
            answers.append(_ordered(near, found.astype(np.float32), k))
        return answers

    def _among_candidates(self, one: AskedOne, k: int, weights: Weights) -> tuple[Ints, Floats]:
        is_validated = weights.dial <= self.fused.info.weights.dial
        wanted = k + (self._candidates if is_validated else _FOR_TAIL)
        vector = one.vector[None]
        nearest, products = self._index.search(vector, wanted, one.excluded, one.allowed)
        near = nearest.values
        items = self._indexed.take(near)
        said = self._channels(one.sources, weights, items)
        total = weights.model * products.astype(np.float64) + said.asked
        if weights.trend or weights.dial:
            total += self._of_items(items, weights)
        scores = total.astype(np.float32)
        if len(near) < wanted:  # No more items are left.
            return _ordered(near, scores, k)
        # No other item has a higher inner product than the last one that the index found.
        unseen = weights.model * float(products[-1]) + _TIED
        least = float(np.partition(scores, -k)[-k]) - unseen
        most = _MOST_NAMED if is_validated else len(self._indexed)
        others, added = self._others(one, near, least, most, said, weights)
        if len(others):
            total = weights.model * self._products(one, others) + added
            near = np.concatenate([near, others])
            scores = np.concatenate([scores, total.astype(np.float32)])
        return _ordered(near, scores, k)

    def _others(
        self, one: AskedOne, near: Ints, least: float, most: int, said: Said, weights: Weights
    ) -> tuple[Ints, Doubles]:
        """Returns positions of items that score high without the model's part, and these scores.

        Args:
            one: The query.
            near: Positions that are found already.
            least: Least score without the model's part.
            most: Number of positions, of which those with the highest scores are taken.
            said: Scores of the channels.
            weights: Weights of the parts.
        """
        items, added = self._high(least, said, weights)
        left = (added >= least).nonzero()[0]
        positions, added = self._positions.take(items.take(left)), added.take(left)
        found = np.concatenate([near, one.excluded.values])
        found.sort()
        is_open = found.take(found.searchsorted(positions), mode="clip") != positions
        if not self._is_whole:
            is_open &= positions >= 0
        if one.allowed is not None:
            is_open &= one.allowed[positions]
        positions, added = positions[is_open], added[is_open]
        highest = _highest(added, most)
        return positions[highest], added[highest]

    def _high(self, least: float, said: Said, weights: Weights) -> tuple[Ints, Doubles]:
        """Returns the items, and maybe more, that have a score without the model's part."""
        if not (weights.trend or weights.dial):
            return said.above(least, _NO, np.empty(0))
        if weights is self.fused.info.weights:
            first, of_first = self._first_as_validated, self._of_first_as_validated
            most_of_others = self._most_of_others[0]
        else:  # The part that depends on an item alone is linear in the dial.
            first = self._first
            of_first = self._of_items(first, weights)
            most_of_others = float(np.interp(weights.dial, self._dials, self._most_of_others))
        items, added = said.above(least - most_of_others, first, least - of_first)
        added += self._of_items(items, weights)
        return items, added

    def _products(self, one: AskedOne, positions: Ints) -> Doubles:
        return self._index.vectors_of(positions).astype(np.float64) @ one.vector

    def _of_items(self, items: Ints, weights: Weights) -> Floats:
        """Returns what depends on the item alone, as `Fused.of_items` does, of some items."""
        if weights is self.fused.info.weights:
            return self._as_validated.take(items)
        trend = np.float32(weights.trend) * self.fused.trend.take(items)
        return trend - np.float32(weights.dial) * self.fused.dial.take(items)


def _highest(values: Floats | Doubles, count: int) -> Ints:
    """Returns the places of the highest values, in any order."""
    if len(values) <= count:
        return np.arange(len(values))
    return np.argpartition(-values, count)[:count]


def _ordered(positions: Ints, scores: Floats, k: int) -> tuple[Ints, Floats]:
    if len(scores) > k:
        is_best = scores >= np.partition(scores, -k)[-k]
        positions, scores = positions[is_best], scores[is_best]
    best = np.lexsort((positions, -scores))[:k]
    return positions[best], scores[best]


_NO = np.empty(0, np.int64)
