"""Vectors as an index stores them: the codes, blocks of them, and how they are decoded."""

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np

from feature_store.core.columns import Floats, Ints

# FAISS's names of the ways to store a vector's numbers.
CODES = {"float32": "Flat", "float16": "SQfp16", "int8": "SQ8"}
# FAISS's names of the classes that store them.
STORAGES = frozenset({"IndexFlat", "IndexFlatIP", "IndexScalarQuantizer"})
_INT8 = faiss.ScalarQuantizer.QT_8bit

# Items of one step, so that no second copy of all vectors is made.
BLOCK = 100_000


def blocks(vectors: Floats) -> Iterator[Floats]:
    """Yields consecutive rows of a matrix, which may be memory-mapped, as float32 in memory."""
    for start in range(0, len(vectors), BLOCK):
        yield np.ascontiguousarray(vectors[start : start + BLOCK], np.float32)


def sample(vectors: Floats, size: int) -> Floats:
    """Draws rows without repetition, in ascending order; the same ones each time."""
    if len(vectors) <= size:
        return np.ascontiguousarray(vectors, np.float32)
    rows = np.random.default_rng(0).choice(len(vectors), size, replace=False)
    return np.ascontiguousarray(vectors[np.sort(rows)], np.float32)


def array_at(pointer: Any, size: int) -> Any:
    """Returns an array over memory of an index, which is that of its file where it is mapped.

    The function is one of FAISS's helpers for its own wrappers; seen in FAISS 1.15.

    Args:
        pointer: Pointer of SWIG to numbers, which must outlive the array.
        size: Number of numbers.
    """
    return faiss.rev_swig_ptr(pointer, size)


class StoredVectors:
    """The stored vectors of an index, [items, dim], decoded when they are read.

    FAISS's own `reconstruct_batch` takes a microsecond for each compressed vector.

    Args:
        storage: IndexFlat or IndexScalarQuantizer, which must outlive this object.
        rows: Row of each item in the storage, [items]; None: items are in order.
    """

    def __init__(self, storage: Any, rows: Ints | None = None) -> None:
        if storage.codes.size() != storage.ntotal * storage.code_size:
            raise ValueError("an index stores fewer vectors than it has items")
        codes = array_at(storage.codes.data(), storage.ntotal * storage.code_size)
        self._codes = codes.reshape(storage.ntotal, storage.code_size)
        self._rows = rows
        self._float = np.float32 if isinstance(storage, faiss.IndexFlat) else np.float16
        self._is_int8 = self._float == np.float16 and storage.sq.qtype == _INT8
        if self._is_int8:
            self._least, width = faiss.vector_to_array(storage.sq.trained).reshape(2, -1)
            self._step = width / np.float32(255)

    def __len__(self) -> int:
        return len(self._codes if self._rows is None else self._rows)

    def blocks(self) -> Iterator[Floats]:
        """Yields consecutive vectors."""
        everything = np.arange(len(self))
        yield from (self[everything[at : at + BLOCK]] for at in range(0, len(self), BLOCK))

    def between(self, items: slice) -> Floats:
        """Returns consecutive vectors, without a copy where they are stored as they are."""
        if self._rows is None:
            return self._decoded(self._codes[items])
        return self._decoded(self._codes[self._rows[items]])

    def __getitem__(self, items: Ints) -> Floats:
        return self._decoded(
            self._codes.take(items if self._rows is None else self._rows[items], axis=0)
        )

    def _decoded(self, codes: Any) -> Floats:
        if self._is_int8:
            return (codes + np.float32(0.5)) * self._step + self._least
        return codes.view(self._float).astype(np.float32, copy=False)
