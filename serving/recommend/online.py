"""The state of queries since the bundle was exported, which the next answer already uses.

It is kept in this process's memory, or, where several processes answer, in the feature store's
online store, which also has newer features and histories than the bundle.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

import pyarrow as pa

from feature_store.core.errors import UserError
from feature_store.core.times import microseconds
from feature_store.history import recent
from feature_store.online.features import OnlineFeatures
from feature_store.online.store import Event, OnlineStore

_logger = logging.getLogger(__name__)

# Latest queries that are kept, and latest events of each.
_MAX_QUERIES, _MAX_EVENTS = 1_000_000, 1000
# Seconds until a store that failed is asked again: every request would wait for it.
_PAUSE_SECONDS = 5.0


@dataclass(frozen=True)
class OnlineState:
    """The state of a query beyond the bundle.

    Attributes:
        events: Times in microseconds since 1970 and item ids, the oldest first.
        is_whole: Whether they are the whole history; else they come after the bundle's.
        features: One row of raw values that replace the bundle's; None: there are none.
    """

    events: Sequence[Event]
    is_whole: bool = False
    features: pa.Table | None = None


NOTHING = OnlineState(())


class UnavailableError(Exception):
    """The online store does not answer."""


class OnlineQueries(Protocol):
    """Source of online state, read at every request and used by several threads."""

    def query(self, query_id: str) -> OnlineState:
        """Returns the state of a query."""

    def append(self, query_id: str, event: Event) -> None:
        """Adds an event; the same one again changes nothing."""


class MemoryQueries:
    """Events of this process, of the queries that last had one; they end with the process."""

    def __init__(self, max_queries: int = _MAX_QUERIES, max_events: int = _MAX_EVENTS) -> None:
        self._max_queries = max_queries
        self._max_events = max_events
        self._events: OrderedDict[str, tuple[Event, ...]] = OrderedDict()
        self._lock = Lock()

    def query(self, query_id: str) -> OnlineState:
        """Returns the appended events."""
        events = self._events.get(query_id)
        return OnlineState(events) if events else NOTHING

    def append(self, query_id: str, event: Event) -> None:
        """Adds an event; the same one again changes nothing."""
        with self._lock:
            events = [*self._events.pop(query_id, ()), event]
            kept = recent(events, max_length=self._max_events, distinct=False)
            self._events[query_id] = tuple(kept)
            if len(self._events) > self._max_queries:
                self._events.popitem(last=False)


class StoredQueries:
    """The online store that `recsys materialize` fills; every process that opens it sees the same.

    While it does not answer, queries are answered from the bundle, and events are refused.

    Args:
        store: Store that `feature_store.online.open_online_store` opened.
        pause_seconds: Seconds until it is asked again after a failure.

    Attributes:
        failures: Number of times that it did not answer.
    """

    def __init__(self, store: OnlineStore, pause_seconds: float = _PAUSE_SECONDS) -> None:
        self._features = OnlineFeatures(store)
        self._lock = Lock()
        self._pause_seconds = pause_seconds
        self._paused_until = 0.0
        self.failures = 0

    def query(self, query_id: str) -> OnlineState:
        """Reads features and history; `NOTHING` where the store does not know the query."""
        if time.monotonic() < self._paused_until:
            return NOTHING
        try:
            with self._lock:
                stored = self._features.query(query_id)
        except Exception as error:  # Whatever befalls a store, the bundle has an answer.
            self._failed(error)
            return NOTHING
        events = [(microseconds(event.timestamp), event.item_id) for event in stored.history]
        if not stored.is_known and not events:
            return NOTHING
        return OnlineState(
            events, is_whole=True, features=stored.features if stored.is_known else None
        )

    def append(self, query_id: str, event: Event) -> None:
        """Adds an event; the same one again changes nothing.

        Raises:
            UserError: It is not an id.
            UnavailableError: The store does not answer.
        """
        try:
            with self._lock:
                self._features.store.append(query_id, event)
        except UserError:
            raise
        except Exception as error:
            self._failed(error)
            raise UnavailableError(
                "the online store does not answer: the events were not kept; send them again."
            ) from error

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        self._paused_until = time.monotonic() + self._pause_seconds
        _logger.warning("the online store does not answer: %s", error)
