"""The nearest items of a query: exact search for small catalogues, an HNSW graph for large ones."""

from pathlib import Path
from typing import Any, Literal

import faiss
import numpy as np
from pydantic import BaseModel, ConfigDict

from feature_store.columns import Floats, Ints, Jagged
from feature_store.errors import UserError

# Larger catalogues are searched in a graph.
EXACT_UP_TO = 50_000

# Neighbours of a graph node, and candidates looked at when it is added.
_LINKS, _EF_CONSTRUCTION = 32, 200
# Candidates of a search, raised until the gate's recall is reached.
_EF_SEARCH = (64, 128, 256, 512, 1024, 2048)
_RECALL_AT = 100

# Candidates beyond the asked ones: FAISS sums in float32 in an order of its own, and at the edge it
# may prefer the wrong one of two scores that differ in the last bits.
_SLACK = 16
# Float32 sums that differ by less may be equal.
_TIED = 1e-6


class IndexReport(BaseModel):
    """How an index was built.

    Attributes:
        kind: `flat` is exact.
        ef_search: Candidates of a search in the graph; None for exact search.
        recall: Mean recall@100 of sampled queries against exact search.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["flat", "hnsw"]
    ef_search: int | None
    recall: float


class ItemIndex:
    """Searches items by inner product.

    Args:
        index: A flat index, or a graph over one, with METRIC_INNER_PRODUCT.
    """

    def __init__(self, index: faiss.Index) -> None:
        self._index = index
        self._is_graph = isinstance(index, faiss.IndexHNSW)
        storage: Any = index
        if isinstance(index, faiss.IndexHNSW):
            storage = faiss.downcast_index(index.storage)
        # A view of the index's own memory, which is that of the file where it is mapped.
        flat = faiss.rev_swig_ptr(storage.get_xb(), index.ntotal * index.d)
        self.vectors: Floats = flat.reshape(index.ntotal, index.d)

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @classmethod
    def read(cls, path: Path) -> "ItemIndex":
        """Memory-maps what `write` wrote."""
        return cls(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC))

    def write(self, path: Path) -> None:
        """Writes FAISS's format."""
        faiss.write_index(self._index, str(path))

    def search(self, queries: Floats, k: int, excluded: Jagged) -> tuple[Jagged, Floats]:
        """The best items that are not excluded, best first; of equal scores the lower index.

        Exact but for the items that a graph misses.

        Args:
            queries: [queries, dim], L2-normalised.
            k: How many; a query gets fewer only where no more items are left.
            excluded: [queries] items that are no answers.

        Returns:
            Items of each query, [queries], and of each item its score, [total]: the inner product,
            summed in float64 and rounded once.
        """
        most = int(excluded.lengths.max(initial=0))
        wanted = min(len(self), k + most + _SLACK)
        near, candidates = self._index.search(np.ascontiguousarray(queries), wanted)
        ranked = []
        for row, query in enumerate(queries):
            seen = np.unique(excluded.values[excluded.offsets[row] : excluded.offsets[row + 1]])
            found = candidates[row][candidates[row] >= 0]
            items, scores = self._rank(query, found[~np.isin(found, seen)], k)
            # A graph may find too few where most of what is near is excluded.
            is_short = len(items) < min(k, len(self) - len(seen))
            # More items may be equal to the last one than there are candidates.
            is_tied = wanted < len(self) and near[row, -1] > scores.min(initial=1) - _TIED
            if is_short or (is_tied and not self._is_graph):
                items, scores = self._rank(query, np.setdiff1d(np.arange(len(self)), seen), k)
            ranked.append((items, scores))
        items = np.concatenate([items for items, _ in ranked]) if ranked else np.empty(0, np.int64)
        scores = np.concatenate([s for _, s in ranked]) if ranked else np.empty(0, np.float32)
        return Jagged.from_lengths(items, np.array([len(i) for i, _ in ranked], np.int64)), scores

    def _rank(self, query: Floats, items: Ints, k: int) -> tuple[Ints, Floats]:
        scores = (self.vectors[items].astype(np.float64) @ query).astype(np.float32)
        order = np.lexsort((items, -scores))[:k]
        return items[order], scores[order]


def build_index(
    vectors: Floats, queries: Floats, *, min_recall: float, exact_up_to: int = EXACT_UP_TO
) -> tuple[ItemIndex, IndexReport]:
    """An index of all items that reaches the recall.

    Args:
        vectors: [items, dim], L2-normalised.
        queries: [queries, dim] of a sample, to measure the recall with.
        min_recall: Recall@100 against exact search.
        exact_up_to: Catalogues of at most so many items get exact search.

    Raises:
        UserError: The graph does not reach the recall.
    """
    exact = faiss.IndexFlatIP(vectors.shape[1])
    exact.add(vectors)
    if len(vectors) <= exact_up_to:
        return ItemIndex(exact), IndexReport(kind="flat", ef_search=None, recall=1.0)
    graph = faiss.IndexHNSWFlat(vectors.shape[1], _LINKS, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efConstruction = _EF_CONSTRUCTION
    graph.add(vectors)
    recall = 0.0
    for ef_search in _EF_SEARCH:
        graph.hnsw.efSearch = ef_search
        recall = _recall(graph, exact, queries)
        if recall >= min_recall:
            report = IndexReport(kind="hnsw", ef_search=ef_search, recall=recall)
            return ItemIndex(graph), report
    raise UserError(
        f"the index finds {recall:.4f} of the exact {_RECALL_AT} nearest items, expected at least "
        f"{min_recall}: nothing was exported; lower export.min_ann_recall or train longer."
    )


def _recall(index: faiss.Index, exact: faiss.Index, queries: Floats) -> float:
    """Share of the nearest items that were found; an equally near one counts as found."""
    k = min(_RECALL_AT, exact.ntotal)
    expected, _ = exact.search(queries, k)
    found, _ = index.search(queries, k)
    return float((found >= expected[:, -1:] - _TIED).mean())
