"""Builds a bundle's index: its kind by the catalogue's size, its parameters by measurement."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import faiss
import numpy as np

from feature_store.core.columns import Floats
from feature_store.core.errors import UserError
from recsys.config.export import ExportConfig
from serving.index.index import ItemIndex
from serving.index.kind import RECALL_AT, Effort, IndexKind
from serving.index.kinds import kind_for
from serving.index.recall import ExactTop, nearest_items
from serving.index.report import IndexReport, SearchPoint
from serving.index.vectors import CODES, blocks

# Queries whose latency is measured.
_TIMED_QUERIES = 200
# Difference of a vector's length from 1 that is put down to rounding.
_MAX_OFF_UNIT = 1e-3


def build_index(
    vectors: Floats, queries: Floats, settings: ExportConfig
) -> tuple[ItemIndex, IndexReport]:
    """Builds an index of all items, with the fastest search that reaches the recall.

    Args:
        vectors: [items, dim], L2-normalised; read block by block, so they may be memory-mapped.
        queries: [queries, dim] of a sample, to measure with.
        settings: The kind, how vectors are stored, and the recall to reach.

    Raises:
        UserError: No search reaches the recall, or there are too few items for the kind.
    """
    exact = ExactTop.of(vectors, queries, RECALL_AT)
    kind = kind_for(settings.index, len(vectors)).build(vectors, CODES[settings.vectors])
    index = ItemIndex(kind)
    stored_recall = 1.0 if settings.vectors == "float32" else exact.stored_recall(index)
    curve = tuple(_measure(kind, exact, effort) for effort in kind.efforts())
    reaching = [point for point in curve if point.recall >= settings.min_ann_recall]
    if not reaching:
        raise UserError(_refusal(max(point.recall for point in curve), stored_recall, settings))
    chosen = min(reaching, key=lambda point: point.median_us)
    kind.set_effort(chosen.effort)
    return index, IndexReport(
        kind=kind.name,
        vectors=settings.vectors,
        chosen=chosen,
        stored_recall=stored_recall,
        memory_bytes=_file_size(kind.index),
        curve=curve,
    )


def require_inner_product(index: ItemIndex, vectors: Floats) -> None:
    """Refuses an index whose scores would not be cosines.

    Args:
        index: Index of the vectors.
        vectors: [items, dim].

    Raises:
        UserError: FAISS compares by another metric, or a vector's length is not 1.
    """
    metric = index.kind.index.metric_type
    if metric != faiss.METRIC_INNER_PRODUCT:
        raise UserError(
            f"the index compares by FAISS's metric {metric}, expected the inner product; export "
            "the model again."
        )
    lengths = np.concatenate([np.linalg.norm(block, axis=1) for block in blocks(vectors)])
    off = np.abs(lengths - 1).max()
    if not off <= _MAX_OFF_UNIT:
        raise UserError(
            f"the length of an item's vector differs by {off:.2g} from 1, expected at most "
            f"{_MAX_OFF_UNIT}; L2-normalise item vectors before they are indexed."
        )


def _measure(kind: IndexKind, exact: ExactTop, effort: Effort) -> SearchPoint:
    """Measures recall and latency, and leaves the effort set."""
    kind.set_effort(effort)
    index, k = ItemIndex(kind), exact.items.shape[1]
    recall = exact.recall(index)
    nanoseconds = []
    with _one_thread():
        for row in range(min(len(exact.queries), _TIMED_QUERIES)):
            start = time.thread_time_ns()
            nearest_items(index, exact.queries[row : row + 1], k)
            nanoseconds.append(time.thread_time_ns() - start)
    median, slowest = (np.percentile(nanoseconds, (50, 99)) / 1000).tolist()
    return SearchPoint(recall=recall, median_us=median, p99_us=slowest, **effort)


@contextmanager
def _one_thread() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def _file_size(index: Any) -> int:
    """Counts the bytes that the index takes as a file."""
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
