"""The online store behind Feast's interface; Feast itself loads this module by its name.

Feast's own SQLite schema has a row for each entity and feature. Ours has a row for each entity,
which loads and reads faster, and which serving reads without Feast.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from feast.infra.online_stores.online_store import OnlineStore
from feast.protos.feast.types.Value_pb2 import Value
from feast.repo_config import FeastConfigBaseModel, RepoConfig
from feast.type_map import feast_value_type_to_python_type, python_values_to_proto_values
from pydantic import StrictStr

from feature_store.core.rows import decode_rows, encode_rows
from feature_store.feast.repository import feast_type
from feature_store.history import HISTORY_SCHEMA
from feature_store.offline.views import EVENT_TIME, ID_COLUMN, IS_CURRENT, feast_names
from feature_store.online import open_online_store
from feature_store.online.store import OnlineStore as Store
from feature_store.online.store import View, history_of
from feature_store.schema import Side
from feature_store.settings import FeatureStoreConfig

Row = tuple[Any, dict[str, Value], datetime, datetime | None]


class RowOnlineStoreConfig(FeastConfigBaseModel):
    """The section `online_store` of feature_store.yaml."""

    type: StrictStr = "feature_store.feast.online_store.RowOnlineStore"
    settings: FeatureStoreConfig = FeatureStoreConfig()


class RowOnlineStore(OnlineStore):
    """The adapter of our online store to Feast's interface."""

    _store: Store | None = None

    def online_write_batch(
        self,
        config: RepoConfig,
        table: Any,
        data: list[Row],
        progress: Callable[[int], Any] | None,
    ) -> None:
        """Replaces rows of the current generation, until the next `recsys materialize`."""
        store = self._open(config)
        schema = self._schema(store, table.name)
        names = _names(table.name, schema)
        ids = [key.entity_values[0].string_val for key, _, _, _ in data]
        columns = [
            pa.array(
                [_python_value(values.get(names[field.name])) for _, values, _, _ in data],
                field.type,
            )
            for field in schema
        ]
        rows = encode_rows(pa.table(columns, schema=schema)).to_pylist()
        store.update(table.name, ids, rows)
        if progress is not None:
            progress(len(data))

    def online_read(
        self,
        config: RepoConfig,
        table: Any,
        entity_keys: list[Any],
        requested_features: list[str] | None = None,
    ) -> list[tuple[datetime | None, dict[str, Value] | None]]:
        """Reads rows; their time is not kept, so Feast gets the time of the read."""
        store = self._open(config)
        schema = self._schema(store, table.name)
        names = _names(table.name, schema)
        ids = [key.entity_values[0].string_val for key in entity_keys]
        rows, is_known = _read(store, table.name, ids)
        columns = {
            names[field.name]: _proto_values(field, rows[field.name].to_pylist())
            for field in schema
            if requested_features is None or names[field.name] in requested_features
        }
        now = datetime.now(UTC)
        return [
            (now, {name: values[index] for name, values in columns.items()})
            if is_known[index]
            else (None, None)
            for index in range(len(ids))
        ]

    def update(
        self,
        config: RepoConfig,
        tables_to_delete: Sequence[Any],
        tables_to_keep: Sequence[Any],
        entities_to_delete: Sequence[Any],
        entities_to_keep: Sequence[Any],
        partial: bool,
    ) -> None:
        """Does nothing: `recsys materialize` creates a generation's tables."""

    def teardown(self, config: RepoConfig, tables: Sequence[Any], entities: Sequence[Any]) -> None:
        """Removes everything."""
        self._open(config).clear()

    def _open(self, config: RepoConfig) -> Store:
        if self._store is None:
            assert config.repo_path is not None
            settings = config.online_store.settings
            self._store = open_online_store(settings, Path(config.repo_path))
        return self._store

    def _schema(self, store: Store, view: View) -> pa.Schema:
        contents = store.contents()
        return contents.row_schema(view) if contents is not None else pa.schema([])


def _read(store: Store, view: View, ids: list[str]) -> tuple[pa.Table, list[bool]]:
    """Reads rows, and whether there are any of each id; histories include appended events."""
    if view != "query_history":
        contents, rows = store.read(view, ids)
        return decode_rows(rows, contents.row_schema(view)), [row is not None for row in rows]
    histories = [history_of(stored) for stored in store.read_queries(ids)]
    columns = [
        [[item for _, item in history] for history in histories],
        [[time for time, _ in history] for history in histories],
    ]
    table = pa.table(
        [
            pa.array(column, kind)
            for column, kind in zip(columns, HISTORY_SCHEMA.types, strict=True)
        ],
        schema=HISTORY_SCHEMA,
    )
    return table, [bool(history) for history in histories]


def _names(view: View, schema: pa.Schema) -> dict[str, str]:
    """Returns Feast's names by column."""
    side: Side = "item" if view == "item_features" else "query"
    if view == "query_history":
        return {name: name for name in schema.names}
    return feast_names(schema.names, (ID_COLUMN[side], EVENT_TIME, IS_CURRENT))


def _proto_values(field: pa.Field, values: list[Any]) -> list[Value]:
    if pa.types.is_decimal(field.type):
        values = [float(value) if value is not None else None for value in values]
    return python_values_to_proto_values(values, feast_type(field.type).to_value_type())


def _python_value(value: Value | None) -> Any:
    return feast_value_type_to_python_type(value) if value is not None else None
