"""Exact search: the query is compared with all stored vectors."""

from typing import Any, Self

import faiss

from feature_store.core.columns import Floats, Ints
from serving.index.kind import Breadth, IndexKind, copy_in_memory, fill, keep_only
from serving.index.vectors import STORAGES, StoredVectors

_faiss: Any = faiss


class Flat(IndexKind):
    """IndexFlat or IndexScalarQuantizer: all stored vectors, without any structure."""

    name = "flat"
    classes = STORAGES
    is_exact = True

    def __init__(self, index: faiss.Index) -> None:
        self.index = index
        self.vectors = StoredVectors(index)
        self.breadth = Breadth()

    @classmethod
    def build(cls, vectors: Floats, code: str) -> Self:
        """Stores the vectors; the ranges of int8 codes are learnt from a sample."""
        index: Any = faiss.index_factory(vectors.shape[1], code, faiss.METRIC_INNER_PRODUCT)
        fill(index, vectors)
        return cls(index)

    def search(
        self, queries: Floats, wanted: int, breadth: int, selector: Any
    ) -> tuple[Floats, Ints]:
        """Compares the queries with all vectors; there is no other breadth."""
        parameters = None if selector is None else _faiss.SearchParameters(sel=selector)
        return self.index.search(queries, wanted, params=parameters)

    def extended(self, kept: Ints, new_vectors: Floats) -> Self | None:
        """Removes and appends rows: the copy equals an index built anew of float32 vectors."""
        copied = copy_in_memory(self.index)
        keep_only(copied, kept)
        copied.add(new_vectors)
        return type(self)(copied)
