"""What happened since the bundle was made: histories have it from the next answer on.

Kept in this process's memory, or, where several processes answer, in the feature store's online
store, which also has newer features and histories than the bundle.
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

# Of the latest queries, and of each the latest events.
_MAX_QUERIES, _MAX_EVENTS = 1_000_000, 1000
# How long a store that failed is not asked again: every question would wait for it.
_PAUSE_SECONDS = 5.0


@dataclass(frozen=True)
class Online:
    """What is known of a query beyond the bundle.

    Attributes:
        events: Times in microseconds since 1970 and item ids, the oldest first.
        is_whole: They are the whole history; else they come after the bundle's.
        features: One row of raw values that take the place of the bundle's; None: there are none.
    """

    events: Sequence[Event]
    is_whole: bool = False
    features: pa.Table | None = None


NOTHING = Online(())


class UnavailableError(Exception):
    """The online store does not answer."""


class OnlineQueries(Protocol):
    """Is read at every question; used by several threads."""

    def query(self, query_id: str) -> Online:
        """What is known of a query."""

    def append(self, query_id: str, event: Event) -> None:
        """Adds an event; the same one again changes nothing."""


class MemoryQueries:
    """Events of this process, of the queries that last had one; they end with the process."""

    def __init__(self, max_queries: int = _MAX_QUERIES, max_events: int = _MAX_EVENTS) -> None:
        self._max_queries = max_queries
        self._max_events = max_events
        self._events: OrderedDict[str, tuple[Event, ...]] = OrderedDict()
        self._lock = Lock()

    def query(self, query_id: str) -> Online:
        """What was appended."""
        events = self._events.get(query_id)
        return Online(events) if events else NOTHING

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
        store: Of `feature_store.online.store.open_online_store`.
        pause_seconds: How long it is left alone after a failure.

    Attributes:
        failures: How often it did not answer.
    """

    def __init__(self, store: OnlineStore, pause_seconds: float = _PAUSE_SECONDS) -> None:
        self._features = OnlineFeatures(store)
        self._lock = Lock()
        self._pause_seconds = pause_seconds
        self._paused_until = 0.0
        self.failures = 0

    def query(self, query_id: str) -> Online:
        """Features and history of the store; nothing where it does not know the query."""
        if time.monotonic() < self._paused_until:
            return NOTHING
        try:
            with self._lock:
                found = self._features.query(query_id)
        except Exception as error:  # Whatever befalls a store, the bundle has an answer.
            self._failed(error)
            return NOTHING
        events = [(microseconds(event.timestamp), event.item_id) for event in found.history]
        if not found.is_known and not events:
            return NOTHING
        return Online(events, is_whole=True, features=found.features if found.is_known else None)

    def append(self, query_id: str, event: Event) -> None:
        """Adds an event; the same one again changes nothing.

        Raises:
            UserError: The id is none.
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
