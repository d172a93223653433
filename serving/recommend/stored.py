"""The online state of queries in the feature store, which may fail or hang."""

from collections.abc import Sequence

from feature_store.core.times import microseconds
from feature_store.online.features import OnlineFeatures, QueryFeatures
from feature_store.online.store import Event, OnlineStore
from serving.recommend.breaker import CircuitBreaker, UnavailableError
from serving.recommend.online import NOTHING, OnlineState

# Seconds that a request waits for the store.
PATIENCE = 1.0
# Seconds until a store that did not answer is asked again.
_PAUSE = 5.0


class StoredQueries:
    """The online store that `recsys materialize` fills; every process that opens it sees the same.

    While it does not answer, queries are answered from the bundle, and events are refused.

    Args:
        store: Store that `feature_store.online.open_online_store` opened.
        patience: Seconds that a request waits for it.
        pause_seconds: Seconds until it is asked again after a failure.
    """

    def __init__(
        self, store: OnlineStore, *, patience: float = PATIENCE, pause_seconds: float = _PAUSE
    ) -> None:
        self._features = OnlineFeatures(store)
        self._breaker = CircuitBreaker("the online store", patience=patience, pause=pause_seconds)

    @property
    def failures(self) -> int:
        """Number of times that the store did not answer."""
        return self._breaker.failures

    @property
    def is_available(self) -> bool:
        """Whether the store answered when it was last asked."""
        return self._breaker.is_closed

    def states(self, query_ids: Sequence[str]) -> list[OnlineState]:
        """Reads features and histories; `NOTHING` where the store does not know a query."""
        try:
            return [state_of(each) for each in self._ask(query_ids)]
        except UnavailableError:  # The bundle has an answer.
            return [NOTHING] * len(query_ids)

    def append(self, events: Sequence[tuple[str, Event]]) -> None:
        """Adds events of queries, all or none; a repeated one changes nothing.

        Raises:
            UnavailableError: The store does not answer.
        """
        try:
            self._breaker.call(lambda: self._features.store.append(events))
        except UnavailableError as error:
            raise UnavailableError(
                f"{error}: the events were not kept; send them again.", error.retry_seconds
            ) from error

    def close(self) -> None:
        """Ends the thread that asks the store; the process's end closes its connections."""
        self._breaker.close()

    def _ask(self, query_ids: Sequence[str]) -> list[QueryFeatures]:
        return self._breaker.call(lambda: self._features.queries(query_ids))


def state_of(stored: QueryFeatures) -> OnlineState:
    """Returns what the store has of a query; `NOTHING` where it does not know it."""
    events = [(microseconds(event.timestamp), event.item_id) for event in stored.history]
    if not stored.is_known and not events:
        return NOTHING
    features = stored.features if stored.is_known else None
    return OnlineState(events, is_whole=True, features=features, schema=stored.schema)
