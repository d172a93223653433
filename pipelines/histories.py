"""What the examples and the queries know of earlier events."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from feature_store.columns import Ints, Jagged
from feature_store.history import others_history, past_history
from pipelines.prepared import SPLITS, QueryState
from pipelines.settings import History
from pipelines.splits import TEST, TRAIN, VALIDATION

Bools = npt.NDArray[np.bool_]

# Of the choice of `others`; it is part of what a configuration means.
_SEED = 2


@dataclass(frozen=True)
class Events:
    """Events of whole queries, sorted by (query, time, item id); every field is [events].

    Attributes:
        query: Index.
        item: Index.
        time: Microseconds since 1970, or 0 throughout.
        rank: Of the time; equal times have equal ranks.
        weight: float32.
        split: Index into `SPLITS`.
    """

    query: Ints
    item: Ints
    time: Ints
    rank: Ints
    weight: npt.NDArray[np.float32]
    split: Ints

    def __len__(self) -> int:
        return len(self.query)


def example_history(events: Events, settings: History) -> Jagged:
    """What each event's example knows of its query, oldest first, [events].

    With `past`, training and validation examples see training events, test examples also those of
    validation, all strictly before their own time. With `others`, all see training events. None
    sees its own item.
    """
    is_train, is_test = events.split == TRAIN, events.split == TEST
    if settings.kind == "others":
        return _history(events, is_train, _targets(events, np.ones(len(events), bool)), settings)
    early = _history(events, is_train, _targets(events, ~is_test), settings)
    late = _history(events, ~is_test, _targets(events, is_test), settings)
    place = np.empty(len(events), np.int64)
    place[~is_test] = np.arange(len(early))
    place[is_test] = len(early) + np.arange(len(late))
    return Jagged.concatenate([early, late]).take(place)


def query_state(events: Events, settings: History) -> tuple[Ints, QueryState]:
    """The queries of a bucket, sorted, and what is known of each.

    A history is what may be seen when the query's held-out items of a split are ranked: events
    strictly before the earliest of them, and none of these items. A query without any sees all
    events of the earlier splits.
    """
    queries, query = np.unique(events.query, return_inverse=True)
    items = [
        _distinct(query[events.split == split], events.item[events.split == split], len(queries))
        for split in range(len(SPLITS))
    ]
    histories = []
    for split in (VALIDATION, TEST):
        held_out = events.split == split
        has_held_out = np.bincount(query[held_out], minlength=len(queries)) > 0
        seen = events.split < split
        if settings.kind == "others":  # What training queries see is training events, too.
            seen &= (events.split == TRAIN) | ~has_held_out[query]
        rank = np.full(len(queries), events.rank.max(initial=0) + 1)
        np.minimum.at(rank, query[held_out], events.rank[held_out])
        targets = _Targets(queries, rank, np.full(len(queries), -1))
        histories.append(_without(_history(events, seen, targets, settings), items[split]))
    return queries, QueryState(*items, *histories)


@dataclass(frozen=True)
class _Targets:
    query: Ints
    rank: Ints
    item: Ints


def _targets(events: Events, chosen: Bools) -> _Targets:
    return _Targets(events.query[chosen], events.rank[chosen], events.item[chosen])


def _history(events: Events, seen: Bools, targets: _Targets, settings: History) -> Jagged:
    query, item, rank = events.query[seen], events.item[seen], events.rank[seen]
    if settings.kind == "others":
        return others_history(
            query=query,
            item=item,
            target_query=targets.query,
            target_item=targets.item,
            max_length=settings.max_length,
            seed=_SEED,
        )
    return past_history(
        query=query,
        rank=rank,
        item=item,
        target_query=targets.query,
        target_rank=targets.rank,
        target_item=targets.item,
        max_length=settings.max_length,
    )


def _distinct(row: Ints, item: Ints, rows: int) -> Jagged:
    """The distinct items of each row, ascending."""
    width = int(item.max(initial=0)) + 1
    row, item = np.divmod(np.unique(row * width + item), width)
    return Jagged.from_lengths(item, np.bincount(row, minlength=rows))


def _without(history: Jagged, items: Jagged) -> Jagged:
    """Each row's history without the row's items."""
    width = int(max(history.values.max(initial=0), items.values.max(initial=0))) + 1
    taken = np.isin(
        history.row_of_value() * width + history.values,
        items.row_of_value() * width + items.values,
    )
    return history.keep(~taken)
