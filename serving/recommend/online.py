"""The state of queries since the bundle was exported, which the next answer already uses.

It is kept in this process's memory, or, where several processes answer, in the feature store's
online store, which also has newer features and histories than the bundle.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from feature_store.online.store import Event
from feature_store.schema import FeatureSchema


@dataclass(frozen=True)
class OnlineState:
    """The state of a query beyond the bundle.

    Attributes:
        events: Times in microseconds since 1970 and item ids, the oldest first.
        is_whole: Whether they are the whole history; else they come after the bundle's.
        features: One row of raw values that replace the bundle's; None: there are none.
        schema: Schema that they are of; None where the bundle's is meant.
    """

    events: Sequence[Event]
    is_whole: bool = False
    features: pa.Table | None = None
    schema: FeatureSchema | None = None


NOTHING = OnlineState(())


class OnlineQueries(Protocol):
    """Source of online state, read at every request."""

    def states(self, query_ids: Sequence[str]) -> list[OnlineState]:
        """Returns the state of each query."""


class OnlineEvents(OnlineQueries, Protocol):
    """Source of online state to which a server adds events; used by several threads."""

    def append(self, events: Sequence[tuple[str, Event]]) -> None:
        """Adds events of queries, all or none; a repeated one changes nothing.

        Raises:
            UnavailableError: They are not kept for now.
        """
