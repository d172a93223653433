"""Builds a bundle's index: its kind by the catalogue's size, its parameters by measurement."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any

import faiss
import numpy as np

from feature_store.core.columns import Bools, Floats, Ints, Jagged
from feature_store.core.errors import UserError
from recsys.config.export import ExportConfig
from serving.index.index import RECALL_AT, TIED, IndexReport, ItemIndex, Kind, SearchPoint

# Up to here comparing with all takes a millisecond or two, so a graph would save nothing that a
# request notices; and it is exact, filters included.
_FLAT_UP_TO = 50_000

_CODE = {"float32": "Flat", "float16": "SQfp16", "int8": "SQ8"}

# Neighbours of a graph's node, and candidates looked at when it is added.
_LINKS, _EF_CONSTRUCTION = 32, 200
# Not below the number of answers that recall is measured at: FAISS would search as wide for it, and
# fewer answers would be worse than measured.
_EF_SEARCH = (128, 192, 256, 384, 512, 768, 1024, 2048)

_NPROBE = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
# Sums of 4-bit codes are rough: to score many candidates again is cheaper than finer codes.
_REFINE_FACTOR = (4, 8, 16, 32)
# Items in the scanned lists, for each that is asked for, at least.
_MET = 4
# Items that a list's quantiser is learnt from.
_LEAST_FOR_LISTS = 256
# Items that are learnt from: for each list, and at least.
_TRAINED_PER_LIST, _TRAINED = 64, 100_000

# Items of one step, so that no second copy of all vectors is made.
_BLOCK = 100_000
# Queries whose latency is measured.
_TIMED = 200
# By how much a vector's length may differ from 1.
_MAX_OFF_UNIT = 1e-3


def build_index(
    vectors: Floats, queries: Floats, settings: ExportConfig
) -> tuple[ItemIndex, IndexReport]:
    """An index of all items, with the fastest search that reaches the recall.

    Args:
        vectors: [items, dim], L2-normalised; read block by block, so they may be memory-mapped.
        queries: [queries, dim] of a sample, to measure with.
        settings: The kind, how vectors are stored, and the recall to reach.

    Raises:
        UserError: No search reaches the recall, or there are too few items for the kind.
    """
    kind = _kind_of(settings, len(vectors))
    exact = ExactTop.of(vectors, queries, RECALL_AT)
    index = _filled(kind, vectors, settings.vectors)
    stored_recall = _stored_recall(ItemIndex(index), exact, settings)
    curve = tuple(_measured(index, exact, parameters) for parameters in _parameters(kind, index))
    reaching = [point for point in curve if point.recall >= settings.min_ann_recall]
    if not reaching:
        raise UserError(_refusal(max(point.recall for point in curve), stored_recall, settings))
    chosen = min(reaching, key=lambda point: point.median_us)
    _set(index, chosen.model_dump(exclude_none=True))
    return ItemIndex(index), IndexReport(
        kind=kind,
        vectors=settings.vectors,
        chosen=chosen,
        stored_recall=stored_recall,
        memory_bytes=_bytes(index),
        curve=curve,
    )


def recall_by_slice(
    index: ItemIndex,
    vectors: Floats,
    queries: Floats,
    slices: Mapping[str, Bools],
    k: int = RECALL_AT,
) -> dict[str, float]:
    """Of the items of a slice that are among the exact top k, the share that the index finds.

    An answer that is as near as the last of the top k counts for one of these that is not found.

    Args:
        index: Of the vectors.
        vectors: [items, dim] float32.
        queries: [queries, dim] of a sample.
        slices: By name, which items are of it, [items].
        k: Of all items, not of a slice's.

    Returns:
        By name; without slices of which no item is among any query's top k.
    """
    exact = ExactTop.of(vectors, queries, k)
    is_found = exact.found(_nearest(index, queries, k))
    shares = {}
    for name, is_in_slice in slices.items():
        is_asked = is_in_slice[exact.items]
        if is_asked.any():
            shares[name] = float(is_found[is_asked].mean())
    return shares


def require_inner_product(index: ItemIndex, vectors: Floats) -> None:
    """Refuses an index whose scores would not be cosines.

    Args:
        index: Of the vectors.
        vectors: [items, dim].

    Raises:
        UserError: FAISS compares by another metric, or a vector's length is not 1.
    """
    if index.index.metric_type != faiss.METRIC_INNER_PRODUCT:
        raise UserError(
            f"the index compares by FAISS's metric {index.index.metric_type}, expected the inner "
            "product; export the model again."
        )
    lengths = np.concatenate([np.linalg.norm(block, axis=1) for block in _blocks(vectors)])
    off = np.abs(lengths - 1).max()
    if not off <= _MAX_OFF_UNIT:
        raise UserError(
            f"the length of an item's vector differs by {off:.2g} from 1, expected at most "
            f"{_MAX_OFF_UNIT}; L2-normalise item vectors before they are indexed."
        )


def lists_for(items: int) -> int:
    """How many inverted lists suit so many items: four times the root, as FAISS's guidelines say.

    https://github.com/facebookresearch/faiss/wiki/Guidelines-to-choose-an-index
    """
    return max(1, min(round(4 * items**0.5), items // _TRAINED_PER_LIST))


@dataclass(frozen=True)
class ExactTop:
    """The k nearest items of sampled queries, by exact search.

    Attributes:
        vectors: [items, dim] float32.
        queries: [queries, dim].
        items: [queries, k], best first.
        scores: [queries, k].
    """

    vectors: Floats
    queries: Floats
    items: Ints
    scores: Floats

    @classmethod
    def of(cls, vectors: Floats, queries: Floats, k: int) -> "ExactTop":
        """Searches block by block; k at most as many as there are."""
        items, scores = _top(_blocks(vectors), queries, min(k, len(vectors)))
        return cls(vectors, queries, items, scores)

    def found(self, answers: Jagged) -> Bools:
        """Which of the nearest items are among the answers, [queries, k].

        One that is as near as the last one also counts where an equal answer is in its place.
        """
        is_found = np.zeros(self.items.shape, np.bool_)
        for row, (expected, scores) in enumerate(zip(self.items, self.scores, strict=True)):
            answer = answers.values[answers.offsets[row] : answers.offsets[row + 1]]
            is_found[row] = np.isin(expected, answer)
            others = self.vectors[np.setdiff1d(answer, expected)] @ self.queries[row]
            equal = np.count_nonzero(others >= scores[-1] - TIED)
            tied = np.flatnonzero(~is_found[row] & (scores <= scores[-1] + TIED))
            is_found[row, tied[:equal]] = True
        return is_found


def _kind_of(settings: ExportConfig, items: int) -> Kind:
    kind: Kind
    if settings.index != "auto":
        kind = settings.index
    else:
        kind = "flat" if items <= _FLAT_UP_TO else "ivf_pq"
    if kind == "ivf_pq" and items < _LEAST_FOR_LISTS:
        raise UserError(
            f"export.index ivf_pq needs at least {_LEAST_FOR_LISTS} items to learn from, but there "
            f"are {items}; set it to flat."
        )
    return kind


def _filled(kind: Kind, vectors: Floats, stored: str) -> Any:
    items, dim = vectors.shape
    code, list_count = _CODE[stored], lists_for(items)
    recipe = {
        "flat": code,
        "hnsw": f"HNSW{_LINKS},{code}",
        # 4 bits for each number of a vector: such sums are looked up in registers, 32 items at a
        # time (Andre et al. 2015).
        "ivf_pq": f"IVF{list_count},PQ{dim}x4fs,Refine({code})",
    }
    index: Any = faiss.index_factory(dim, recipe[kind], faiss.METRIC_INNER_PRODUCT)
    if kind == "hnsw":
        index.hnsw.efConstruction = _EF_CONSTRUCTION
    if kind == "ivf_pq":
        lists = _lists(index)
        # Otherwise FAISS warns on standard error of small samples.
        lists.cp.min_points_per_centroid = lists.pq.cp.min_points_per_centroid = 1
    index.train(_sample(vectors, max(_TRAINED, _TRAINED_PER_LIST * list_count)))
    for block in _blocks(vectors):
        index.add(block)
    return index


def _sample(vectors: Floats, size: int) -> Floats:
    if len(vectors) <= size:
        return np.ascontiguousarray(vectors, np.float32)
    rows = np.random.default_rng(0).choice(len(vectors), size, replace=False)
    return np.ascontiguousarray(vectors[np.sort(rows)], np.float32)


def _blocks(vectors: Floats) -> Iterator[Floats]:
    for start in range(0, len(vectors), _BLOCK):
        yield np.ascontiguousarray(vectors[start : start + _BLOCK], np.float32)


def _top(blocks: Iterable[Floats], queries: Floats, k: int) -> tuple[Ints, Floats]:
    heap = faiss.ResultHeap(len(queries), k, keep_max=True)
    start = 0
    for block in blocks:
        scores, items = faiss.knn(
            queries, block, min(k, len(block)), metric=faiss.METRIC_INNER_PRODUCT
        )
        heap.add_result(scores, items + start)
        start += len(block)
    heap.finalize()
    return heap.I, heap.D


def _stored_recall(index: ItemIndex, exact: ExactTop, settings: ExportConfig) -> float:
    if settings.vectors == "float32":
        return 1.0
    everything = np.arange(len(index))
    blocks = (index.vectors_of(everything[at : at + _BLOCK]) for at in range(0, len(index), _BLOCK))
    items, _ = _top(blocks, exact.queries, exact.items.shape[1])
    lengths = np.full(len(items), items.shape[1])
    return float(exact.found(Jagged.from_lengths(items.reshape(-1), lengths)).mean())


def _parameters(kind: Kind, index: Any) -> list[dict[str, int]]:
    if kind == "hnsw":
        return [{"ef_search": ef_search} for ef_search in _EF_SEARCH]
    if kind == "ivf_pq":
        lists = _lists(index).nlist
        # Too few items would be met, and where an answer is short all are compared.
        least = _MET * RECALL_AT * lists / index.ntotal
        some = [nprobe for nprobe in _NPROBE if least <= nprobe < lists]
        return [
            {"nprobe": nprobe, "refine_factor": factor}
            for nprobe, factor in product(some or [lists], _REFINE_FACTOR)
        ]
    return [{}]


def _lists(index: Any) -> Any:
    return faiss.downcast_index(index.base_index)


def _set(index: Any, parameters: Mapping[str, int]) -> None:
    if "ef_search" in parameters:
        index.hnsw.efSearch = parameters["ef_search"]
    if "nprobe" in parameters:
        _lists(index).nprobe = parameters["nprobe"]
        index.k_factor = parameters["refine_factor"]


def _measured(index: Any, exact: ExactTop, parameters: dict[str, int]) -> SearchPoint:
    _set(index, parameters)
    searched, k = ItemIndex(index), exact.items.shape[1]
    recall = float(exact.found(_nearest(searched, exact.queries, k)).mean())
    nanoseconds = []
    with _one_thread():
        for row in range(min(len(exact.queries), _TIMED)):
            start = time.thread_time_ns()
            _nearest(searched, exact.queries[row : row + 1], k)
            nanoseconds.append(time.thread_time_ns() - start)
    median, slowest = (np.percentile(nanoseconds, (50, 99)) / 1000).tolist()
    return SearchPoint(recall=recall, median_us=median, p99_us=slowest, **parameters)


def _nearest(index: ItemIndex, queries: Floats, k: int) -> Jagged:
    nothing = Jagged(np.empty(0, np.int64), np.zeros(len(queries) + 1, np.int64))
    return index.search(queries, k, nothing)[0]


@contextmanager
def _one_thread() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _bytes(index: Any) -> int:
    """What the index would take as a file."""
    sizes: list[int] = []
    untyped: Any = faiss  # Its stubs lack the writer.
    faiss.write_index(index, untyped.PyCallbackIOWriter(lambda block: sizes.append(len(block))))
    return sum(sizes)


def _refusal(recall: float, stored_recall: float, settings: ExportConfig) -> str:
    advice = "lower export.min_ann_recall or train longer"
    if stored_recall < settings.min_ann_recall:
        advice = f"{settings.vectors} vectors lose too much: set export.vectors to float32"
    return (
        f"the index finds {recall:.4f} of the exact {RECALL_AT} nearest items, expected at least "
        f"{settings.min_ann_recall}: nothing was exported; {advice}."
    )
