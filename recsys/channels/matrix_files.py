"""Sparse matrices as files that are mapped into memory, and what is done with them part by part."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

from feature_store.core.files import write_array
from recsys.channels.neighbours import Neighbours

_ARRAYS = ("data", "indices", "indptr")


def write_matrix(directory: Path, matrix: sparse.csr_matrix) -> None:
    """Writes a matrix that `read_matrix` maps into memory."""
    arrays = {name: getattr(matrix, name) for name in _ARRAYS}
    for name, array in (*arrays.items(), ("shape", np.array(matrix.shape))):
        write_array(directory / f"{name}.npy", array)


def read_matrix(directory: Path) -> sparse.csr_matrix:
    """Maps a matrix into memory."""
    # The library takes writable arrays alone, so pages are mapped copy-on-write.
    *arrays, shape = (
        np.asarray(np.load(directory / f"{name}.npy", mmap_mode="c"))
        for name in (*_ARRAYS, "shape")
    )
    return sparse.csr_matrix(tuple(arrays), shape.tolist(), copy=False)


def stack(parts: Sequence[Path], directory: Path, itself: float | None = None) -> None:
    """Writes a matrix that consists of the rows of others, one of which is in memory at a time.

    Args:
        parts: Directories of square matrices' ranges of rows, in order.
        directory: Directory to write.
        itself: Factor of the matrix, to which the identity is then added; None: neither. The
            matrix has no diagonal.
    """
    matrices = [read_matrix(part) for part in parts]
    rows = sum(matrix.shape[0] for matrix in matrices)
    entries = sum(matrix.nnz for matrix in matrices) + (rows if itself is not None else 0)
    directory.mkdir(parents=True, exist_ok=True)
    data, indices = (
        np.lib.format.open_memmap(directory / f"{name}.npy", "w+", kind, (entries,))
        for name, kind in (("data", np.float32), ("indices", np.int32))
    )
    row, entry, lengths = 0, 0, np.empty(rows, np.int64)
    for matrix in matrices:
        changed = matrix if itself is None else _with_itself(matrix, itself, row)
        span = slice(entry, entry + changed.nnz)
        data[span], indices[span] = changed.data, changed.indices
        lengths[row : row + changed.shape[0]] = np.diff(changed.indptr)
        row, entry = row + changed.shape[0], span.stop
    data.flush()
    indices.flush()
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    kind = np.int32 if entries <= np.iinfo(np.int32).max else np.int64
    write_array(directory / "indptr.npy", offsets.astype(kind))
    write_array(directory / "shape.npy", np.array([rows, rows]))


def _with_itself(matrix: sparse.csr_matrix, factor: float, first: int) -> sparse.csr_matrix:
    """Returns rows of factor * matrix + identity, whose first row has the given number."""
    rows, columns = matrix.shape
    identity = sparse.eye(rows, columns, k=first, dtype=np.float32, format="csr")
    return (np.float32(factor) * matrix + identity).tocsr()


def transpose(parts: Sequence[Path], directory: Path) -> None:
    """Writes the neighbours of each source, one range of candidates in memory at a time.

    Args:
        parts: Directories of the lists of ranges of candidates, [candidates, sources], in order.
        directory: Directory that `Neighbours.read` reads.
    """
    matrices = [read_matrix(part) for part in parts]
    count = matrices[0].shape[1] if matrices else 0
    lengths = np.zeros(count, np.int64)
    for matrix in matrices:
        lengths += np.bincount(matrix.indices, minlength=count)
    neighbours = Neighbours.create(directory, lengths)
    place, first = neighbours.lists.offsets[:-1].copy(), 0
    for matrix in matrices:
        columns = matrix.tocsc()
        of_column = np.diff(columns.indptr)
        within = np.arange(columns.nnz) - np.repeat(columns.indptr[:-1], of_column)
        at = np.repeat(place, of_column) + within
        neighbours.lists.values[at] = columns.indices + first
        neighbours.scores[at] = columns.data
        place += of_column
        first += matrix.shape[0]
