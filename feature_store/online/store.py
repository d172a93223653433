"""The online store: the latest raw features, and each query's recent history.

Bulk data comes from `recsys materialize`, a generation at a time, and is replaced as a whole.
Events that are appended later are kept apart, and merged into the history whenever it is read. So
neither writer ever waits for the other, and an event may come twice, or late.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

import pyarrow as pa

from feature_store.core.errors import UserError
from feature_store.core.rows import decode_rows
from feature_store.core.settings import Frozen
from feature_store.history import HISTORY_SCHEMA, Event, recent
from feature_store.schema import FeatureSchema, Side

View = Literal["item_features", "query_features", "query_history"]
VIEWS: tuple[View, ...] = ("item_features", "query_features", "query_history")


class Contents(Frozen):
    """The description of a generation of the store.

    Attributes:
        generation: Identifier of the generation.
        features: Feature schema.
        columns: Arrow schemas of the raw features in hex, without the ids, by side.
        max_length: Greatest length of a history.
        distinct: Whether a history holds an item once.
    """

    generation: str
    features: FeatureSchema
    columns: dict[Side, str]
    max_length: int
    distinct: bool

    def row_schema(self, view: View) -> pa.Schema:
        """Returns the columns of the rows of a view."""
        if view == "query_history":
            return HISTORY_SCHEMA
        content = bytes.fromhex(self.columns["item" if view == "item_features" else "query"])
        return pa.ipc.read_schema(pa.py_buffer(content))


def schema_in_hex(schema: pa.Schema) -> str:
    """Encodes an Arrow schema for `Contents.columns`."""
    return schema.serialize().to_pybytes().hex()


Keep = Callable[[str, Event], bool]  # Whether an appended event of a query is kept.


@dataclass(frozen=True)
class StoredQuery:
    """The rows of one query; None where the store has none.

    Attributes:
        contents: Description of the generation that was read.
        features: Row of `query_features`.
        history: Row of `query_history`.
        appended: Events that were appended since, in no order.
    """

    contents: Contents
    features: bytes | None
    history: bytes | None
    appended: list[Event]


class Loader(Protocol):
    """Writer of a new generation, which readers see when the block ends without an error."""

    def add(self, view: View, ids: pa.Array, rows: pa.Array) -> None:
        """Adds rows, [n] bytes, of ids, [n]; a view's rows come sorted by `hash_of_ids`."""


class BrokenStoreError(UserError):
    """A store that cannot be read as it is; `recsys materialize` can write it anew."""


class OnlineStore(Protocol):
    """A store in SQLite or Redis; reads see one generation.

    Without one they raise `UserError`, and `BrokenStoreError` where it cannot be read. Other
    exceptions are those of a store that does not answer.
    """

    def contents(self) -> Contents | None:
        """Returns the description of the current generation; None where there is none."""

    def count_rows(self) -> dict[View, int]:
        """Counts the rows of the current generation."""

    def read(self, view: View, ids: Sequence[str]) -> tuple[Contents, list[bytes | None]]:
        """Reads rows of a view; None where there is none."""

    def read_queries(self, query_ids: Sequence[str]) -> list[StoredQuery]:
        """Reads everything about some queries, of one generation."""

    def append(self, events: Sequence[tuple[str, Event]]) -> None:
        """Adds events of queries, all or none, unless they are there.

        Only the latest of a query are kept.
        """

    def appended(self, query_id: str) -> list[Event]:
        """Returns the events that were appended to a query, in no order."""

    def prune(self, keep: Keep) -> str | None:
        """Removes the appended events that are not kept, without a trace.

        Returns:
            A sentence for the user where the events could not be read, and were set aside.
        """

    def load(self, contents: Contents) -> AbstractContextManager[Loader]:
        """Begins a new generation."""

    def update(self, view: View, ids: Sequence[str], rows: Sequence[bytes]) -> None:
        """Replaces single rows of the current generation, for Feast's own writers."""

    def clear(self) -> None:
        """Removes everything."""

    def close(self) -> None:
        """Closes its connections."""


def history_of(stored: StoredQuery) -> list[Event]:
    """Merges the materialized history with the events appended since."""
    events = [*stored.appended]
    if stored.history is not None:
        table = decode_rows([stored.history], HISTORY_SCHEMA)
        items = table["items"].chunk(0).values.to_pylist()
        times = table["timestamps"].chunk(0).values.cast(pa.int64()).to_pylist()
        events += zip(times, items, strict=True)
    return latest_events(events, stored.contents)


def latest_events(events: Iterable[Event], contents: Contents) -> list[Event]:
    """Returns those of a query's events that its history holds, oldest first."""
    return recent(events, max_length=contents.max_length, distinct=contents.distinct)


def nothing_materialized() -> UserError:
    """Builds the error of a read of an empty store."""
    return UserError("the online store is empty; run `recsys materialize` first.")


def batches(ids: pa.Array, rows: pa.Array, size: int) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Cuts ids and rows into slices of `size`."""
    for start in range(0, len(ids), size):
        yield ids.slice(start, size), rows.slice(start, size)
