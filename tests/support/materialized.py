"""Small feature stores, and what their readers see."""

from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from feature_store.core.times import microseconds
from feature_store.online import open_online_store
from feature_store.online.features import OnlineFeatures
from pipelines.materialize.materialize import Materialization
from recsys.config.config import Config
from recsys.config.load import parse_config
from recsys.stages.materialize import materialize
from recsys.stages.prepare import prepare
from tests.support.prepare_logs import (
    FEATURES,
    items_table,
    queries_table,
    random_events,
    write_log,
)

QUIET = Console(quiet=True)
MAX_LENGTH = 12


def configure(directory: Path, paths: dict[str, str], **sections: Any) -> Config:
    """Builds a configuration with every kind of feature; `sections` overrides keys of sections."""
    document: dict[str, Any] = {
        "executor": "local",
        "output": str(directory / "out"),
        "data": {**paths, "history": {"max_length": MAX_LENGTH}},
        "features": FEATURES.model_dump(mode="json"),
        "ssl": {"method": "none"},
    }
    for name, keys in sections.items():
        document[name] = {**document.get(name, {}), **keys}
    return parse_config(document)


def write_tables(directory: Path, **changes: pa.Table) -> dict[str, str]:
    """Writes a small log of three tables, some of them given."""
    tables = {
        "events": random_events(0),
        "items": items_table(),
        "queries": queries_table(),
        **changes,
    }
    return write_log(directory / "log", **tables)


def run(config: Config) -> Materialization:
    """Prepares and materializes without output."""
    prepare(config, console=QUIET)
    return materialize(config, console=QUIET)


def reader_of(config: Config) -> OnlineFeatures:
    """Opens the online store as serving does."""
    return OnlineFeatures(open_online_store(config.feature_store, config.feature_store_dir))


def history(reader: OnlineFeatures, query: str) -> list[tuple[int, str]]:
    """Reads times and items of a query's online history."""
    events = reader.query(query).history
    return [(microseconds(event.timestamp), event.item_id) for event in events]


def fresh_answers(config: Config) -> list[Any]:
    """Reads what a reader that has just started sees of all queries and items."""
    reader = reader_of(config)
    queries = [
        (reader.query(f"q{q}").features.to_pylist(), history(reader, f"q{q}")) for q in range(25)
    ]
    items = reader.items([f"i{i}" for i in range(60)]).to_pylist()
    reader.close()
    return [queries, items]
