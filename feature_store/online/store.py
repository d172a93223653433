"""The online store: the latest raw features, and each query's recent history.

What is bulk comes from `recsys materialize`, a generation at a time, and is replaced as a whole.
Events that are appended later lie beside it, and are merged into the history whenever it is read.
So neither writer ever waits for the other, and an event may come twice, or late.
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
    """What a generation of the store holds.

    Attributes:
        generation: Identifies it.
        features: Of both sides.
        columns: By side, the Arrow schema of the raw features in hex, without the ids.
        max_length: Of a history.
        distinct: Whether a history holds an item once.
    """

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


def nothing_materialized() -> UserError:
    """What a reader of an empty store is told."""
    return UserError("the online store is empty; run `recsys materialize` first.")


def batches(ids: pa.Array, rows: pa.Array, size: int) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Slices of both."""
    for start in range(0, len(ids), size):
        yield ids.slice(start, size), rows.slice(start, size)
