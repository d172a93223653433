"""The online store: the latest raw features, and each query's recent history.

What is bulk comes from `recsys materialize`, a generation at a time, and is replaced as a whole.
Events that are appended later lie beside it, and are merged into the history whenever it is read.
So neither writer ever waits for the other, and an event may come twice, or late.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from feature_store.core.columns import Column, Ints
from feature_store.core.errors import UserError
from feature_store.core.rows import decode_rows
from feature_store.encoding.encoder import SideEncoder
from feature_store.recent import HISTORY_SCHEMA, Event, recent
from feature_store.schema import FeatureSchema, IdFeature, Side
from feature_store.settings import FeatureStoreConfig

View = Literal["item_features", "query_features", "query_history"]
VIEWS: tuple[View, ...] = ("item_features", "query_features", "query_history")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Contents(BaseModel):
    """What a generation of the store holds.

    Attributes:
        generation: Identifies it.
        features: Of both sides.
        columns: By side, the Arrow schema of the raw features in hex, without the ids.
        max_length: Of a history.
        distinct: Whether a history holds an item once.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    generation: str
    features: FeatureSchema
    columns: dict[Side, str]
    max_length: int
    distinct: bool

    def row_schema(self, view: View) -> pa.Schema:
        """Of the rows of a view."""
        if view == "query_history":
            return HISTORY_SCHEMA
        content = bytes.fromhex(self.columns["item" if view == "item_features" else "query"])
        return pa.ipc.read_schema(pa.py_buffer(content))


def schema_in_hex(schema: pa.Schema) -> str:
    """As `Contents` keeps it."""
    return schema.serialize().to_pybytes().hex()


Keep = Callable[[str, Event], bool]  # Whether an appended event of a query is kept.


@dataclass(frozen=True)
class Found:
    """What a store has of one query; None where it has nothing.

    Attributes:
        contents: Of the generation that was read.
        features: The row of `query_features`.
        history: The row of `query_history`.
        appended: Events that were appended since, in no order.
    """

    contents: Contents
    features: bytes | None
    history: bytes | None
    appended: list[Event]


class Loader(Protocol):
    """Fills a new generation, which readers see when the block ends without an error."""

    def add(self, view: View, ids: pa.Array, rows: pa.Array) -> None:
        """Adds rows, [n] strings and [n] bytes; all rows of a view sorted by `hash_of_ids`."""


class OnlineStore(Protocol):
    """SQLite or Redis. Reads see one generation, and raise `UserError` where there is none."""

    def contents(self) -> Contents | None:
        """Of the current generation."""

    def read(self, view: View, ids: Sequence[str]) -> tuple[Contents, list[bytes | None]]:
        """Rows of a view, None where there is none."""

    def read_query(self, query_id: str) -> Found:
        """All that is known of a query."""

    def append(self, query_id: str, event: Event) -> None:
        """Adds an event, unless it is there; of a query only the latest are kept."""

    def appended(self, query_id: str) -> list[Event]:
        """The events that were appended to a query."""

    def prune(self, keep: Keep) -> None:
        """Removes appended events without a trace."""

    def load(self, contents: Contents) -> AbstractContextManager[Loader]:
        """Begins a new generation."""

    def update(self, view: View, ids: Sequence[str], rows: Sequence[bytes]) -> None:
        """Replaces single rows of the current generation, as Feast's own writers do."""

    def clear(self) -> None:
        """Removes everything."""

    def close(self) -> None:
        """Closes its connections."""


def hash_of_id(text: str) -> int:
    """CRC-32 of an id, by which rows are sorted and partitioned."""
    return zlib.crc32(text.encode())


def hash_of_ids(ids: pa.Array) -> Ints:
    """[n] int64, each as `hash_of_id`."""
    texts = ids.cast(pa.large_binary()).to_pylist()
    return np.fromiter(map(zlib.crc32, texts), np.int64, len(texts))


@dataclass(frozen=True)
class HistoryEvent:
    """Of a query's recent history."""

    item_id: str
    timestamp: datetime


@dataclass(frozen=True)
class QueryFeatures:
    """A query as it is now.

    Attributes:
        is_known: Whether it has features.
        features: One row of raw values, as `SideEncoder.encode` takes it; nulls where unknown.
        history: Oldest first, up to the store's `max_length`.
    """

    is_known: bool
    features: pa.Table
    history: tuple[HistoryEvent, ...]

    def encode(self, encoder: SideEncoder) -> dict[str, Column]:
        """As `prepare` encoded it, by the same encoder."""
        return encoder.encode(self.features)


class OnlineFeatures:
    """Reads the store, and appends events to it; needs no Feast.

    One thread uses it at a time.

    Args:
        store: Of `open_online_store`.
    """

    def __init__(self, store: OnlineStore) -> None:
        self.store = store

    def query(self, query_id: str) -> QueryFeatures:
        """Raw features and recent history; both may be empty.

        Raises:
            UserError: Nothing was materialized.
        """
        found = self.store.read_query(query_id)
        table = decode_rows([found.features], found.contents.row_schema("query_features"))
        history = [
            HistoryEvent(item, _EPOCH + timedelta(microseconds=time))
            for time, item in history_of(found)
        ]
        return QueryFeatures(
            is_known=found.features is not None,
            features=_with_ids(table, "query", [query_id], found.contents),
            history=tuple(history),
        )

    def items(self, item_ids: Sequence[str]) -> pa.Table:
        """[items] raw features, as `SideEncoder.encode` takes them; nulls where unknown.

        Raises:
            UserError: Nothing was materialized.
        """
        contents, rows = self.store.read("item_features", item_ids)
        table = decode_rows(rows, contents.row_schema("item_features"))
        return _with_ids(table, "item", item_ids, contents)

    def append_event(self, query_id: str, item_id: str, timestamp: datetime) -> None:
        """Adds an event to a query's history, from the next read on.

        The same event again changes nothing, and events may come in any order. A query that is not
        known gets a history.

        Args:
            query_id: Whose.
            item_id: With which item.
            timestamp: When; without a time zone it is UTC.

        Raises:
            UserError: An id is empty, or nothing was materialized.
        """
        for name, text in (("query_id", query_id), ("item_id", item_id)):
            if not text:
                raise UserError(f"{name} is {text!r}; expected text of one character or more.")
        self.store.append(query_id, (microseconds(timestamp), item_id))

    def close(self) -> None:
        """Closes the store."""
        self.store.close()


def microseconds(moment: datetime) -> int:
    """Since 1970; without a time zone it is UTC."""
    aware = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def history_of(found: Found) -> list[Event]:
    """The materialized history and what was appended since."""
    events = [*found.appended]
    if found.history is not None:
        table = decode_rows([found.history], HISTORY_SCHEMA)
        items = table["items"].chunk(0).values.to_pylist()
        times = table["timestamps"].chunk(0).values.cast(pa.int64()).to_pylist()
        events += zip(times, items, strict=True)
    contents = found.contents
    return recent(events, max_length=contents.max_length, distinct=contents.distinct)


def latest_appended(events: Iterable[Event], contents: Contents) -> list[Event]:
    """Those of a query's appended events that can still be in its history."""
    return recent(events, max_length=contents.max_length, distinct=contents.distinct)


def open_online_store(settings: FeatureStoreConfig, directory: Path) -> OnlineStore:
    """The store that the configuration names.

    Args:
        settings: The section `feature_store`.
        directory: Of the feature store; SQLite's files are below.

    Raises:
        UserError: Redis does not answer.
    """
    if settings.online == "redis":
        from feature_store.online.redis import RedisStore

        assert settings.redis_url is not None
        return RedisStore(settings.redis_url, settings.redis_prefix)
    from feature_store.online.sqlite import SqliteStore

    return SqliteStore(directory / "online")


def nothing_materialized() -> UserError:
    """What a reader of an empty store is told."""
    return UserError("the online store is empty; run `recsys materialize` first.")


def _with_ids(table: pa.Table, side: Side, ids: Sequence[str], contents: Contents) -> pa.Table:
    """With the ids under the name of the id feature, if there is one."""
    names = [f.name for f in contents.features.side(side) if isinstance(f, IdFeature)]
    columns = {name: table[name] for name in table.column_names}
    # A table without any column would have no rows.
    return pa.table(columns | {names[0] if names else "": pa.array(ids, pa.string())})


def batches(ids: pa.Array, rows: pa.Array, size: int) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Slices of both."""
    for start in range(0, len(ids), size):
        yield ids.slice(start, size), rows.slice(start, size)
