"""Reads of the online store: features and recent history of a query, features of items."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from feature_store.core.columns import Column
from feature_store.core.errors import UserError
from feature_store.core.rows import decode_rows
from feature_store.core.times import microseconds, moment_of
from feature_store.encoding.encoder import SideEncoder
from feature_store.online.store import Contents, OnlineStore, StoredQuery, history_of
from feature_store.schema import FeatureSchema, Side


@dataclass(frozen=True)
class HistoryEvent:
    """An event of a query's recent history."""

    item_id: str
    timestamp: datetime


@dataclass(frozen=True)
class QueryFeatures:
    """The features and history of a query at this moment.

    Attributes:
        is_known: Whether the store has features of the query.
        features: One row of raw values, as `SideEncoder.encode` takes it; nulls where unknown.
        history: Events, oldest first, up to the store's `max_length`.
        schema: Schema of the features.
    """

    is_known: bool
    features: pa.Table
    history: tuple[HistoryEvent, ...]
    schema: FeatureSchema

    def encode(self, encoder: SideEncoder) -> dict[str, Column]:
        """Encodes the features with the encoder of `prepare`, and so in the same way."""
        return encoder.encode(self.features)


class OnlineFeatures:
    """Reader of the store, which also appends events; it needs no Feast.

    Only one thread may use it at a time.

    Args:
        store: Store that `open_online_store` opened.
    """

    def __init__(self, store: OnlineStore) -> None:
        self.store = store

    def query(self, query_id: str) -> QueryFeatures:
        """Reads raw features and recent history of a query; both may be empty.

        Raises:
            UserError: Nothing was materialized.
        """
        return self.queries([query_id])[0]

    def queries(self, query_ids: Sequence[str]) -> list[QueryFeatures]:
        """Reads as `query` does, for several queries of one generation."""
        return [
            QueryFeatures(
                is_known=stored.features is not None,
                features=_features(stored, query_id),
                history=tuple(
                    HistoryEvent(item, moment_of(time)) for time, item in history_of(stored)
                ),
                schema=stored.contents.features,
            )
            for query_id, stored in zip(query_ids, self.store.read_queries(query_ids), strict=True)
        ]

    def items(self, item_ids: Sequence[str]) -> pa.Table:
        """Reads raw features, [items], as `SideEncoder.encode` takes them; nulls where unknown.

        Raises:
            UserError: Nothing was materialized.
        """
        contents, rows = self.store.read("item_features", item_ids)
        table = decode_rows(rows, contents.row_schema("item_features"))
        return _with_ids(table, "item", item_ids, contents)

    def append_event(self, query_id: str, item_id: str, timestamp: datetime) -> None:
        """Adds an event to a query's history, which the next read returns.

        The same event again changes nothing, and events may come in any order. A query that is not
        known gets a history.

        Args:
            query_id: Id of the query.
            item_id: Id of the event's item.
            timestamp: Time of the event; without a time zone it is UTC.

        Raises:
            UserError: An id is empty, or nothing was materialized.
        """
        for name, text in (("query_id", query_id), ("item_id", item_id)):
            if not text:
                raise UserError(f"{name} is {text!r}; expected text of one character or more.")
        self.store.append([(query_id, (microseconds(timestamp), item_id))])

    def close(self) -> None:
        """Closes the store."""
        self.store.close()


def _features(stored: StoredQuery, query_id: str) -> pa.Table:
    table = decode_rows([stored.features], stored.contents.row_schema("query_features"))
    return _with_ids(table, "query", [query_id], stored.contents)


def _with_ids(table: pa.Table, side: Side, ids: Sequence[str], contents: Contents) -> pa.Table:
    """Adds the ids as a column under the name of the id feature, if there is one."""
    names = [f.name for f in contents.features.side(side) if f.is_id]
    columns = {name: table[name] for name in table.column_names}
    # A table without any column would have no rows.
    return pa.table(columns | {names[0] if names else "": pa.array(ids, pa.string())})
