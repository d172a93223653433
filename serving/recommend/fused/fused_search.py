"""The best items of queries by the fused ranking: the model, channels, and the items themselves."""

import numpy as np
import numpy.typing as npt

from feature_store.core.columns import Floats, Ints, Jagged
from recsys.fusion.fused import Fused
from recsys.fusion.one_query import OneQuery
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
# Items whose vectors are read because of all but the model's part: first, and then at most.
_FIRST_NAMED, _MOST_NAMED = 100, 300
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
        self._trend, self._dial = fused.trend[indexed], fused.dial[indexed]
        ends = [self._of_items(self.weights(tail)) for tail in (0.0, 1.0)]
        self._first = np.unique(np.concatenate([_highest(end, _BEST_OF_ITEMS) for end in ends]))

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
        lengths = np.array([len(positions) for positions, _ in answers], np.int64)
        found = [*answers, (np.empty(0, np.int64), np.empty(0, np.float32))]
        positions, scores = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return Jagged.from_lengths(positions, lengths), scores

    def explain(
        self, one: AskedOne, positions: Ints, weights: Weights, content: SharedContent
    ) -> list[Parts]:
        """Returns the parts of the scores at some positions."""
        products = self._index.vectors_of(positions).astype(np.float64) @ one.vector
        items = self._indexed[positions]
        return parts_of(self.fused, one.sources, items, products, weights, content)

    def _among_all(self, asked: Asked, k: int, weights: Weights) -> list[tuple[Ints, Floats]]:
        """Scores all items in float32, and the best again in float64."""
        of_items = self._of_items(weights)
        at_once = max(1, _SCORES_AT_ONCE // len(of_items))
        answers = []
        for number, one in enumerate(asked.each()):
            if number % at_once == 0:
                block = asked.vectors[number : number + at_once]
                products = self._index.products(block) * np.float32(weights.model)
            scores = products[number % at_once]
            scores += of_items
            said = self._said(one, weights)
            scores[said.positions] += said.sums
            scores[one.excluded.values] = -np.inf
            if one.allowed is not None:
                scores[~one.allowed] = -np.inf
            last = np.partition(scores, -k)[-k] if k < len(scores) else -np.inf
            near = np.flatnonzero((scores >= last - _TIED) & (scores > -np.inf))
            answers.append(_ordered(near, self._scores(one, near, said, weights), k))
        return answers

    def _among_candidates(self, one: AskedOne, k: int, weights: Weights) -> tuple[Ints, Floats]:
        is_validated = weights.dial <= self.fused.info.weights.dial
        wanted = k + (self._candidates if is_validated else _FOR_TAIL)
        vector = one.vector[None]
        nearest, products = self._index.search(vector, wanted, one.excluded, one.allowed)
        near, said = nearest.values, self._said(one, weights)
        scores = self._sum(near, products.astype(np.float64), said, weights)
        if len(near) < wanted:  # No more items are left.
            return _ordered(near, scores, k)
        positions, added = self._added(said, weights)
        for most in (_FIRST_NAMED, _MOST_NAMED if is_validated else len(positions)):
            # The last of the best so far rises, and leaves fewer to look at.
            least = np.partition(scores, -k)[-k] - weights.model * products[-1] - _TIED
            is_left = added >= least
            positions, added = positions[is_left], added[is_left]
            first = _highest(added, most)
            others = _left(positions[first], near, one)
            if len(others):
                near = np.concatenate([near, others])
                scores = np.concatenate([scores, self._scores(one, others, said, weights)])
            added[first] = -np.inf
        return _ordered(near, scores, k)

    def _added(self, said: "_Said", weights: Weights) -> tuple[Ints, Floats]:
        """Returns candidates that the index need not have found, and all but their model's part."""
        positions = said.positions
        if weights.trend or weights.dial:
            positions = np.union1d(positions, self._first)
            return positions, said.at(positions) + self._of_items(weights, positions)
        return positions, said.sums

    def _said(self, one: AskedOne, weights: Weights) -> "_Said":
        items, sums = self._channels(one.sources, weights)
        if self._is_whole:
            return _Said(items, sums)
        positions = self._positions[items]
        is_indexed = positions >= 0
        return _Said(positions[is_indexed], sums[is_indexed])

    def _scores(self, one: AskedOne, positions: Ints, said: "_Said", weights: Weights) -> Floats:
        products = self._index.vectors_of(positions).astype(np.float64) @ one.vector
        return self._sum(positions, products, said, weights)

    def _sum(self, positions: Ints, products: Doubles, said: "_Said", weights: Weights) -> Floats:
        """Sums the parts in float64, and rounds once."""
        scores = weights.model * products + said.at(positions)
        if weights.trend or weights.dial:
            scores += self._of_items(weights, positions)
        return scores.astype(np.float32)

    def _of_items(self, weights: Weights, positions: Ints | slice = slice(None)) -> Floats:
        """Returns what depends on the item alone, as `Fused.of_items` does, at some positions."""
        trend = np.float32(weights.trend) * self._trend[positions]
        return trend - np.float32(weights.dial) * self._dial[positions]


class _Said:
    """The scores that channels give the items of one query.

    Args:
        positions: Positions that they name, ascending.
        sums: Score of each of them.
    """

    def __init__(self, positions: Ints, sums: Floats) -> None:
        self.positions = positions
        self.sums = sums

    def at(self, positions: Ints) -> Floats:
        """Returns the score at each position, 0 where there is none."""
        if not len(self.positions):
            return np.zeros(len(positions), np.float32)
        at = self.positions.searchsorted(positions)
        is_named = self.positions.take(at, mode="clip") == positions
        return np.where(is_named, self.sums.take(at, mode="clip"), np.float32(0))


def _highest(values: Floats, count: int) -> Ints:
    """Returns the places of the highest values, in any order."""
    if len(values) <= count:
        return np.arange(len(values))
    return np.argpartition(-values, count)[:count]


def _left(positions: Ints, near: Ints, one: AskedOne) -> Ints:
    """Drops positions that are found already, or are no answers."""
    if one.allowed is not None:
        positions = positions[one.allowed[positions]]
    found = np.sort(np.concatenate([near, one.excluded.values]))
    return positions[found.take(found.searchsorted(positions), mode="clip") != positions]


def _ordered(positions: Ints, scores: Floats, k: int) -> tuple[Ints, Floats]:
    if len(scores) > k:
        is_best = scores >= np.partition(scores, -k)[-k]
        positions, scores = positions[is_best], scores[is_best]
    best = np.lexsort((positions, -scores))[:k]
    return positions[best], scores[best]
