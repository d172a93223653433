"""The state of queries at the time of a request.

It is merged, in rising order of precedence, from the bundle's snapshot, the online state, and the
request.
"""

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

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
from feature_store.encoding.context import NO_TIME, given_columns
from feature_store.encoding.encoder import SideEncoder
from feature_store.online.store import Event
from feature_store.schema import FeatureSchema
from pipelines.settings import Repeats
from recsys.channels.sources import Sources
from serving.bundle.ids import IdTable
from serving.bundle.manifest import HistoryRule
from serving.recommend.online import NOTHING, OnlineQueries, OnlineState
from serving.recommend.options import DEFAULTS, RecommendOptions

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class QuerySnapshot:
    """The bundle's state of all its queries, [queries].

    Attributes:
        columns: Encoded features by name.
        history: Items, oldest first.
        known: Items of the training and validation events.
        later: Items of the test events, which the history does not show.
        own: Item that the query is itself, if it is one.
        read: Items of the known ones that channels read.
        latest: Time of the history's latest event, or `NO_TIME`; only for models with recency.
        vectors: Vectors by the query tower, [queries, dim]; None for models with a context.
    """

    columns: dict[str, Column]
    history: Jagged
    known: Jagged
    later: Jagged
    own: Jagged
    read: Jagged
    latest: Ints | None
    vectors: Floats | None

    def sources(self, rows: Ints) -> Sources:
        """Returns the items of some queries that channels read."""
        return Sources(self.history, self.read, self.own).take(rows)

    def evaluated(self, rows: Ints, repeats: Repeats) -> Jagged:
        """Returns the items that were not ranked for some queries when the model was evaluated."""
        own = self.own.take(rows)
        return own if repeats == "allow" else self.known.take(rows).beside(own)


@dataclass(frozen=True)
class CurrentState:
    """The merged state of a request's queries, [queries].

    Attributes:
        columns: Encoded features by name.
        history: Items, oldest first.
        had: Items that the query has had.
        own: Item that the query is itself, if it is one.
        read: Items that channels read, if they read all that are known.
        latest: Time of the history's latest event, or `NO_TIME`.
        is_unknown: Whether the query is unknown, [queries].
        is_blank: Whether there is nothing that the model could go by, [queries].
        vectors: Stored vectors, [queries, dim]; then columns are empty. None: the tower is to
            compute them.
    """

    columns: dict[str, Column]
    history: Jagged
    had: Jagged
    own: Jagged
    read: Jagged
    latest: Ints
    is_unknown: Bools
    is_blank: Bools
    vectors: Floats | None = None


class Queries:
    """Looks up and merges the state of queries.

    Args:
        ids: Ids of the snapshot's queries.
        snapshot: State of the bundle.
        encoder: Encoder of raw query features.
        items: Ids of items, by which events are read.
        trained_items: Number of items that had been trained: a history holds items below this.
        history: Rule of what a history holds.
        queries_are_items: Whether the id of a query may be that of an item, which it is then.
        online: Source of state since the export; None: there is none.
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
        queries_are_items: bool,
        online: OnlineQueries | None,
    ) -> None:
        self.ids = ids
        self._snapshot = snapshot
        self._encoder = encoder
        self._items = items
        self._trained_items = trained_items
        self._rule = history
        self._queries_are_items = queries_are_items
        self._online = online
        # Schema of the online store's generation whose features cannot be used.
        self._unusable: FeatureSchema | None = None
        self._knows_test = True

    def state(self, query_ids: Sequence[str], options: RecommendOptions) -> CurrentState:
        """Merges the state of the queries of a request.

        Raises:
            UserError: A given feature is not one of this model's, or is of another kind.
        """
        rows = self.ids.rows(query_ids)
        online = self._online_states(query_ids)
        is_given = options.features is not None or options.history is not None
        if not is_given and all(each is NOTHING for each in online):
            if self._snapshot.vectors is not None and len(rows) and (rows >= 0).all():
                return self._stored_state(rows, self._snapshot.vectors)
            state = self._snapshot_state(rows, query_ids)
            return replace(state, is_blank=state.is_unknown & (not options.context))
        parts = [
            self._merged(row, query_id, each, options)
            for row, query_id, each in zip(rows.tolist(), query_ids, online, strict=True)
        ]
        return _joined(parts)

    @property
    def lengths(self) -> Ints:
        """Lengths of the snapshot's histories, [queries]."""
        return self._snapshot.history.lengths

    def as_evaluated(self) -> "Queries":
        """Copies this object without its online state and the test events."""
        plain = copy.copy(self)
        plain._online, plain._knows_test = None, False
        return plain

    def history(self, query_id: str) -> Ints:
        """Returns the items of a query's history, oldest first."""
        [online] = self._online_states([query_id])
        row = int(self.ids.rows([query_id])[0])
        return self._merged(row, query_id, online, DEFAULTS).history.values

    def _online_states(self, query_ids: Sequence[str]) -> list[OnlineState]:
        if self._online is None:
            return [NOTHING] * len(query_ids)
        return self._online.states(query_ids)

    def _stored_state(self, rows: Ints, vectors: Floats) -> CurrentState:
        """Returns the state of known queries of which nothing is new: their stored vectors."""
        history, had = self._snapshot.history.take(rows), self._had(rows)
        own, read = self._snapshot.own.take(rows), self._snapshot.read.take(rows)
        no = np.zeros(len(rows), bool)
        latest = np.full(len(rows), NO_TIME)
        return CurrentState({}, history, had, own, read, latest, no, no, np.asarray(vectors[rows]))

    def _snapshot_state(self, rows: Ints, query_ids: Sequence[str]) -> CurrentState:
        snapshot = self._snapshot
        history, own = _bags(snapshot.history, rows), self._own(rows, query_ids)
        latest = np.full(len(rows), NO_TIME)
        if snapshot.latest is not None:
            latest[rows >= 0] = snapshot.latest[rows[rows >= 0]]
        columns, unknown = take_rows(snapshot.columns, rows), rows < 0
        had, read = self._had(rows), _bags(snapshot.read, rows)
        return CurrentState(columns, history, had, own, read, latest, unknown, unknown)

    def _own(self, rows: Ints, query_ids: Sequence[str]) -> Jagged:
        if not self._queries_are_items or (rows >= 0).all():
            return _bags(self._snapshot.own, rows)
        items = self._items.rows(query_ids)
        return Jagged.from_lengths(items[items >= 0], (items >= 0).astype(np.int64))

    def _had(self, rows: Ints) -> Jagged:
        known = _bags(self._snapshot.known, rows)
        return known.beside(_bags(self._snapshot.later, rows)) if self._knows_test else known

    def _merged(
        self, row: int, query_id: str, online: OnlineState, options: RecommendOptions
    ) -> CurrentState:
        """Merges the state of one query."""
        snapshot = self._snapshot_state(np.array([row]), [query_id])
        columns, history, latest = snapshot.columns, snapshot.history.values, snapshot.latest
        had, read = [snapshot.had.values], snapshot.read.values
        raw = self._given_features(query_id, options)
        if raw is not None:
            columns = self._encoder.encode(raw)
        elif online.features is not None:
            columns = self._stored_columns(online) or columns
        if online.events:
            recent = self._rows_of_events(online.events)
            history = recent if online.is_whole else np.concatenate([history, recent])
            had.append(recent)
            read = np.union1d(read, recent)
            latest = np.maximum(latest, max(time for time, _ in online.events))
        if options.history is not None:
            history = self._known_items(options.history)
            had.append(history)
            read = np.unique(history)
        is_unknown = row < 0 and online is NOTHING
        is_given = options.context or options.features or len(history)
        return CurrentState(
            columns,
            _one(self._recent(history)),
            _one(np.concatenate(had)),
            snapshot.own,
            _one(read),
            latest,
            np.array([is_unknown]),
            np.array([is_unknown and not is_given]),
        )

    def _given_features(self, query_id: str, options: RecommendOptions) -> pa.Table | None:
        """Returns one row of features that the request gives, or None."""
        if options.features is None:
            return None
        features = self._encoder.features
        columns = {"": pa.nulls(1)}  # So that there is a row.
        columns |= given_columns(features, options.features, 1, "feature")
        ids = {f.name: pa.array([query_id]) for f in features if f.is_id}
        return pa.table(columns | ids)

    def fault_of_store(self, schema: FeatureSchema) -> str | None:
        """Returns why an online store's features are none of this model's; None if they are."""
        stored = {feature.name: feature.kind for feature in schema.query}
        for feature in self._encoder.features:
            if feature.name not in stored and not feature.is_id:
                return f"it has no query feature {feature.name!r}"
            if stored.get(feature.name, feature.kind) != feature.kind:
                return f"its query feature {feature.name!r} is {stored[feature.name]}"
        return None

    def _stored_columns(self, online: OnlineState) -> dict[str, Column] | None:
        """Encodes the features of the online store; None where they are of another model."""
        if online.schema is self._unusable:
            return None
        fault = None if online.schema is None else self.fault_of_store(online.schema)
        try:
            if fault is None:
                return self._encoder.encode(online.features)
        except Exception as error:  # A type that the encoder cannot read.
            fault = str(error)
        self._unusable = online.schema  # Until the next generation.
        _logger.warning("features of the online store are not used: %s", fault)
        return None

    def _rows_of_events(self, events: Sequence[Event]) -> Ints:
        return self._known_items([item for _, item in events])

    def _known_items(self, item_ids: Sequence[str]) -> Ints:
        """Returns the indices of the items that the bundle knows."""
        rows = self._items.rows(item_ids)
        return rows[rows >= 0]

    def _recent(self, items: Ints) -> Ints:
        """Returns the items that a history holds by its rule."""
        items = items[items < self._trained_items]
        if self._rule.is_distinct:
            _, last = np.unique(items[::-1], return_index=True)
            items = items[np.sort(len(items) - 1 - last)]
        return items[-self._rule.max_length :]


def _bags(column: Jagged, rows: Ints) -> Jagged:
    """Returns the bags of rows; those of negative rows are empty."""
    bags = column.take(rows) if (rows >= 0).all() else take_or_absent(column, rows)
    assert isinstance(bags, Jagged)
    return bags


def _one(values: Ints) -> Jagged:
    return Jagged(values, np.array([0, len(values)]))


def _joined(parts: Sequence[CurrentState]) -> CurrentState:
    columns: dict[str, Column] = {}
    for name, first in parts[0].columns.items():
        same = [part.columns[name] for part in parts]
        kind = Jagged if isinstance(first, Jagged) else Dense
        columns[name] = kind.concatenate(same)  # type: ignore[arg-type]
    return CurrentState(
        columns,
        Jagged.concatenate([part.history for part in parts]),
        Jagged.concatenate([part.had for part in parts]),
        Jagged.concatenate([part.own for part in parts]),
        Jagged.concatenate([part.read for part in parts]),
        np.concatenate([part.latest for part in parts]),
        np.concatenate([part.is_unknown for part in parts]),
        np.concatenate([part.is_blank for part in parts]),
    )
