"""The `materialize` stage: prepared data to the feature store's snapshots and its online rows."""

import shutil
import time
import uuid
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from feature_store.core.files import locked, remove_temporary_files
from feature_store.core.manifests import fingerprint, read_manifest, write_manifest
from feature_store.core.settings import Frozen
from feature_store.core.times import microseconds
from feature_store.feast.repository import apply_repository
from feature_store.forgotten import Forgotten
from feature_store.offline.views import FeatureView
from feature_store.online import open_online_store
from feature_store.online.store import Contents, Event, Keep, OnlineStore, View, schema_in_hex
from feature_store.schema import SIDES, Side
from pipelines.executor import executor_named
from pipelines.materialize import steps as steps
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config

# Of what the stage makes: raise it when the same prepared data gives other content.
_VERSION = 1


class Materialization(Frozen):
    """What was materialized.

    Attributes:
        version: Of this manifest.
        fingerprint: Of the prepared data and the configuration: equal means nothing to redo.
        generation: Of the online store.
        as_of: ISO-8601; time of the snapshot.
        rows: In the online store, by view.
        changed: Rows added to the snapshots, by view.
        seconds: Of the stage; `load_seconds` of the online store's load alone.
    """

    version: int = _VERSION
    fingerprint: str
    generation: str
    as_of: str
    rows: dict[View, int]
    changed: dict[str, int]
    seconds: float
    load_seconds: float


def materialize(config: Config, *, console: Console | None = None) -> Materialization:
    """Fills the feature store from the prepared data, or returns at once where that is done.

    Readers see all of the new generation or all of the one before. Events that were appended online
    stay where they are later than the prepared data's last event. Ids that are no longer current
    are removed from the online store and get a tombstone offline; of forgotten ones no row stays.

    Args:
        config: Its output, data and feature store.
        console: For progress.

    Returns:
        The manifest of `config.feature_store_dir`.

    Raises:
        UserError: Nothing is prepared, the tables changed since, or the online store is not there.
    """
    console = console or Console()
    prepared = Prepared(config.prepared_dir)
    forgotten = Forgotten.load(config.forgotten_path)
    directory = config.feature_store_dir.absolute()
    store = open_online_store(config.feature_store, directory)
    try:
        refusal = (
            f"another process materializes into {directory}; wait for it, or choose another output."
        )
        with locked(directory / ".lock", refusal):
            manifest = _materialize(config, prepared, forgotten, directory, store, console)
            cut = microseconds(
                datetime.fromisoformat(prepared.manifest.last_event or prepared.manifest.as_of)
            )
            store.prune(_keeper(forgotten, cut))
            return manifest
    finally:
        store.close()


def _materialize(
    config: Config,
    prepared: Prepared,
    forgotten: Forgotten,
    directory: Path,
    store: OnlineStore,
    console: Console,
) -> Materialization:
    remove_temporary_files(directory)  # Of killed runs; they may hold what is forgotten.
    identity = _fingerprint(config, prepared, forgotten)
    earlier = read_manifest(directory, Materialization)
    current = store.contents()
    if (
        earlier is not None
        and earlier.fingerprint == identity
        and current is not None
        and current.generation == earlier.generation
    ):
        _print(console, f"{directory} is up to date")
        return earlier
    started = time.monotonic()
    work = directory / ".work" / identity
    for other in (directory / ".work").glob("*"):
        if other != work:
            shutil.rmtree(other)
    work.mkdir(parents=True, exist_ok=True)
    stage = steps.Stage(
        prepared,
        forgotten,
        directory,
        work,
        partial(_print, console),
        executor_named(config.executor),
    )
    views, waiting = steps.write_features(stage)
    waiting.append(steps.write_histories(stage))
    contents = _contents(config, prepared, views)
    total = sum(part.rows for part in waiting)
    _print(console, f"loading {total:,} rows into {config.feature_store.online}")
    load_started = time.monotonic()
    steps.load(store, contents, waiting)
    ended = time.monotonic()
    manifest = Materialization(
        fingerprint=identity,
        generation=contents.generation,
        as_of=prepared.manifest.as_of,
        rows={part.view: part.rows for part in waiting},
        changed={part.view: part.changed for part in waiting if part.view != "query_history"},
        seconds=ended - started,
        load_seconds=ended - load_started,
    )
    apply_repository(directory, views, config.feature_store)
    write_manifest(directory, manifest)
    shutil.rmtree(directory / ".work")
    _print_summary(console, manifest)
    return manifest


def _fingerprint(config: Config, prepared: Prepared, forgotten: Forgotten) -> str:
    log = prepared.manifest
    settings = config.feature_store.model_dump(mode="json")
    return fingerprint([_VERSION, log.fingerprint, log.as_of, forgotten.fingerprint, settings])


def _contents(config: Config, prepared: Prepared, views: list[FeatureView]) -> Contents:
    columns = {view.side: view.columns for view in views}
    nothing = pa.schema([])
    history = prepared.manifest.data.history
    return Contents(
        generation=uuid.uuid4().hex[:12],
        features=prepared.features,
        columns={side: schema_in_hex(columns.get(side, nothing)) for side in SIDES},
        max_length=history.max_length,
        distinct=history.distinct,
    )


def _keeper(forgotten: Forgotten, cut: int) -> Keep:
    """Of the events that were appended online, keeps those that the log does not have yet."""

    @lru_cache(maxsize=100_000)
    def is_forgotten(side: Side, text: str) -> bool:
        return bool(forgotten.contains(side, pa.array([text]))[0])

    def keep(query_id: str, event: Event) -> bool:
        time, item_id = event
        if time <= cut:
            return False
        return not (is_forgotten("query", query_id) or is_forgotten("item", item_id))

    return keep


def _print(console: Console, text: str) -> None:
    console.print(f"materialize: {text}", markup=False, highlight=False, soft_wrap=True)


def _print_summary(console: Console, done: Materialization) -> None:
    rows = sum(done.rows.values())
    views = ", ".join(f"{name} {count:,}" for name, count in done.rows.items())
    _print(console, f"{views}; {sum(done.changed.values()):,} rows of the snapshots changed")
    _print(
        console,
        f"{rows:,} rows in {done.seconds:.1f} s, {rows / max(done.seconds, 1e-9):,.0f} rows/s; the "
        f"load alone {rows / max(done.load_seconds, 1e-9):,.0f} rows/s",
    )
