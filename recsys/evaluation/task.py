"""What an evaluation asks, and the ranking that answers it."""

from dataclasses import dataclass

import numpy as np

from feature_store.core.columns import Ints, Jagged
from pipelines.prepared.reader import Prepared
from recsys.evaluation.ranking import Scorer, top_items, top_items_on_ray


@dataclass(frozen=True)
class Task:
    """What is to be found, by whom; every column is jagged, with one row a query.

    Attributes:
        split: In which.
        queries: [queries] indices of those with something to find.
        held_out: Items to find.
        known: Items that baselines are told of: with histories of others those of training alone,
            which is all that the model sees.
        excluded: Items that are not ranked: those that the query has, and the query itself where
            it is an item.
        history: What it is asked with, oldest first.
        already_seen: Held-out pairs that were left out because the query excludes the item.
    """

    split: str
    queries: Ints
    held_out: Jagged
    known: Jagged
    excluded: Jagged
    history: Jagged
    already_seen: int

    @classmethod
    def of(cls, prepared: Prepared, split: str) -> "Task":
        """All queries of a split."""
        state, excluded = prepared.query_state, prepared.excluded(split)
        held_out = not_excluded(state.held_out(split), excluded)
        queries = np.flatnonzero(held_out.lengths)
        already_seen = len(state.held_out(split).values) - len(held_out.values)
        is_others = prepared.manifest.data.history.kind == "others"
        known = state.train if is_others else state.known(split)
        return cls(
            split=split,
            queries=queries,
            held_out=held_out.take(queries),
            known=known.take(queries),
            excluded=excluded.take(queries),
            history=state.history(split).take(queries),
            already_seen=already_seen,
        )


def not_excluded(held_out: Jagged, excluded: Jagged) -> Jagged:
    """Held-out items that can be found: those that the same query does not exclude."""
    width = 1 + max(held_out.values.max(initial=0), excluded.values.max(initial=0))
    keys, seen = (
        column.row_of_value() * np.int64(width) + column.values for column in (held_out, excluded)
    )
    return held_out.keep(~np.isin(keys, seen))


def ranked_items(
    scorer: Scorer, prepared: Prepared, excluded: Jagged, depth: int, tasks: int = 1
) -> Ints:
    """[queries, depth] items, best first; with more than one task on Ray."""
    candidates = prepared.is_current_item
    if tasks == 1:
        return top_items(
            scorer,
            num_items=prepared.num_items,
            excluded=excluded,
            k=depth,
            is_candidate=candidates,
        )
    return top_items_on_ray(
        scorer,
        num_items=prepared.num_items,
        excluded=excluded,
        k=depth,
        is_candidate=candidates,
        tasks=tasks,
    )
