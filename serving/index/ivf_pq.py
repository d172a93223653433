"""Inverted lists of short codes, of which the best candidates are scored again.

A vector's codes have 4 bits for each of its numbers, whose sums are looked up in registers, 32
items at a time (Andre et al. 2015).
"""

from itertools import product
from typing import Any, ClassVar, Self

import faiss
import numpy as np

from feature_store.core.columns import Floats, Ints
from serving.index.kind import (
    RECALL_AT,
    Breadth,
    Effort,
    IndexKind,
    copy_in_memory,
    fill,
    keep_only,
    lists_for,
    without,
)
from serving.index.vectors import STORAGES, StoredVectors, array_at

_faiss: Any = faiss

# Least number of items in the scanned lists, for each item that is wanted.
_SCANNED_PER_WANTED = 4
# An index is built anew where a catalogue of its size would get more than twice as many lists: its
# own are too long, and so slow.
_MAX_LISTS_RATIO = 2
# Measured: items of a list that are scanned in the time of comparing one.
_SCANNED_PER_COMPARED = 25
# Excluded items up to which as many more are searched for.
_MOST_SKIPPED = 256


class IvfPq(IndexKind):
    """IndexRefine: IndexIVFPQFastScan finds candidates, stored vectors score them again.

    Lists are scanned past excluded items at little cost, and several queries at once are no faster
    than one by one.

    Attributes:
        nprobes: Lists that are scanned.
        refine_factors: Candidates that are scored again for each that is wanted. Sums of 4-bit
            codes are rough: to score many candidates again is cheaper than finer codes.
    """

    name = "ivf_pq"
    classes = STORAGES | {"IndexRefine", "IndexRefineFlat", "IndexIVFPQFastScan"}
    effort_names = ("nprobe", "refine_factor")
    min_items = 256
    skips_excluded = True
    slack = 4  # Each costs `refine_factor` vectors.

    nprobes: ClassVar[tuple[int, ...]] = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
    refine_factors: ClassVar[tuple[int, ...]] = (4, 8, 16, 32)

    def __init__(self, index: faiss.Index) -> None:
        self.index = index
        self._lists: Any = faiss.downcast_index(self.index.base_index)
        self.vectors = StoredVectors(faiss.downcast_index(self.index.refine_index))
        self.breadth = self._breadth()

    def _breadth(self) -> Breadth:
        lists = self._lists.nlist
        list_length = self.index.ntotal / lists
        return Breadth(self._lists.nprobe, lists, list_length / _SCANNED_PER_COMPARED)

    @classmethod
    def list_count(cls, items: int) -> int:
        """Returns the number of lists of a catalogue."""
        return lists_for(items)

    @classmethod
    def build(cls, vectors: Floats, code: str) -> Self:
        """Fits lists and codes to a sample, and adds all items."""
        items, dim = vectors.shape
        index: Any = faiss.index_factory(
            dim,
            f"IVF{cls.list_count(items)},PQ{dim}x4fs,Refine({code})",
            faiss.METRIC_INNER_PRODUCT,
        )
        lists: Any = faiss.downcast_index(index.base_index)
        # Otherwise FAISS warns on standard error of small samples.
        lists.cp.min_points_per_centroid = lists.pq.cp.min_points_per_centroid = 1
        fill(index, vectors)
        return cls(index)

    def efforts(self) -> list[Effort]:
        """Lists numbers of lists to scan, each with numbers of candidates to score again."""
        lists = self._lists.nlist
        # With too few items scanned, answers are short, and then all items are compared.
        least = _SCANNED_PER_WANTED * RECALL_AT * lists / self.index.ntotal
        nprobes = [nprobe for nprobe in self.nprobes if least <= nprobe < lists] or [lists]
        return [
            {"nprobe": nprobe, "refine_factor": factor}
            for nprobe, factor in product(nprobes, self.refine_factors)
        ]

    def set_effort(self, effort: Effort) -> None:
        """Sets both numbers."""
        self._lists.nprobe, self.index.k_factor = effort["nprobe"], effort["refine_factor"]
        self.breadth = self._breadth()

    def search(
        self, queries: Floats, wanted: int, breadth: int, selector: Any
    ) -> tuple[Floats, Ints]:
        """Scans the `breadth` nearest lists."""
        parameters = None
        if selector is not None or breadth != self.breadth.tuned:
            parameters = _faiss.IndexRefineSearchParameters(
                k_factor=self.index.k_factor,
                base_index_params=_faiss.SearchParametersIVF(nprobe=breadth, sel=selector),
            )
        return self.index.search(queries, wanted, params=parameters)

    def near(self, query: Floats, wanted: int, excluded: Ints) -> Ints | None:
        """Scans the lists for as many more items as are excluded.

        FAISS takes longer to be told of a few items than to find as many more.
        """
        if len(excluded) > _MOST_SKIPPED:
            return None
        scored = int(wanted * self.index.k_factor)
        _, [items] = self._lists.search(query, min(scored + len(excluded), self.index.ntotal))
        return without(items, excluded)[:scored]

    def extended(self, kept: Ints, new_vectors: Floats) -> Self | None:
        """Changes items' numbers in all lists; None where the catalogue has outgrown the lists."""
        fitting = self.list_count(len(kept) + len(new_vectors))
        if fitting > _MAX_LISTS_RATIO * self._lists.nlist:
            return None
        copied = copy_in_memory(self.index)
        lists: Any = faiss.downcast_index(copied.base_index)
        position = np.full(copied.ntotal, -1)
        position[kept] = np.arange(len(kept))
        for part in (lists, faiss.downcast_index(copied.refine_index)):
            keep_only(part, kept)
        for number in range(lists.nlist):
            size = lists.invlists.list_size(number)
            ids = array_at(lists.invlists.get_ids(number), size)
            ids[:] = position[ids]
        copied.ntotal = len(kept)
        copied.add(new_vectors)
        return type(self)(copied)
