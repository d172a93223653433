"""Metrics on the validation split, by which checkpoints, trials and baselines are selected."""

import numpy as np

from feature_store.core.columns import Floats, Ints, Jagged
from pipelines.prepared.reader import Prepared
from recsys.config.evaluation import CUTOFFS, SelectBy
from recsys.evaluation.metrics import Ranks, overall_ratios, ranks_of
from recsys.evaluation.ranking import Scorer, vector_scorer, whole_ranks
from recsys.evaluation.selection import FINER
from recsys.evaluation.task import Task, not_excluded, ranked_items

# Queries of which the finer metric is taken, at even intervals.
_FINER_QUERIES = 1_000
# Recall of a random order from which a recall is too coarse to select by. Where items are as many
# times more than the cutoff as this, nobody counts the few that a query does not rank.
_COARSE_FROM, _MANY_ITEMS = 0.5, 20


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
        Metrics by the names of `metric_names()`, and `FINER`; None where nothing is held out.

    Raises:
        UserError: A vector is not finite.
    """
    excluded = prepared.excluded("validation").take(queries)
    held_out = not_excluded(prepared.query_state.validation.take(queries), excluded)
    return ranking_metrics(vector_scorer(query_vectors, item_vectors), prepared, held_out, excluded)


def ranking_metrics(
    scorer: Scorer, prepared: Prepared, held_out: Jagged, excluded: Jagged
) -> dict[str, float | None]:
    """Ranks the whole corpus and measures where held-out items are.

    Args:
        scorer: Scorer of the queries.
        prepared: Prepared data.
        held_out: Held-out items, [queries].
        excluded: Items that are not ranked, [queries].

    Returns:
        Metrics as of `validation_metrics`.
    """
    top = ranked_items(scorer, prepared, excluded, max(CUTOFFS))
    metrics = overall_ratios(ranks_of(held_out, top)).values()
    return {**metrics, FINER: _finer(scorer, prepared, held_out, excluded)}


def _finer(scorer: Scorer, prepared: Prepared, held_out: Jagged, excluded: Jagged) -> float | None:
    """Computes the metric that breaks ties."""
    known = np.flatnonzero(held_out.lengths)
    rows = known[:: -(-len(known) // _FINER_QUERIES) or 1]
    pairs, items = held_out.take(rows), prepared.num_items
    rank = whole_ranks(
        lambda some: scorer(rows[some]),
        pairs,
        num_items=items,
        excluded=excluded.take(rows),
        is_candidate=prepared.is_current_item,
    )
    ranks = Ranks(pairs.row_of_value(), pairs.values, rank, len(rows))
    return overall_ratios(ranks, (items,)).values()[f"ndcg@{items}"]


def selection_warning(prepared: Prepared, select_by: SelectBy) -> str | None:
    """Returns a sentence where validation can hardly tell models apart; None where it can.

    Args:
        prepared: Prepared data.
        select_by: Metric of the selection.
    """
    task = Task.of(prepared, "validation")
    if not len(task.queries):
        return (
            "validation holds nothing out, so the last checkpoint is kept and patience has no "
            "effect; choose another data.split."
        )
    name, _, cutoff = select_by.partition("@")
    if name != "recall" or _MANY_ITEMS * int(cutoff) < prepared.is_current_item.sum():
        return None
    ranked = _items_to_rank(prepared, task.excluded)
    by_chance = float(np.minimum(1, int(cutoff) / np.maximum(ranked, 1)).mean())
    if by_chance < _COARSE_FROM:
        return None
    fault = f"is {by_chance:.2f} for items in a random order"
    if by_chance == 1:
        fault = "is 1 for every model"
    return (
        f"evaluation.select_by is {select_by}, which {fault}, because a query ranks at most "
        f"{ranked.max():,} items; {FINER} breaks ties, but ndcg@10 would tell models apart: set "
        "evaluation.select_by: ndcg@10."
    )


def _items_to_rank(prepared: Prepared, excluded: Jagged) -> Ints:
    """Counts the items that are ranked for each query, [queries]."""
    candidates = prepared.is_current_item
    items = len(candidates)
    distinct = np.unique(excluded.row_of_value() * np.int64(items) + excluded.values)
    left_out = distinct[candidates[distinct % items]] // items
    return int(candidates.sum()) - np.bincount(left_out, minlength=len(excluded))
