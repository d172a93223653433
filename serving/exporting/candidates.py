"""The number of candidates that the fused ranking needs, measured on validation queries."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from feature_store.core.columns import Floats, Ints, Jagged
from pipelines.prepared.reader import Prepared
from recsys.channels.sources import Sources
from recsys.data.builder import BatchBuilder
from recsys.evaluation.metrics import overall_ratios, ranks_of
from recsys.evaluation.task import Task, ranked_items
from recsys.fusion.fused import Fused
from recsys.fusion.scorer import fused_scorer
from recsys.model.encode import encode_queries
from recsys.model.two_tower import TwoTower
from serving.bundle.manifest import MAX_LOSS, FusionReport
from serving.index.index import ItemIndex
from serving.recommend.fused.asked import Asked
from serving.recommend.fused.fused_search import FusedSearch

_SPLIT = "validation"
_QUERIES = 1000
_AT = 50
# Nearest items by the model beyond the wanted ones, to choose from.
_CANDIDATES = (32, 100, 300, 1000)


@dataclass(frozen=True)
class Validation:
    """Queries of the validation split with their held-out items, [queries].

    Attributes:
        task: The queries and items.
        sources: Items of the queries that channels read.
        vectors: Query vectors of the trained model, [queries, dim].
    """

    task: Task
    sources: Sources
    vectors: Floats

    @classmethod
    def draw(cls, prepared: Prepared, model: TwoTower, builder: BatchBuilder) -> Self:
        """Draws queries, and computes their vectors.

        Args:
            prepared: Prepared data with a validation split.
            model: Model that is served.
            builder: Builder of its batches.
        """
        task = Task.of(prepared, _SPLIT)
        random = np.random.default_rng(0)
        rows = random.choice(len(task.queries), min(len(task.queries), _QUERIES), replace=False)
        task = task.take(np.sort(rows))
        context = prepared.context_of(task.queries, _SPLIT)
        vectors = encode_queries(
            model, builder, task.queries, task.history, context, torch.device("cpu")
        )
        own = prepared.own_items.take(task.queries)
        return cls(task, Sources(task.history, task.known, own), vectors)


def measure_candidates(
    prepared: Prepared, validation: Validation, fused: Fused, index: ItemIndex, indexed: Ints
) -> FusionReport:
    """Finds the fewest candidates that cost less than `MAX_LOSS` of recall@50, or the most.

    Args:
        prepared: The prepared data.
        validation: Queries to measure with.
        fused: Channels and weights.
        index: Index of the bundle.
        indexed: Item at each position of the index.
    """
    task, weights = validation.task, fused.info.weights
    if not len(task.queries):
        return FusionReport(
            weights=weights, candidates=_CANDIDATES[-1], exact_recall=None, recall=None
        )
    item_vectors = np.zeros((prepared.num_items, validation.vectors.shape[1]), np.float32)
    item_vectors[indexed] = index.vectors_of(np.arange(len(index)))
    scorer = fused_scorer(
        fused,
        weights,
        sources=validation.sources,
        query_vectors=validation.vectors,
        item_vectors=item_vectors,
    )
    exact = _recall(task, ranked_items(scorer, prepared, task.excluded, _AT))
    positions = np.full(prepared.num_items, -1)
    positions[indexed] = np.arange(len(indexed))
    excluded = Jagged(positions[task.excluded.values], task.excluded.offsets)
    excluded = excluded.keep(excluded.values >= 0)
    asked = Asked(validation.vectors, validation.sources, excluded, None)
    for candidates in _CANDIDATES:
        search = FusedSearch(fused, index, indexed, positions, candidates)
        best, _ = search.search(asked, _AT, weights)
        top = np.full((len(task.queries), _AT), -1, np.int64)
        column = np.arange(len(best.values)) - np.repeat(best.offsets[:-1], best.lengths)
        top[best.row_of_value(), column] = indexed[best.values]
        recall = _recall(task, top)
        report = FusionReport(
            weights=weights, candidates=candidates, exact_recall=exact, recall=recall
        )
        if report.loss < MAX_LOSS:
            break
    return report


def _recall(task: Task, top: Ints) -> float:
    return overall_ratios(ranks_of(task.held_out, top)).values()[f"recall@{_AT}"] or 0.0
