"""The online state of queries in the memory of this process, which is bounded in bytes."""

import sys
from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from feature_store.history import recent
from feature_store.online.store import Event
from serving.recommend.online import NOTHING, OnlineState

# Bytes of all events, and latest events of a query.
_MAX_BYTES, _MAX_EVENTS = 256 * 2**20, 1000
# Bytes of a query beside its id and events: its places in the dictionary and its linked list.
_QUERY_BYTES = 250


class MemoryQueries:
    """Events of this process, of the queries that were last used; they end with the process.

    Args:
        max_bytes: Bytes of all events; beyond it the queries that were not used for the longest
            time are forgotten.
        max_events: Latest events that are kept of a query.

    Attributes:
        size: Bytes of all events.
        forgotten: Number of queries that were forgotten.
    """

    def __init__(self, max_bytes: int = _MAX_BYTES, max_events: int = _MAX_EVENTS) -> None:
        self.size = 0
        self.forgotten = 0
        self._max_bytes = max_bytes
        self._max_events = max_events
        self._events: OrderedDict[str, tuple[Event, ...]] = OrderedDict()
        self._lock = Lock()

    def states(self, query_ids: Sequence[str]) -> list[OnlineState]:
        """Returns the appended events of each query."""
        return [self._state(query_id) for query_id in query_ids]

    def append(self, events: Sequence[tuple[str, Event]]) -> None:
        """Adds events of queries; a repeated one changes nothing."""
        added: dict[str, list[Event]] = {}
        for query_id, event in events:
            added.setdefault(query_id, []).append(event)
        with self._lock:
            for query_id, new in added.items():
                before = self._events.pop(query_id, ())
                if before:
                    self.size -= _size(query_id, before)
                kept = recent([*before, *new], max_length=self._max_events, distinct=False)
                self._events[query_id] = tuple(kept)
                self.size += _size(query_id, kept)
            while self.size > self._max_bytes:
                query_id, gone = self._events.popitem(last=False)
                self.size -= _size(query_id, gone)
                self.forgotten += 1

    def _state(self, query_id: str) -> OnlineState:
        if query_id not in self._events:  # Most have none.
            return NOTHING
        with self._lock:
            events = self._events.get(query_id)
            if events is None:
                return NOTHING
            self._events.move_to_end(query_id)
        return OnlineState(events)


def _size(query_id: str, events: Sequence[Event]) -> int:
    """Counts the bytes of a query's id and events, as Python keeps them."""
    of_events = sum(_EVENT_BYTES + sys.getsizeof(item) for _, item in events)
    return _QUERY_BYTES + sys.getsizeof(query_id) + sys.getsizeof(()) + of_events


# A tuple of two, its time, and its place in the tuple of all.
_EVENT_BYTES = sys.getsizeof((0, "")) + sys.getsizeof(2**50) + 8
