"""The interface of a kind of index, and what kinds need to build and to change a FAISS index."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, Self

import faiss
import numpy as np

from feature_store.core.columns import Bools, Floats, Ints
from serving.index.vectors import StoredVectors, blocks, sample

# Number of answers that recall is measured at, and that a search is tuned for.
RECALL_AT = 100

# Search parameters by name, such as {"nprobe": 8}.
Effort = dict[str, int]

# Items that FAISS learns from: for each inverted list, and at least.
_TRAINED_PER_LIST, _LEAST_TRAINED = 64, 100_000

# FAISS's stubs lack many of its classes and arguments.
_faiss: Any = faiss


@dataclass(frozen=True)
class Breadth:
    """Parts of an index that a search visits, in the kind's own units: graph nodes, or lists.

    Attributes:
        tuned: Units that a search for `RECALL_AT` items visits.
        total: Units of the whole index.
        compared_per_unit: Items that can be compared with a query one by one in the time that a
            search takes for one unit; 0 where a search visits everything anyway.
    """

    tuned: int = 1
    total: int = 1
    compared_per_unit: float = 0.0


class IndexKind(ABC):
    """A FAISS index of one kind, by inner product: how it is built, searched and extended.

    A kind only finds candidates. `ItemIndex` scores them again by the stored vectors, orders ties,
    applies exclusions and filters, and compares one by one where the candidates do not suffice. So
    a kind may miss items and may score them roughly.

    To add a kind, write a file like `flat.py`, and add its class to `serving.index.kinds.KINDS` and
    its name to `ExportConfig.index`; `tests/contracts/registered/` then tests it.

    Args:
        index: FAISS index of this kind, as `build` makes it, with its search parameters set.

    Attributes:
        name: Name in the configuration and in a bundle's manifest.
        classes: Names of FAISS's classes that such an index and its parts may have.
        effort_names: Names of the search parameters.
        min_items: Least number of items that such an index can be built of.
        is_exact: Whether candidates are the nearest stored vectors, but for rounding.
        skips_excluded: Whether a search gets each query's excluded items and passes over them.
            Otherwise all queries are searched at once, for as many more candidates.
        slack: Candidates searched for beyond the wanted ones. FAISS sums in float32 in an order of
            its own, so that at the edge it may prefer the wrong one of two scores that differ in
            the last bits.
        index: The FAISS index.
        vectors: Stored vectors of the items.
        breadth: Units that a search visits.
    """

    name: ClassVar[str]
    classes: ClassVar[frozenset[str]]
    effort_names: ClassVar[tuple[str, ...]] = ()
    min_items: ClassVar[int] = 1
    is_exact: ClassVar[bool] = False
    skips_excluded: ClassVar[bool] = False
    slack: ClassVar[int] = 16

    index: Any
    vectors: StoredVectors
    breadth: Breadth

    @abstractmethod
    def __init__(self, index: faiss.Index) -> None: ...

    @classmethod
    @abstractmethod
    def build(cls, vectors: Floats, code: str) -> Self:
        """Builds an index of all items.

        Args:
            vectors: [items, dim], L2-normalised; may be memory-mapped.
            code: FAISS's name of the way to store a vector, one of `CODES`.
        """

    def efforts(self) -> list[Effort]:
        """Lists the search parameters to measure, from the least effort to the most."""
        return [{}]

    def set_effort(self, effort: Effort) -> None:
        """Sets the search parameters in the FAISS index, with which it is written."""
        assert not effort

    @abstractmethod
    def search(
        self, queries: Floats, wanted: int, breadth: int, selector: Any
    ) -> tuple[Floats, Ints]:
        """Finds candidates.

        Args:
            queries: [queries, dim].
            wanted: Number of candidates for each query.
            breadth: Units to visit.
            selector: FAISS's IDSelector of items that may be candidates; None: all.

        Returns:
            FAISS's scores and the items, [queries, wanted], best first; -1 where there are no more.
        """

    def near(self, query: Floats, wanted: int, excluded: Ints) -> Ints | None:
        """Finds items for a query as a tuned search does, before it scores them again.

        Args:
            query: [1, dim].
            wanted: Number of candidates that a search would return.
            excluded: Items that are none of them.

        Returns:
            The items that it would score; None where a search is to be made instead.
        """
        return None

    @abstractmethod
    def extended(self, kept: Ints, new_vectors: Floats) -> Self | None:
        """Copies the index, with fewer items and with new ones, which come last.

        Args:
            kept: Items that stay, ascending.
            new_vectors: [new items, dim], L2-normalised.

        Returns:
            None where it is time to build an index anew.
        """


def lists_for(items: int) -> int:
    """Returns the number of inverted lists for a catalogue: four times the root of its size.

    https://github.com/facebookresearch/faiss/wiki/Guidelines-to-choose-an-index
    """
    return max(1, min(round(4 * items**0.5), items // _TRAINED_PER_LIST))


def fill(index: Any, vectors: Floats) -> None:
    """Trains a FAISS index by a sample of the vectors, and adds all of them."""
    trained = max(_LEAST_TRAINED, _TRAINED_PER_LIST * lists_for(len(vectors)))
    index.train(sample(vectors, trained))
    for block in blocks(vectors):
        index.add(block)


def copy_in_memory(index: Any) -> Any:
    """Copies an index into memory: FAISS ends the process where a mapped index is changed."""
    with TemporaryDirectory() as directory:
        path = str(Path(directory) / "index")
        faiss.write_index(index, path)
        return faiss.read_index(path)


def keep_only(index: Any, kept: Ints) -> None:
    """Removes all other items from a FAISS index; the kept ones are renumbered in order."""
    removed = np.delete(np.arange(index.ntotal), kept)
    index.remove_ids(removed)


def selector_of(allowed: Bools | None, excluded: Ints) -> Any:
    """Makes FAISS's IDSelector of the allowed items that are not excluded; None where all are."""
    selector = None
    if allowed is not None:
        selector = _faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    if len(excluded):
        others = _faiss.IDSelectorNot(_faiss.IDSelectorBatch(excluded))
        selector = others if selector is None else _faiss.IDSelectorAnd(selector, others)
    return selector


def without(candidates: Ints, bag: Ints) -> Ints:
    """Drops -1 and the items of the bag."""
    candidates = candidates[candidates >= 0]
    if not len(bag):
        return candidates
    seen = np.sort(bag)
    return candidates[seen.take(seen.searchsorted(candidates), mode="clip") != candidates]
