"""Adds items to an index and removes others without building it anew."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import faiss
import numpy as np

from feature_store.core.columns import Floats, Ints
from serving.index.build import lists_for
from serving.index.index import ItemIndex

# Of a graph's nodes: searches pass through the removed ones in vain.
_MOST_REMOVED = 0.2
# Lists are too long, and so slow, where a catalogue of this size would get so many times as many.
_MOST_LISTS = 2


def extended(index: ItemIndex, new_vectors: Floats, removed: Ints) -> ItemIndex | None:
    """An index without some items and with new ones, which come last; the given one stays.

    Items have the places that they would have in an index built anew, of
    `np.concatenate([np.delete(vectors, removed, axis=0), new_vectors])`: a caller treats its own
    arrays of items the same way. Search parameters, and the ranges of int8 vectors, stay: whether
    the recall is still reached is to be measured, as by `recall_by_slice`.

    Args:
        index: As built, read, or extended.
        new_vectors: [new items, dim], L2-normalised.
        removed: Places in the given index.

    Returns:
        None where it is time to build anew: too many of a graph's items are removed, or the
        catalogue has outgrown its lists.
    """
    kept = np.delete(np.arange(len(index)), removed)
    new_vectors = np.ascontiguousarray(new_vectors, np.float32)
    if index.kind == "hnsw":
        return _extended_graph(index.index, kept, new_vectors)
    if index.kind == "ivf_pq":
        return _extended_lists(index.index, kept, new_vectors)
    return _extended_flat(index.index, kept, new_vectors)


def _copied(index: Any) -> Any:
    """In memory that can grow: FAISS ends the process where a mapped index is changed."""
    with TemporaryDirectory() as directory:
        path = str(Path(directory) / "index")
        faiss.write_index(index, path)
        return faiss.read_index(path)


def _extended_flat(index: Any, kept: Ints, new_vectors: Floats) -> ItemIndex:
    copied = _copied(index)
    _keep_only(copied, kept)
    copied.add(new_vectors)
    return ItemIndex(copied)


def _extended_lists(index: Any, kept: Ints, new_vectors: Floats) -> ItemIndex | None:
    fitting = lists_for(len(kept) + len(new_vectors))
    if fitting > _MOST_LISTS * faiss.extract_index_ivf(index.base_index).nlist:
        return None
    copied = _copied(index)
    lists: Any = faiss.extract_index_ivf(copied.base_index)
    place = np.full(copied.ntotal, -1)
    place[kept] = np.arange(len(kept))
    for part in (lists, faiss.downcast_index(copied.refine_index)):
        _keep_only(part, kept)
    for number in range(lists.nlist):
        ids = faiss.rev_swig_ptr(lists.invlists.get_ids(number), lists.invlists.list_size(number))
        ids[:] = place[ids]
    copied.ntotal = len(kept)
    copied.add(new_vectors)
    return ItemIndex(copied)


def _extended_graph(index: Any, kept: Ints, new_vectors: Floats) -> ItemIndex | None:
    """A graph cannot lose nodes: those of removed items stay, as ways, and are never answers."""
    total = index.ntotal + len(new_vectors)
    if len(kept) + len(new_vectors) < (1 - _MOST_REMOVED) * total:
        return None
    copied = _copied(index)
    graph, nodes = copied, kept
    if isinstance(copied, faiss.IndexIDMap):
        graph = faiss.downcast_index(copied.index)
        nodes = np.flatnonzero(faiss.vector_to_array(copied.id_map) >= 0)[kept]
    graph.add(new_vectors)
    nodes = np.concatenate([nodes, np.arange(index.ntotal, total)])
    if len(nodes) == total:
        return ItemIndex(graph)
    items = np.full(total, -1)
    items[nodes] = np.arange(len(nodes))
    # FAISS makes a map of an empty index only.
    mapped: Any = faiss.IndexIDMap(faiss.IndexFlatIP(graph.d))
    mapped.index, mapped.ntotal, mapped.referenced_objects = graph, total, [copied]
    faiss.copy_array_to_vector(items, mapped.id_map)
    return ItemIndex(mapped)


def _keep_only(index: Any, kept: Ints) -> None:
    removed = np.delete(np.arange(index.ntotal), kept)
    index.remove_ids(removed)
