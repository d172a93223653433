"""Queries that one of two runs answers better, with their lists."""

from collections.abc import Sequence

import pyarrow as pa

from feature_store.core.settings import Frozen
from recsys.evaluation.metrics import Doubles

_MOST, _SHOWN = 5, 10


class ExampleQuery(Frozen):
    """A query that one run answers better.

    Attributes:
        query: Query id.
        change: Change of the verdict's metric.
        held_out: Ids of its held-out items; the one whose rank differs most comes first.
        before: First item ids of the first run's list.
        after: First item ids of the second run's list.
        ranks: Ranks of the first held-out item in the lists of both runs, from 1; None where it is
            not in the list.
    """

    query: str
    change: float
    held_out: tuple[str, ...]
    before: tuple[str, ...]
    after: tuple[str, ...]
    ranks: tuple[int | None, int | None] = (None, None)


def example_queries(
    left: pa.Table, right: pa.Table, change: Doubles, order: Sequence[int]
) -> tuple[ExampleQuery, ...]:
    """Returns the first few queries.

    Args:
        left: Rows of the first run.
        right: Rows of the second run, of the same queries.
        change: Change of the metric, [queries].
        order: Rows, those to show first.
    """
    chosen = order[:_MOST]
    rows = pa.array(chosen, pa.int64())
    mine, theirs = left.take(rows).to_pylist(), right.take(rows).to_pylist()
    return tuple(
        _example(a, b, float(change[row])) for a, b, row in zip(mine, theirs, chosen, strict=True)
    )


def _example(a: dict[str, list[str]], b: dict[str, list[str]], change: float) -> ExampleQuery:
    places = [{item: at for at, item in enumerate(row["model.items"], 1)} for row in (a, b)]
    longest = 1 + max(len(place) for place in places)

    def moved(item: str) -> int:
        """Returns by how many ranks an item moved the way that the query did."""
        ranks = [place.get(item, longest) for place in places]
        return ranks[1] - ranks[0] if change > 0 else ranks[0] - ranks[1]

    held_out = sorted(a["held_out"], key=moved)
    first = held_out[0]
    return ExampleQuery(
        query=str(a["query_id"]),
        change=change,
        held_out=tuple(held_out),
        before=tuple(a["model.items"][:_SHOWN]),
        after=tuple(b["model.items"][:_SHOWN]),
        ranks=(places[0].get(first), places[1].get(first)),
    )
