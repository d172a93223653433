"""Feast's repository, generated from the features: entities, views, registry.

    feature_store.yaml     Feast's configuration
    definitions.py         for `feast apply`: the same views, from views.json
    views.json             the views' columns
    registry.db            Feast's registry

`feast -c <directory> feature-views list` and `FeatureStore(repo_path=directory)` work on it. Feast
is imported inside the functions, because its import takes seconds.
"""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from feature_store.core.documents import read_object
from feature_store.core.errors import UserError
from feature_store.core.files import write_json, write_text
from feature_store.core.manifests import fingerprint
from feature_store.history import HISTORY_SCHEMA
from feature_store.offline.views import EVENT_TIME, ID_COLUMN, FeatureView
from feature_store.schema import SIDES
from feature_store.settings import FeatureStoreConfig

PROJECT = "recsys"
# File of the settings of Feast; the directory is a repository of Feast once it is there.
REPOSITORY = "feature_store.yaml"

_APPLIED = "applied.json"
_SHARED_METRICS = ("PROMETHEUS_MULTIPROCESS_DIR", "PROMETHEUS_MULTIPROC_DIR")
_DEFINITIONS = '''"""The views of this directory, for Feast. Written by `recsys materialize`."""

from pathlib import Path

from feature_store.feast.repository import definitions

globals().update(definitions(Path(__file__).parent))
'''


def apply_repository(
    directory: Path, views: Sequence[FeatureView], settings: FeatureStoreConfig
) -> bool:
    """Writes the repository and registers its views, unless that was done before.

    Args:
        directory: Directory of the repository.
        views: Views of at least one column each.
        settings: Settings of the online store.

    Returns:
        Whether anything was written.
    """
    directory = directory.absolute()
    columns = {view.side: view.columns.serialize().to_pybytes().hex() for view in views}
    configuration = _configuration(directory, settings)
    # Feast stores absolute paths: a directory that was moved is applied again.
    identity = fingerprint([str(directory), columns, configuration, _DEFINITIONS])
    applied = directory / _APPLIED
    if applied.exists() and (directory / "registry.db").exists():
        if read_object(applied).get("fingerprint") == identity:
            return False
        applied.unlink()
    write_json(directory / "views.json", columns)
    write_text(directory / "definitions.py", _DEFINITIONS)
    write_text(directory / REPOSITORY, yaml.safe_dump(configuration, sort_keys=False))
    (directory / "registry.db").unlink(missing_ok=True)  # Feast does not write it atomically.
    feast_store(directory).apply(list(definitions(directory).values()))
    write_json(applied, {"fingerprint": identity})
    return True


def feast_store(directory: Path) -> Any:
    """Opens a repository as Feast's `FeatureStore`.

    Raises:
        UserError: There is none.
    """
    if not (directory / REPOSITORY).exists():
        raise UserError(f"{directory} is not a feature store; run `recsys materialize` first.")
    _import_feast()
    from feast import FeatureStore

    return FeatureStore(repo_path=str(directory))


def _import_feast() -> None:
    """Imports Feast, and takes back what that sets: metrics of Prometheus that processes share.

    They would be all of this process: a server would go on with the counts of the one before it,
    and processes that are started here would look for a directory that is gone.
    """
    before = {name: os.environ.get(name) for name in _SHARED_METRICS}
    importlib.import_module("prometheus_client")  # It looks at the environment once.
    importlib.import_module("feast")
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)


def read_views(directory: Path) -> list[FeatureView]:
    """Reads the views of a repository.

    Raises:
        UserError: There is none.
    """
    path = directory / "views.json"
    if not path.exists():
        raise UserError(f"{directory} is not a feature store; run `recsys materialize` first.")
    columns = read_object(path)
    return [
        FeatureView(side, pa.ipc.read_schema(pa.py_buffer(bytes.fromhex(columns[side]))))
        for side in SIDES
        if side in columns
    ]


def definitions(directory: Path) -> dict[str, Any]:
    """Builds Feast's objects by name: entities, a view for each side, and the queries' history."""
    _import_feast()
    from feast import Entity, ValueType

    directory = directory.absolute()
    entities = {
        side: Entity(name=side, join_keys=[ID_COLUMN[side]], value_type=ValueType.STRING)
        for side in SIDES
    }
    objects: dict[str, Any] = {f"{side}_entity": entity for side, entity in entities.items()}
    for view in read_views(directory):
        names = {view.feast_names[field.name]: field.type for field in view.columns}
        objects |= _view(directory, view.name, entities[view.side], view.id_column, names)
    names = {field.name: field.type for field in HISTORY_SCHEMA}
    objects |= _view(directory, "query_history", entities["query"], ID_COLUMN["query"], names)
    return objects


def _view(
    directory: Path, name: str, entity: Any, id_column: str, types: dict[str, pa.DataType]
) -> dict[str, Any]:
    """Builds a view and its source, by name."""
    from feast import FeatureView, FileSource
    from feast.data_format import ParquetFormat

    source = FileSource(
        name=f"{name}_snapshots",
        path=str(directory / "offline" / name / "*.parquet"),
        file_format=ParquetFormat(),
        timestamp_field=EVENT_TIME,
    )
    schema = _fields(id_column, types)
    view = FeatureView(name=name, entities=[entity], schema=schema, source=source, ttl=None)
    return {source.name: source, name: view}


def _fields(id_column: str, types: dict[str, pa.DataType]) -> list[Any]:
    from feast import Field
    from feast.types import String

    features = [Field(name=name, dtype=feast_type(kind)) for name, kind in types.items()]
    return [Field(name=id_column, dtype=String), *features]


def feast_type(kind: pa.DataType) -> Any:
    """Returns Feast's type of a raw column; Feast has fewer types, so values are widened."""
    from feast import types

    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return types.Array(feast_type(kind.value_type))
    if pa.types.is_boolean(kind):
        return types.Bool
    if pa.types.is_integer(kind):
        fits = kind.bit_width < 32 or kind == pa.int32()
        return types.Int32 if fits else types.Int64
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        return types.Float32
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return types.Float64
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return types.UnixTimestamp
    return types.String


def _configuration(directory: Path, settings: FeatureStoreConfig) -> dict[str, Any]:
    online = settings.model_dump(mode="json", exclude_none=True)
    return {
        "project": PROJECT,
        "provider": "local",
        "registry": {"path": str(directory / "registry.db"), "cache_ttl_seconds": 60},
        "offline_store": {"type": "duckdb"},
        "online_store": {
            "type": "feature_store.feast.online_store.RowOnlineStore",
            "settings": online,
        },
        "entity_key_serialization_version": 3,
    }
