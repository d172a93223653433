"""What is known of queries when they are asked.

That is, in rising order of precedence: the bundle's snapshot, what came since, and the request.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from feature_store.core.columns import (
    Bools,
    Column,
    Dense,
    Floats,
    Ints,
    Jagged,
    take_or_absent,
    take_rows,
)
from feature_store.core.times import microseconds
from feature_store.encoding.context import NO_TIME, given_columns
from feature_store.encoding.encoder import SideEncoder
from feature_store.online.store import Event
from serving.bundle.ids import IdTable
from serving.bundle.manifest import HistoryRule
from serving.recommend.filters import Where
from serving.recommend.online import NOTHING, Online, OnlineQueries


@dataclass(frozen=True)
class Asking:
    """In which circumstances queries are asked, and for what.

    Attributes:
        context: Raw values of context features by name; what is left out is absent.
        at: When; now for None. No time zone means UTC.
        features: Raw values of the queries' features by name, instead of what is known of them.
        history: Item ids, the oldest first, instead of what is known.
        exclude_seen: Whether items that a query has had are no answers.
        where: By item feature the values of which an answer has one; see `export.filters`.
        allow: Ids that answers are among.
        deny: Ids that no answer is among.
    """

    context: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None
    features: Mapping[str, Any] | None = None
    history: Sequence[str] | None = None
    exclude_seen: bool = True
    where: Where = field(default_factory=dict)
    allow: Sequence[str] | None = None
    deny: Sequence[str] = ()

    @property
    def time(self) -> int:
        """Microseconds since 1970."""
        return microseconds(self.at or datetime.now(UTC))


NOW = Asking()


@dataclass(frozen=True)
class QuerySnapshot:
    """What the bundle knows of each query, [queries].

    Attributes:
        columns: Encoded features by name.
        history: Items, oldest first.
        excluded: Items that are not recommended again.
        latest: Time of the history's latest event, or `NO_TIME`; where the model asks for it.
        vectors: [queries, dim] by the query tower; None where it asks for a context.
    """

    columns: dict[str, Column]
    history: Jagged
    excluded: Jagged
    latest: Ints | None
    vectors: Floats | None


@dataclass(frozen=True)
class Known:
    """What is known of the asked queries, [queries]; the attributes are those of `QuerySnapshot`.

    Attributes:
        is_fallback: [queries] the query is unknown.
        is_blank: [queries] there is nothing at all that the model could go by.
        vectors: [queries, dim], where they are known already; then columns and history are empty.
    """

    columns: dict[str, Column]
    history: Jagged
    excluded: Jagged
    latest: Ints
    is_fallback: Bools
    is_blank: Bools
    vectors: Floats | None = None


class Queries:
    """Looks up what is known.

    Args:
        ids: Of the snapshot's queries.
        snapshot: Of the bundle.
        encoder: Of queries' raw features.
        items: Ids of items, by which events are read.
        trained_items: Item indices below this may be in a history.
        history: What one holds.
        online: What came since; None: nothing.
    """

    def __init__(
        self,
        ids: IdTable,
        snapshot: QuerySnapshot,
        encoder: SideEncoder,
        items: IdTable,
        *,
        trained_items: int,
        history: HistoryRule,
        online: OnlineQueries | None,
    ) -> None:
        self.ids = ids
        self._snapshot = snapshot
        self._encoder = encoder
        self._items = items
        self._trained_items = trained_items
        self._rule = history
        self._online = online

    def known(self, query_ids: Sequence[str], asking: Asking) -> Known:
        """All that is known of queries that are asked.

        Raises:
            UserError: A given feature is none of this model's, or of another kind.
        """
        rows = self.ids.rows(query_ids)
        online = [self._online.query(i) if self._online else NOTHING for i in query_ids]
        is_asked = asking.features is not None or asking.history is not None
        if not is_asked and all(each is NOTHING for each in online):
            if self._snapshot.vectors is not None and len(rows) and (rows >= 0).all():
                return self._of_stored(rows, self._snapshot.vectors)
            base = self._of_snapshot(rows)
            return replace(base, is_blank=base.is_fallback & (not asking.context))
        parts = [
            self._merged(row, query_id, each, asking)
            for row, query_id, each in zip(rows.tolist(), query_ids, online, strict=True)
        ]
        return _joined(parts)

    def without_online(self) -> "Queries":
        """The same, as if nothing had come since."""
        plain = copy.copy(self)
        plain._online = None
        return plain

    def history(self, query_id: str) -> Ints:
        """Items, the oldest first."""
        online = self._online.query(query_id) if self._online else NOTHING
        row = int(self.ids.rows([query_id])[0])
        return self._merged(row, query_id, online, NOW).history.values

    def _of_stored(self, rows: Ints, vectors: Floats) -> Known:
        """Of known queries that nothing is new of: what the tower would say is there."""
        excluded = self._snapshot.excluded.take(rows)
        no = np.zeros(len(rows), bool)
        nothing = Jagged(np.empty(0, np.int64), np.zeros(len(rows) + 1, np.int64))
        latest = np.full(len(rows), NO_TIME)
        return Known({}, nothing, excluded, latest, no, no, np.asarray(vectors[rows]))

    def _of_snapshot(self, rows: Ints) -> Known:
        snapshot = self._snapshot
        history = take_or_absent(snapshot.history, rows)
        excluded = take_or_absent(snapshot.excluded, rows)
        assert isinstance(history, Jagged)
        assert isinstance(excluded, Jagged)
        latest = np.full(len(rows), NO_TIME)
        if snapshot.latest is not None:
            latest[rows >= 0] = snapshot.latest[rows[rows >= 0]]
        unknown = rows < 0
        return Known(take_rows(snapshot.columns, rows), history, excluded, latest, unknown, unknown)

    def _merged(self, row: int, query_id: str, online: Online, asking: Asking) -> Known:
        """Of one query."""
        base = self._of_snapshot(np.array([row]))
        columns, history, latest = base.columns, base.history.values, base.latest
        seen = [base.excluded.values]
        raw = self._raw_features(query_id, online, asking)
        if raw is not None:
            columns = self._encoder.encode(raw)
        if online.events:
            happened = self._rows_of_events(online.events)
            history = happened if online.is_whole else np.concatenate([history, happened])
            seen.append(happened)
            latest = np.maximum(latest, max(time for time, _ in online.events))
        if asking.history is not None:
            history = self._known_items(asking.history)
            seen.append(history)
        is_unknown = row < 0 and online is NOTHING
        is_blank = is_unknown and not asking.context and not asking.features and not len(history)
        return Known(
            columns,
            _one(self._recent(history)),
            _one(np.concatenate(seen)),
            latest,
            np.array([is_unknown]),
            np.array([is_blank]),
        )

    def _raw_features(self, query_id: str, online: Online, asking: Asking) -> pa.Table | None:
        """One row that takes the place of the snapshot's features."""
        if asking.features is None:
            return online.features
        features = self._encoder.features
        columns = {"": pa.nulls(1)}  # So that there is a row.
        columns |= given_columns(features, asking.features, 1, "feature")
        ids = {f.name: pa.array([query_id]) for f in features if f.is_id}
        return pa.table(columns | ids)

    def _rows_of_events(self, events: Sequence[Event]) -> Ints:
        return self._known_items([item for _, item in events])

    def _known_items(self, item_ids: Sequence[str]) -> Ints:
        """Indices, without those that the bundle does not know."""
        rows = self._items.rows(item_ids)
        return rows[rows >= 0]

    def _recent(self, items: Ints) -> Ints:
        items = items[items < self._trained_items]
        if self._rule.is_distinct:
            _, last = np.unique(items[::-1], return_index=True)
            items = items[np.sort(len(items) - 1 - last)]
        return items[-self._rule.max_length :]


def _one(values: Ints) -> Jagged:
    return Jagged(values, np.array([0, len(values)]))


def _joined(parts: Sequence[Known]) -> Known:
    columns: dict[str, Column] = {}
    for name, first in parts[0].columns.items():
        same = [part.columns[name] for part in parts]
        kind = Jagged if isinstance(first, Jagged) else Dense
        columns[name] = kind.concatenate(same)  # type: ignore[arg-type]
    return Known(
        columns,
        Jagged.concatenate([part.history for part in parts]),
        Jagged.concatenate([part.excluded for part in parts]),
        np.concatenate([part.latest for part in parts]),
        np.concatenate([part.is_fallback for part in parts]),
        np.concatenate([part.is_blank for part in parts]),
    )
