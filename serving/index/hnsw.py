"""A graph of near neighbours that a search walks through (Malkov and Yashunin 2018)."""

from typing import Any, ClassVar, Self

import faiss
import numpy as np

from feature_store.core.columns import Floats, Ints
from serving.index.kind import Breadth, Effort, IndexKind, copy_in_memory, fill, selector_of
from serving.index.vectors import STORAGES, StoredVectors

_faiss: Any = faiss

# Nodes that are visited in vain, because their items were removed, are at most this share.
_MAX_REMOVED = 0.2
# Measured: items that are compared one by one in the time of visiting a node.
_COMPARED_PER_NODE = 15


class Hnsw(IndexKind):
    """IndexHNSW over stored vectors. Experimental: ivf_pq is faster at the same recall.

    A graph cannot lose nodes. Those of removed items stay, as ways, and IndexHNSW is then in an
    IndexIDMap from nodes to items, -1 of removed ones.

    Attributes:
        links: Neighbours of a node.
        ef_construction: Candidates that are visited when a node is added.
        ef_searches: Candidates that a search keeps. With fewer than `RECALL_AT`, FAISS would search
            as wide for 100 answers, so that fewer answers would be worse than measured.
    """

    name = "hnsw"
    classes = STORAGES | {"IndexHNSWFlat", "IndexHNSWSQ", "IndexIDMap"}
    effort_names = ("ef_search",)

    links: ClassVar[int] = 32
    ef_construction: ClassVar[int] = 200
    ef_searches: ClassVar[tuple[int, ...]] = (128, 192, 256, 384, 512, 768, 1024, 2048)

    def __init__(self, index: faiss.Index) -> None:
        self.index = index
        nodes, self._present = None, None
        self._graph: Any = index
        if isinstance(index, faiss.IndexIDMap):
            self._graph = faiss.downcast_index(index.index)
            nodes = np.flatnonzero(faiss.vector_to_array(index.id_map) >= 0)
            # Without it a search would return removed items, too.
            self._present = selector_of(np.ones(len(nodes), np.bool_), np.empty(0, np.int64))
        self._nodes = nodes
        self.vectors = StoredVectors(faiss.downcast_index(self._graph.storage), nodes)
        self.breadth = Breadth(self._graph.hnsw.efSearch, self._graph.ntotal, _COMPARED_PER_NODE)

    @classmethod
    def build(cls, vectors: Floats, code: str) -> Self:
        """Adds one node after the other."""
        index: Any = faiss.index_factory(
            vectors.shape[1], f"HNSW{cls.links},{code}", faiss.METRIC_INNER_PRODUCT
        )
        index.hnsw.efConstruction = cls.ef_construction
        fill(index, vectors)
        return cls(index)

    def efforts(self) -> list[Effort]:
        """Lists numbers of candidates that a search keeps."""
        return [{"ef_search": ef_search} for ef_search in self.ef_searches]

    def set_effort(self, effort: Effort) -> None:
        """Sets the number of candidates that a search keeps."""
        self._graph.hnsw.efSearch = effort["ef_search"]
        self.breadth = Breadth(effort["ef_search"], self._graph.ntotal, _COMPARED_PER_NODE)

    def search(
        self, queries: Floats, wanted: int, breadth: int, selector: Any
    ) -> tuple[Floats, Ints]:
        """Walks the graph, keeping `breadth` candidates."""
        selector = self._present if selector is None else selector
        parameters = None
        if selector is not None or breadth != self.breadth.tuned:
            parameters = _faiss.SearchParametersHNSW(efSearch=breadth, sel=selector)
        return self.index.search(queries, wanted, params=parameters)

    def extended(self, kept: Ints, new_vectors: Floats) -> Self | None:
        """Adds nodes; None where a fifth of all nodes would be of removed items."""
        total = self.index.ntotal + len(new_vectors)
        if len(kept) + len(new_vectors) < (1 - _MAX_REMOVED) * total:
            return None
        graph = copied = copy_in_memory(self.index)
        if self._nodes is not None:
            graph, kept = faiss.downcast_index(copied.index), self._nodes[kept]
        graph.add(new_vectors)
        nodes = np.concatenate([kept, np.arange(self.index.ntotal, total)])
        if len(nodes) == total:
            return type(self)(graph)
        items = np.full(total, -1)
        items[nodes] = np.arange(len(nodes))
        # FAISS makes a map of an empty index only.
        mapped: Any = faiss.IndexIDMap(faiss.IndexFlatIP(graph.d))
        mapped.index, mapped.ntotal, mapped.referenced_objects = graph, total, [copied]
        faiss.copy_array_to_vector(items, mapped.id_map)
        return type(self)(mapped)
