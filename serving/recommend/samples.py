"""Ids and values of a bundle, for those who try its API and know none."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from feature_store.core.columns import Ints
from serving.bundle.ids import IdTable
from serving.recommend.catalogue import Catalogue
from serving.recommend.filters.value_lists import NAMES, ValueLists

_QUERIES, _ITEMS = 2, 3


@dataclass(frozen=True)
class Samples:
    """Some of what a bundle knows.

    Attributes:
        query_ids: Queries with a history of at least the median length; fewer where there are none.
        item_ids: Items with the most training events.
        where: Condition of a filter that leaves items; empty where there is nothing to filter by.
    """

    query_ids: tuple[str, ...]
    item_ids: tuple[str, ...]
    where: dict[str, Any]


def samples_of(catalogue: Catalogue, queries: IdTable, lengths: Ints) -> Samples:
    """Returns samples of a bundle.

    Args:
        catalogue: Items of the bundle.
        queries: Ids of its queries.
        lengths: Length of each query's history, [queries].
    """
    least = max(1.0, float(np.median(lengths))) if len(lengths) else 1.0
    typical = np.flatnonzero(lengths >= least)
    often = np.argsort(-catalogue.frequency[catalogue.indexed], kind="stable")[:_ITEMS]
    return Samples(
        tuple(queries[int(row)] for row in typical[:_QUERIES]),
        tuple(catalogue.ids[int(item)] for item in catalogue.indexed[often]),
        _where(catalogue),
    )


def _where(catalogue: Catalogue) -> dict[str, Any]:
    """Returns a condition by names, where a feature has some, else by numbers or dates."""
    filters = [pair for pair in catalogue.filters.items() if len(pair[1].values)]
    by_name = [pair for pair in filters if pair[1].values.type == NAMES]
    for name, lists in (by_name or filters)[:1]:
        return {name: _most_frequent(lists) if by_name else {"ge": _middle(lists)}}
    return {}


def _most_frequent(lists: ValueLists) -> str:
    return str(lists.values[int(np.argmax(lists.lengths))].as_py())


def _middle(lists: ValueLists) -> float | str:
    value = lists.values[len(lists.values) // 2].as_py()
    return value if isinstance(value, int | float) else str(value)
