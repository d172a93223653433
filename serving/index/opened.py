"""Opening of an index file, which may be of somebody else.

FAISS refuses a file whose parts do not have the sizes that they need. What it leaves open is tested
here: that the file has the classes of its kind and no others, some of which name further files, and
that its parts agree. Numbers of items that are out of range would be read as addresses.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from feature_store.core.errors import UserError
from serving.index.vectors import array_at

# FAISS's names of an index's parts that are indexes of their own.
_PARTS = ("index", "base_index", "refine_index", "storage", "quantizer")
# No array of a file is larger than the file, and none that FAISS computes of it by more than this.
_COMPUTED_BYTES = 2**28
# Candidates that are scored again for each that is wanted, at most.
_MAX_REFINE_FACTOR = 1000

_faiss: Any = faiss


def opened_index(path: Path, classes: frozenset[str]) -> Any:
    """Maps a file of FAISS into memory.

    Args:
        path: The file.
        classes: Names of the classes that the index and its parts may have.

    Raises:
        UserError: It is no such file.
    """
    try:
        _faiss.set_deserialization_vector_byte_limit(4 * path.stat().st_size + _COMPUTED_BYTES)
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
        _check(index, classes)
    except (OSError, RuntimeError, MemoryError, ValueError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else "too large"
        raise UserError(f"{path} is no index of its kind: {reason}; export again.") from error
    return index


def _check(index: Any, classes: frozenset[str]) -> None:
    for part in _parts(index):
        name = type(part).__name__
        if name not in classes:
            raise ValueError(f"it has a part of the class {name}")
        if part.d != index.d or part.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise ValueError(f"{name} is of other vectors")
        if isinstance(part, faiss.IndexIVF):
            _check_lists(part, index)
        elif isinstance(part, faiss.IndexRefine) and not 1 <= part.k_factor <= _MAX_REFINE_FACTOR:
            raise ValueError(f"it scores {part.k_factor} candidates again for each")


def _parts(index: Any) -> Iterator[Any]:
    """Yields an index and all of its parts."""
    yield index
    for name in _PARTS:
        part = getattr(index, name, None)
        if part is None:
            continue
        part = faiss.downcast_index(part)
        # An inverted file has one centre for each list, and all else one entry for each item.
        expected = index.nlist if name == "quantizer" else index.ntotal
        if part.ntotal != expected:
            raise ValueError(f"{type(part).__name__} has {part.ntotal} entries, not {expected}")
        yield from _parts(part)


def _check_lists(lists: Any, index: Any) -> None:
    inverted = faiss.downcast_InvertedLists(lists.invlists)
    if type(inverted) is not _faiss.BlockInvertedLists:
        raise ValueError(f"its lists are of the class {type(inverted).__name__}")
    if inverted.nlist != lists.nlist:
        raise ValueError("its lists are not as many as their centres")
    listed = 0
    for number in range(lists.nlist):
        size = inverted.list_size(number)
        listed += size
        ids = array_at(inverted.get_ids(number), size) if size else np.empty(0, np.int64)
        if size and (ids.min() < 0 or ids.max() >= index.ntotal):
            raise ValueError("a list holds items that there are not")
    if listed != index.ntotal:
        raise ValueError(f"its lists hold {listed} items, not {index.ntotal}")
