"""The nearest items of a query: what all kinds of index share.

An index of a kind finds candidates. They are scored again by the stored vectors, so that scores and
their order do not depend on the kind.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import faiss
import numpy as np

from feature_store.core.columns import Bools, Floats, Ints, Jagged
from feature_store.core.errors import UserError
from feature_store.core.files import write_atomically
from serving.index.kind import RECALL_AT, IndexKind, selector_of, without
from serving.index.kinds import kind_named
from serving.index.opened import opened_index

# More of a query's excluded items are not searched for in vain: FAISS's time grows with the square.
MAX_EXCLUDED = 2000
# Float32 sums that differ by less may be equal.
TIED = 1e-6
# Items that are decoded at a time.
_BLOCK = 65_536

# Items, and their scores.
_Answer = tuple[Ints, Floats]
_NO_ITEMS, _NO_SCORES = np.empty(0, np.int64), np.empty(0, np.float32)


class ItemIndex:
    """Searches items by inner product; several threads may do so at a time.

    Args:
        kind: The index of one kind, with its search parameters set.
    """

    def __init__(self, kind: IndexKind) -> None:
        self.kind = kind

    def __len__(self) -> int:
        return len(self.kind.vectors)

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return int(self.kind.index.d)

    @classmethod
    def read(cls, path: Path, kind: str) -> "ItemIndex":
        """Opens an index that `write` wrote, memory-mapped: all of its parts stay in the file.

        Args:
            path: The file.
            kind: Name of the kind, as the bundle's manifest has it.

        Raises:
            UserError: This version has no such kind, or the file holds no index of it.
        """
        named = kind_named(kind)
        try:
            return cls(named(opened_index(path, named.classes)))
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"{path} holds no {kind} index; export the model again.") from error

    def write(self, path: Path) -> None:
        """Writes one file in FAISS's format, with the search parameters."""
        index = self.kind.index
        write_atomically(path, lambda temporary: faiss.write_index(index, str(temporary)))

    def vectors_of(self, items: Ints) -> Floats:
        """Decodes stored vectors, [items, dim]."""
        return self.kind.vectors[items]

    def products(self, queries: Floats) -> Floats:
        """Computes the inner products with all stored vectors in float32, [queries, items]."""
        products = np.empty((len(queries), len(self)), np.float32)
        for start in range(0, len(self), _BLOCK):
            block = slice(start, min(start + _BLOCK, len(self)))
            np.matmul(queries, self.kind.vectors.between(block).T, out=products[:, block])
        return products

    def extended(self, new_vectors: Floats, removed: Ints) -> "ItemIndex | None":
        """Copies the index, without some items and with new ones, which come last.

        Items have the positions that they would have in an index built anew, of
        `np.concatenate([np.delete(vectors, removed, axis=0), new_vectors])`: a caller treats its
        own arrays of items the same way. Search parameters, and the ranges of int8 vectors, stay:
        whether the recall is still reached is to be measured, as by `recall_by_slice`.

        Args:
            new_vectors: [new items, dim], L2-normalised.
            removed: Positions in this index.

        Returns:
            None where it is time to build an index anew, see the kind.
        """
        kept = np.delete(np.arange(len(self)), removed)
        kind = self.kind.extended(kept, np.ascontiguousarray(new_vectors, np.float32))
        return None if kind is None else ItemIndex(kind)

    def search(
        self, queries: Floats, k: int, excluded: Jagged, allowed: Bools | None = None
    ) -> tuple[Jagged, Floats]:
        """Finds the best items that are not excluded, best first; of equal scores the lower index.

        Exact by stored vectors, but for items that the kind's candidates miss.

        Args:
            queries: [queries, dim], L2-normalised.
            k: Number of answers; a query gets fewer only where no more items are left.
            excluded: [queries] items that are no answers.
            allowed: [items] whether an item may be an answer, of all queries; None: all may.

        Returns:
            Items of each query, [queries], and the score of each item, [total]: the inner product,
            summed in float64 and rounded once.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        bounds = excluded.offsets.tolist()
        bags = [excluded.values[bounds[row] : bounds[row + 1]] for row in range(len(queries))]
        left = len(self) if allowed is None else int(np.count_nonzero(allowed))
        if allowed is not None and left <= self._compared_instead(k, left):
            answers = self._compare(queries, np.flatnonzero(allowed), k, bags)
        else:
            answers = self._search_candidates(queries, k, bags, left, allowed)
        offsets = np.array(list(accumulate((len(items) for items, _ in answers), initial=0)))
        items, scores = zip(*answers, strict=True) if answers else ([_NO_ITEMS], [_NO_SCORES])
        return Jagged(np.concatenate(items), offsets), np.concatenate(scores)

    def _search_candidates(
        self, queries: Floats, k: int, bags: Sequence[Ints], left: int, allowed: Bools | None
    ) -> list[_Answer]:
        """Answers by the kind's candidates, and by comparing all where these do not suffice."""
        if allowed is None and len(queries) == 1:
            found = self._found_at_once(queries, k, bags[0], left)
            if found is not None:
                return [found]
        near, candidates = self._candidates(queries, k, bags, left, allowed)
        answers = []
        for row, bag in enumerate(bags):
            unwanted = _NO_ITEMS if self.kind.skips_excluded else bag
            items, scores = self._best(queries[row], without(candidates[row], unwanted), k)
            # Most of what is near may be excluded.
            is_short = len(items) < k and len(items) < left - _count(bag, allowed)
            # More items may be equal to the last one than there are candidates.
            is_open = self.kind.is_exact and near.shape[1] < left and len(items) > 0
            if is_short or (is_open and near[row, -1] > scores[-1] - TIED):
                rest = np.arange(len(self)) if allowed is None else np.flatnonzero(allowed)
                [(items, scores)] = self._compare(queries[row : row + 1], rest, k, [bag])
            answers.append((items, scores))
        return answers

    def _found_at_once(self, queries: Floats, k: int, bag: Ints, left: int) -> _Answer | None:
        """Answers one query by what a tuned search finds; None where that is no answer."""
        wanted = min(left, k + self.kind.slack)
        if self._breadth_for(wanted, left) != self.kind.breadth.tuned:
            return None
        items = self.kind.near(queries, wanted, bag)
        return None if items is None or len(items) < k else self._best(queries[0], items, k)

    def _candidates(
        self, queries: Floats, k: int, bags: Sequence[Ints], left: int, allowed: Bools | None
    ) -> tuple[Floats, Ints]:
        """Finds items near each query, [queries, candidates]; -1 where there are no more."""
        if not self.kind.skips_excluded:
            most = max(map(len, bags), default=0)
            wanted = min(left, k + min(most, MAX_EXCLUDED) + self.kind.slack)
            selector = selector_of(allowed, _NO_ITEMS)
            return self.kind.search(queries, wanted, self._breadth_for(wanted, left), selector)
        wanted = min(left, k + self.kind.slack)
        breadth = self._breadth_for(wanted, left)
        near = np.empty((len(queries), wanted), np.float32)
        candidates = np.empty((len(queries), wanted), np.int64)
        for row, bag in enumerate(bags):
            one, selector = queries[row : row + 1], selector_of(allowed, bag)
            near[row], candidates[row] = self.kind.search(one, wanted, breadth, selector)
        return near, candidates

    def _compare(self, queries: Floats, items: Ints, k: int, bags: Sequence[Ints]) -> list[_Answer]:
        """Answers by the scores of all given items, which are in ascending order."""
        if not len(items):
            return [(_NO_ITEMS, _NO_SCORES)] * len(queries)
        all_scores = np.empty((len(queries), len(items)), np.float32)
        for start in range(0, len(items), _BLOCK):
            block = slice(start, start + _BLOCK)
            np.matmul(queries, self.vectors_of(items[block]).T, out=all_scores[:, block])
        answers = []
        for query, scores, bag in zip(queries, all_scores, bags, strict=True):
            at = items.searchsorted(bag)
            scores[at[items.take(at, mode="clip") == bag]] = -np.inf
            last = np.partition(scores, -k)[-k] if k < len(scores) else -np.inf
            near = items[(scores >= last - TIED) & (scores > -np.inf)]
            answers.append(self._best(query, near, k))
        return answers

    def _best(self, query: Floats, items: Ints, k: int) -> _Answer:
        """Scores the items in float64, and takes the k best ones."""
        scores = (self.vectors_of(items).astype(np.float64) @ query).astype(np.float32)
        if len(scores) > k:
            is_best = scores >= np.partition(scores, -k)[-k]
            items, scores = items[is_best], scores[is_best]
        order = np.lexsort((items, -scores))[:k]
        return items[order], scores[order]

    def _compared_instead(self, k: int, left: int) -> float:
        """Returns how many items are compared in the time of a search for k of those left."""
        breadth = self._breadth_for(k + self.kind.slack, left)
        return self.kind.breadth.compared_per_unit * breadth

    def _breadth_for(self, wanted: int, left: int) -> int:
        """Returns the units to visit: more for more answers, or where fewer items may be one."""
        breadth, slack = self.kind.breadth, self.kind.slack
        ratio = max(left, 1) / self.kind.index.ntotal
        units = breadth.tuned * max(1.0, wanted / (RECALL_AT + slack)) / ratio
        return min(math.ceil(units), breadth.total)


def _count(bag: Ints, allowed: Bools | None) -> int:
    """Counts distinct items of the bag that would be allowed."""
    items = np.unique(bag)
    return len(items) if allowed is None else int(np.count_nonzero(allowed[items]))
