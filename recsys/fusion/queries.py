"""Queries of a split, as the fused ranking and its parts score items for them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from feature_store.core.columns import Bools, Floats
from pipelines.prepared.reader import Prepared
from recsys.channels.sources import Sources
from recsys.evaluation.ranking import Scorer, vector_scorer
from recsys.evaluation.results import MODEL, TOWERS, TREND
from recsys.evaluation.task import Task
from recsys.fusion.fused import Fused
from recsys.fusion.scorer import fused_scorer
from recsys.fusion.weights import Weights


@dataclass(frozen=True)
class FusedQueries:
    """Queries with all that a score reads.

    Attributes:
        task: Queries, their histories and held-out items.
        sources: Items of the queries that channels read.
        query_vectors: Towers' vectors of the queries, [queries, dim].
        item_vectors: Towers' vectors of all items, [items, dim].
        is_ranked: Whether an item is an answer, [items].
    """

    task: Task
    sources: Sources
    query_vectors: Floats
    item_vectors: Floats
    is_ranked: Bools

    @classmethod
    def of(
        cls, prepared: Prepared, task: Task, query_vectors: Floats, item_vectors: Floats
    ) -> "FusedQueries":
        """Joins the queries of a task with their vectors."""
        own = prepared.own_items.take(task.queries)
        sources = Sources(task.history, task.known, own)
        return cls(task, sources, query_vectors, item_vectors, prepared.is_current_item)

    def scorer(self, fused: Fused, weights: Weights) -> Scorer:
        """Returns a scorer of these queries."""
        return fused_scorer(
            fused,
            weights,
            sources=self.sources,
            query_vectors=self.query_vectors,
            item_vectors=self.item_vectors,
        )


def methods_of(fused: Fused | None, queries: FusedQueries) -> dict[str, Callable[[], Scorer]]:
    """Returns how to score by the model, and by each of its parts where they are fused.

    Args:
        fused: Fitted channels with their weights; None where the towers rank alone.
        queries: Queries to score for.
    """
    towers = partial(vector_scorer, queries.query_vectors, queries.item_vectors)
    if fused is None:
        return {MODEL: towers}
    channels = {
        name: partial(queries.scorer, fused, Weights(model=0.0, channels={name: 1.0}))
        for name in fused.info.channels
    }
    if fused.trend.any():
        channels[TREND] = partial(queries.scorer, fused, Weights(model=0.0, trend=1.0))
    together = partial(queries.scorer, fused, fused.info.weights)
    return {MODEL: together, TOWERS: towers, **channels}
