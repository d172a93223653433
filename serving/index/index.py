"""The nearest items of a query: exact search, an HNSW graph, or product-quantised lists.

What FAISS finds are candidates: they are scored again by the stored vectors, so that scores and
their order do not depend on the kind of index.
"""

import math
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np

from feature_store.core.columns import Bools, Floats, Ints, Jagged
from feature_store.core.files import write_atomically
from feature_store.core.settings import Frozen

Kind = Literal["flat", "hnsw", "ivf_pq"]

# The recall is measured at so many answers, so an index's effort is made for as many.
RECALL_AT = 100
# Candidates beyond the asked ones: FAISS sums in float32 in an order of its own, and at the edge it
# may prefer the wrong one of two scores that differ in the last bits. Of lists each costs
# `refine_factor` vectors.
_SLACK: dict[Kind, int] = {"flat": 16, "hnsw": 16, "ivf_pq": 4}
# More of a query's excluded items are not searched for in vain: FAISS's time grows with the square.
_MOST_EXCLUDED = 2000
# Float32 sums that differ by less may be equal.
TIED = 1e-6

# What a filter leaves is compared one by one where that is faster than a search, which has to pass
# over the rest. Measured: items of a list that are scanned in the time of comparing one, and items
# that are compared in the time of looking at a node of a graph.
_SCANNED_PER_COMPARED, _COMPARED_PER_NODE = 25, 15
# Items that are decoded at a time.
_BLOCK = 65_536

# FAISS's stubs lack many of its classes and arguments.
_faiss: Any = faiss
_INT8 = faiss.ScalarQuantizer.QT_8bit

_Answer = tuple[Ints, Floats]
_NO_ITEMS, _NO_SCORES = np.empty(0, np.int64), np.empty(0, np.float32)


class SearchPoint(Frozen):
    """What a search with some parameters finds, and how long it takes.

    Attributes:
        ef_search: Of a graph: nodes that are kept as candidates; None of other kinds.
        nprobe: Of lists: how many are scanned; None of other kinds.
        refine_factor: Of lists: candidates that are scored again for each that is asked for.
        recall: Mean recall@100 of sampled queries against exact search by float32 vectors.
        median_us: Microseconds of a search of 100 items for one query on one thread: of its
            processor time, so that other programs on the machine matter little.
        p99_us: The same of the slowest hundredth.
    """

    ef_search: int | None = None
    nprobe: int | None = None
    refine_factor: int | None = None
    recall: float
    median_us: float
    p99_us: float


class IndexReport(Frozen):
    """How an index was built.

    Attributes:
        kind: `flat` is exact.
        vectors: How they are stored.
        chosen: The fastest point of the curve that reaches the recall.
        stored_recall: Recall@100 of exact search by stored vectors against exact search by float32
            vectors: what is below 1 is lost by compression.
        memory_bytes: Of all of it. It is mapped, and of `ivf_pq` only the stored vectors of
            candidates are read.
        curve: All points that were measured.
    """

    kind: Kind
    vectors: Literal["float32", "float16", "int8"]
    chosen: SearchPoint
    stored_recall: float
    memory_bytes: int
    curve: tuple[SearchPoint, ...]

    @property
    def recall(self) -> float:
        """Of the chosen point."""
        return self.chosen.recall


class ItemIndex:
    """Searches items by inner product; several threads may do so at a time.

    Args:
        index: With METRIC_INNER_PRODUCT and its search parameters set: IndexFlat or
            IndexScalarQuantizer; IndexHNSW over one of them; or IndexRefine of one of them after
            IndexIVFPQFastScan. IndexHNSW may be in an IndexIDMap from nodes to items, -1 of removed
            ones.
    """

    def __init__(self, index: faiss.Index) -> None:
        self.index: Any = index
        self.kind: Kind = "flat"
        storage: Any = index
        # Nodes that are looked at, or lists; of a flat index there is nothing to choose.
        self._effort = self._most_effort = 1
        self._refine_factor = 1.0
        self._compared_per_effort = 0.0
        self._nodes: Ints | None = None
        if isinstance(index, faiss.IndexIDMap):
            self._nodes = np.flatnonzero(faiss.vector_to_array(index.id_map) >= 0)
            storage = faiss.downcast_index(index.index)
        if isinstance(storage, faiss.IndexHNSW):
            self.kind = "hnsw"
            self._effort, self._most_effort = storage.hnsw.efSearch, storage.ntotal
            self._compared_per_effort = _COMPARED_PER_NODE
            storage = faiss.downcast_index(storage.storage)
        elif isinstance(storage, faiss.IndexRefine):
            self.kind = "ivf_pq"
            lists: Any = faiss.downcast_index(storage.base_index)
            self._effort, self._most_effort = lists.nprobe, lists.nlist
            self._refine_factor = storage.k_factor
            list_length = storage.ntotal / lists.nlist
            self._compared_per_effort = list_length / _SCANNED_PER_COMPARED
            storage = faiss.downcast_index(storage.refine_index)
        self._slack = _SLACK[self.kind]
        self._vectors = _Vectors(storage)
        self._size = len(self._vectors) if self._nodes is None else len(self._nodes)
        # A search passes through nodes of removed items, too.
        self._there = None if self._nodes is None else _selector(np.ones(self._size, np.bool_))

    def __len__(self) -> int:
        return self._size

    @classmethod
    def read(cls, path: Path) -> "ItemIndex":
        """Memory-maps what `write` wrote: graph, lists and vectors stay in the file."""
        return cls(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC))

    def write(self, path: Path) -> None:
        """Writes one file in FAISS's format, with the search parameters."""
        write_atomically(path, lambda temporary: faiss.write_index(self.index, str(temporary)))

    def vectors_of(self, items: Ints) -> Floats:
        """Vectors as they are stored, decoded, [items, dim]."""
        return self._vectors[items if self._nodes is None else self._nodes[items]]

    def search(
        self, queries: Floats, k: int, excluded: Jagged, allowed: Bools | None = None
    ) -> tuple[Jagged, Floats]:
        """The best items that are not excluded, best first; of equal scores the lower index.

        Exact by stored vectors, but for the items that a graph or lists miss.

        Args:
            queries: [queries, dim], L2-normalised.
            k: How many; a query gets fewer only where no more items are left.
            excluded: [queries] items that are no answers.
            allowed: [items] which may be answers, of all queries; None: all.

        Returns:
            Items of each query, [queries], and of each item its score, [total]: the inner product,
            summed in float64 and rounded once.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        bounds = excluded.offsets.tolist()
        bags = [excluded.values[bounds[row] : bounds[row + 1]] for row in range(len(queries))]
        left = self._size if allowed is None else int(np.count_nonzero(allowed))
        if allowed is not None and left <= self._few(k, left):
            answers = self._compare(queries, np.flatnonzero(allowed), k, bags)
        else:
            answers = self._approach(queries, k, bags, left, allowed)
        offsets = np.array(list(accumulate((len(items) for items, _ in answers), initial=0)))
        items, scores = zip(*answers, strict=True) if answers else ([_NO_ITEMS], [_NO_SCORES])
        return Jagged(np.concatenate(items), offsets), np.concatenate(scores)

    def _approach(
        self, queries: Floats, k: int, bags: Sequence[Ints], left: int, allowed: Bools | None
    ) -> list[_Answer]:
        """By FAISS's candidates; by comparing all where these cannot be trusted."""
        near, found = self._candidates(queries, k, bags, left, allowed)
        answers = []
        for row, bag in enumerate(bags):
            met = _NO_ITEMS if self.kind == "ivf_pq" else bag
            items, scores = self._best(queries[row], _without(found[row], met), k)
            # Most of what is near may be excluded.
            is_short = len(items) < k and len(items) < left - _count(bag, allowed)
            # More items may be equal to the last one than there are candidates.
            is_open = self.kind == "flat" and near.shape[1] < left and len(items) > 0
            if is_short or (is_open and near[row, -1] > scores[-1] - TIED):
                rest = np.arange(self._size) if allowed is None else np.flatnonzero(allowed)
                [(items, scores)] = self._compare(queries[row : row + 1], rest, k, [bag])
            answers.append((items, scores))
        return answers

    def _candidates(
        self, queries: Floats, k: int, bags: Sequence[Ints], left: int, allowed: Bools | None
    ) -> tuple[Floats, Ints]:
        """What is near each query, [queries, candidates] by FAISS's scores; -1 where no more is."""
        if self.kind == "ivf_pq":
            # Lists are scanned past excluded items at little cost; several queries at once are not
            # faster.
            wanted = min(left, k + self._slack)
            near = np.empty((len(queries), wanted), np.float32)
            found = np.empty((len(queries), wanted), np.int64)
            for row, bag in enumerate(bags):
                own, parameters = slice(row, row + 1), self._parameters(wanted, left, allowed, bag)
                self.index.search(
                    queries[own], wanted, params=parameters, D=near[own], I=found[own]
                )
            return near, found
        most = max(map(len, bags), default=0)
        wanted = min(left, k + min(most, _MOST_EXCLUDED) + self._slack)
        parameters = self._parameters(wanted, left, allowed)
        return self.index.search(queries, wanted, params=parameters)

    def _compare(self, queries: Floats, items: Ints, k: int, bags: Sequence[Ints]) -> list[_Answer]:
        """By the scores of all given items, which are in ascending order."""
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
        scores = (self.vectors_of(items).astype(np.float64) @ query).astype(np.float32)
        order = np.lexsort((items, -scores))[:k]
        return items[order], scores[order]

    def _few(self, k: int, left: int) -> float:
        """As many items are compared one by one in the time of a search for k of those left."""
        return self._compared_per_effort * self._effort_for(k + self._slack, left)

    def _effort_for(self, wanted: int, left: int) -> int:
        """More for more answers, and where only a share of what is met may be one."""
        share = max(left, 1) / len(self._vectors)
        effort = self._effort * max(1.0, wanted / (RECALL_AT + self._slack)) / share
        return min(math.ceil(effort), self._most_effort)

    def _parameters(
        self, wanted: int, left: int, allowed: Bools | None, excluded: Ints = _NO_ITEMS
    ) -> Any:
        """None: those that are set in the index."""
        sel = self._there if allowed is None else _selector(allowed)
        if len(excluded):
            others = _faiss.IDSelectorNot(_faiss.IDSelectorBatch(excluded))
            sel = others if sel is None else _faiss.IDSelectorAnd(sel, others)
        effort = self._effort_for(wanted, left)
        if sel is None and effort == self._effort:
            return None
        if self.kind == "hnsw":
            return _faiss.SearchParametersHNSW(efSearch=effort, sel=sel)
        if self.kind == "ivf_pq":
            return _faiss.IndexRefineSearchParameters(
                k_factor=self._refine_factor,
                base_index_params=_faiss.SearchParametersIVF(nprobe=effort, sel=sel),
            )
        return _faiss.SearchParameters(sel=sel)


class _Vectors:
    """The stored vectors of a FAISS index, decoded where they are taken.

    FAISS's own `reconstruct_batch` takes a microsecond for each compressed vector.
    """

    def __init__(self, storage: Any) -> None:
        size = storage.ntotal * storage.code_size
        # A view of the index's own memory, which is that of the file where it is mapped.
        codes = faiss.rev_swig_ptr(storage.codes.data(), size)
        self._codes = codes.reshape(storage.ntotal, storage.code_size)
        self._float = np.float32 if isinstance(storage, faiss.IndexFlat) else np.float16
        self._is_int8 = self._float == np.float16 and storage.sq.qtype == _INT8
        if self._is_int8:
            self._least, width = faiss.vector_to_array(storage.sq.trained).reshape(2, -1)
            self._step = width / np.float32(255)

    def __len__(self) -> int:
        return len(self._codes)

    def __getitem__(self, rows: Ints) -> Floats:
        codes = self._codes[rows]
        if self._is_int8:
            return (codes + np.float32(0.5)) * self._step + self._least
        return codes.view(self._float).astype(np.float32, copy=False)


def _selector(allowed: Bools) -> Any:
    return _faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))


def _without(found: Ints, bag: Ints) -> Ints:
    """Candidates that are there and not in the bag."""
    found = found[found >= 0]
    if not len(bag):
        return found
    seen = np.sort(bag)
    return found[seen.take(seen.searchsorted(found), mode="clip") != found]


def _count(bag: Ints, allowed: Bools | None) -> int:
    """Distinct items of the bag that would be allowed."""
    items = np.unique(bag)
    return len(items) if allowed is None else int(np.count_nonzero(allowed[items]))
