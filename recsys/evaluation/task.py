"""The task of an evaluation, and the ranking of its queries."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Ints, Jagged
from pipelines.prepared.reader import Prepared
from recsys.evaluation.draw import DRAWN_FROM, is_drawn
from recsys.evaluation.ranking import Scorer, top_items, top_items_on_ray


@dataclass(frozen=True)
class Task:
    """Queries and their held-out items; every column is jagged, with one row a query.

    Attributes:
        split: Name of the split.
        queries: Indices of the queries that have held-out items, [queries].
        held_out: Held-out items.
        known: Items that baselines may use, see `known_to_channels`.
        excluded: Items that are not ranked: those of the query's events unless `data.repeats` is
            allow, and the query itself where it is an item.
        history: Items of the histories, oldest first.
        already_seen: Number of held-out pairs left out because the query had the item before.
        itself: Number of held-out pairs left out because the item is the query itself.
        repeated: Number of held-out pairs whose query had the item before.
        drawn_from: Number of queries of the split of which some were drawn; None: it has no more.
    """

    split: str
    queries: Ints
    held_out: Jagged
    known: Jagged
    excluded: Jagged
    history: Jagged
    already_seen: int
    itself: int
    repeated: int
    drawn_from: int | None = None

    @classmethod
    def of(cls, prepared: Prepared, split: str, most: int | None = None) -> "Task":
        """Builds the task of a split.

        Args:
            prepared: The prepared data.
            split: Name of the split.
            most: Number of queries to draw where the split has more; None: all are taken.
        """
        state, excluded = prepared.query_state, prepared.excluded(split)
        everything, drawn_from = state.held_out(split), None
        asked = np.flatnonzero(everything.lengths)
        if most is not None and len(asked) > most:
            drawn_from, is_asked = len(asked), np.zeros(len(everything), np.bool_)
            is_asked[asked] = is_drawn(asked, most)
            everything = everything.keep(is_asked[everything.row_of_value()])
        others = not_excluded(everything, prepared.own_items)
        held_out = not_excluded(others, excluded)
        queries = np.flatnonzero(held_out.lengths)
        new = not_excluded(held_out, state.known(split))
        return cls(
            split=split,
            queries=queries,
            held_out=held_out.take(queries),
            known=known_to_channels(prepared, split).take(queries),
            excluded=excluded.take(queries),
            history=state.history(split).take(queries),
            already_seen=len(others.values) - len(held_out.values),
            itself=len(everything.values) - len(others.values),
            repeated=len(held_out.values) - len(new.values),
            drawn_from=drawn_from,
        )

    def take(self, rows: Ints) -> "Task":
        """Returns some of the queries; numbers of pairs that were left out stay those of all."""
        names = ("queries", "held_out", "known", "excluded", "history")
        taken = {name: getattr(self, name).take(rows) for name in names}
        return replace(self, **taken)

    @property
    def counts(self) -> dict[str, int]:
        """Counts of the queries, the held-out pairs, and those that are left out."""
        drawn = {} if self.drawn_from is None else {DRAWN_FROM: self.drawn_from}
        return drawn | {
            "queries": len(self.queries),
            "held_out": len(self.held_out.values),
            "already_seen": self.already_seen,
            "itself": self.itself,
            "repeated": self.repeated,
        }


def known_to_channels(prepared: Prepared, split: str) -> Jagged:
    """Returns the items of each query that baselines and channels may use, [queries].

    With histories of others these are those of training alone, which is all that the model sees.
    """
    is_others = prepared.manifest.data.history.kind == "others"
    return prepared.query_state.train if is_others else prepared.query_state.known(split)


def not_excluded(held_out: Jagged, excluded: Jagged) -> Jagged:
    """Returns the held-out items that can be found: those that the query does not exclude."""
    width = 1 + max(held_out.values.max(initial=0), excluded.values.max(initial=0))
    keys, seen = (
        column.row_of_value() * np.int64(width) + column.values for column in (held_out, excluded)
    )
    # By hashing the smaller side: several times as fast as `np.isin`.
    sought = pc.is_in(pa.array(seen), value_set=pa.array(keys)).to_numpy(zero_copy_only=False)
    is_seen = pc.is_in(pa.array(keys), value_set=pa.array(seen[sought]))
    return held_out.keep(~is_seen.to_numpy(zero_copy_only=False))


def ranked_items(
    scorer: Scorer, prepared: Prepared, excluded: Jagged, depth: int, tasks: int = 1
) -> Ints:
    """Ranks items, best first, [queries, depth]; with more than one task on Ray."""
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
