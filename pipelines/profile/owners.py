"""Columns of the events that say something of items, or of queries, and not of events."""

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Ints
from feature_store.schema import Side
from pipelines.logs.sampling import ParquetTable

# Events that are compared.
_COMPARED = 200_000
# Values belong to items, or to queries, where this part of those with several events has one value;
# of fewer of them, that may be chance.
_BELONGS_FROM, _LEAST_GROUPS = 0.95, 10


def find_owners(
    events: ParquetTable, names: list[str], query: str, item: str
) -> dict[str, Side | None]:
    """Finds the columns whose values are the same in all events of an item, or of a query."""
    owners: dict[str, Side | None] = dict.fromkeys(names)
    if not names:
        return owners
    table = pa.concat_tables(
        events.sample(list(dict.fromkeys([query, item, *names])), _COMPARED)
    ).combine_chunks()
    groups: list[tuple[Side, Ints]] = [
        ("item", _codes(table[item])),
        ("query", _codes(table[query])),
    ]
    for name in names:
        values = _codes(table[name])
        if len(np.unique(values)) > 1:
            owned = (owner for owner, group in groups if _belong(values, group))
            owners[name] = next(owned, None)
    return owners


def _codes(column: pa.ChunkedArray) -> Ints:
    encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
    return np.asarray(encoded.indices.to_numpy().astype(np.int64))


def _belong(values: Ints, groups: Ints) -> bool:
    """Checks whether nearly all groups with several events have one value."""
    events = np.bincount(groups)
    pairs = np.unique(groups * (int(values.max()) + 1) + values)
    distinct = np.bincount(pairs // (int(values.max()) + 1), minlength=len(events))
    several = events > 1
    return bool(several.sum() >= _LEAST_GROUPS and (distinct[several] == 1).mean() >= _BELONGS_FROM)
