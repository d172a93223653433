"""Metrics on the validation split, by which training selects."""

from feature_store.core.columns import Floats, Ints
from pipelines.prepared.reader import Prepared
from recsys.config.evaluation import CUTOFFS
from recsys.evaluation.metrics import overall_ratios, ranks_of
from recsys.evaluation.ranking import vector_scorer
from recsys.evaluation.task import not_excluded, ranked_items


def validation_metrics(
    query_vectors: Floats, item_vectors: Floats, prepared: Prepared, queries: Ints
) -> dict[str, float | None]:
    """Ranks the whole corpus for the queries' validation items.

    Args:
        query_vectors: Query vectors, [queries, dim].
        item_vectors: Item vectors, [items, dim].
        prepared: Prepared data.
        queries: Indices of the queries, [queries].

    Returns:
        Metrics by the names of `metric_names()`; None where nothing is held out.

    Raises:
        UserError: A vector is not finite.
    """
    excluded = prepared.excluded("validation").take(queries)
    held_out = not_excluded(prepared.query_state.validation.take(queries), excluded)
    top = ranked_items(vector_scorer(query_vectors, item_vectors), prepared, excluded, max(CUTOFFS))
    return overall_ratios(ranks_of(held_out, top)).values()
