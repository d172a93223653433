"""The `materialize` stage: prepared data to the feature store's snapshots and its online rows."""

import shutil
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from feature_store.core.files import (
    marked_by,
    require_replaceable,
)
from feature_store.core.locks import locked, reading
from feature_store.core.manifests import fingerprint, read_manifest, write_manifest
from feature_store.core.settings import Frozen
from feature_store.core.temporary import remove_temporary_files
from feature_store.core.times import microseconds
from feature_store.feast.repository import REPOSITORY, apply_repository, read_views
from feature_store.forgotten import Forgotten
from feature_store.offline.views import FeatureView
from feature_store.online import open_online_store
from feature_store.online.store import (
    BrokenStoreError,
    Contents,
    Event,
    Keep,
    OnlineStore,
    View,
    schema_in_hex,
)
from feature_store.schema import SIDES, Side
from feature_store.settings import FeatureStoreConfig
from pipelines.executor import Executor
from pipelines.materialize.features import write_features
from pipelines.materialize.histories import write_histories
from pipelines.materialize.job import Job, WaitingRows
from pipelines.prepared.reader import Prepared
from pipelines.settings import DataConfig

# Version of the content: raise it when the same prepared data gives another one.
_VERSION = 1
# Folder of unfinished work; it, or the repository of Feast, tells the directory from others.
_WORK = ".work"


class Materialization(Frozen):
    """The manifest of the feature store.

    Attributes:
        version: Version of this manifest.
        fingerprint: Identity of the prepared data and the settings: equal means nothing to redo.
        generation: Generation of the online store.
        as_of: Time of the snapshot, ISO-8601.
        rows: Number of rows in the online store, by view.
        changed: Number of rows added to the snapshots, by view.
        seconds: Duration of the stage.
        load_seconds: Duration of loading the online store alone.
    """

    version: int = _VERSION
    fingerprint: str
    generation: str
    as_of: str
    rows: dict[View, int]
    changed: dict[str, int]
    seconds: float
    load_seconds: float


def materialize(
    prepared_dir: Path,
    output: Path,
    settings: FeatureStoreConfig,
    *,
    executor: Executor,
    data: DataConfig | None = None,
    forgotten: Forgotten | None = None,
    console: Console | None = None,
) -> Materialization:
    """Fills the feature store from the prepared data, or returns at once if that is done.

    Readers see all of the new generation or all of the one before. Events that were appended online
    stay if they are later than the prepared data's last event. Ids that are no longer current are
    removed from the online store and get a tombstone offline; of forgotten ones no row stays.

    Args:
        prepared_dir: The prepared directory.
        output: Directory of the feature store.
        settings: Settings of the feature store.
        executor: Engine that runs the tasks of large steps; the result does not depend on it.
        data: Configuration that says where the log is now; None: where it was prepared.
        forgotten: Ids of which nothing stays.
        console: Console for progress.

    Returns:
        The manifest of the feature store.

    Raises:
        UserError: Nothing is prepared, the tables changed since, or the online store is not there.
    """
    console = console or Console()
    Prepared(prepared_dir)  # Before anything is made, for there may be none.
    directory = output.absolute()
    require_replaceable(directory, marked_by(_WORK, REPOSITORY))
    with locked(directory), reading(prepared_dir):
        (directory / _WORK).mkdir(parents=True, exist_ok=True)
        prepared = Prepared(prepared_dir)
        job = Job(
            prepared,
            _located(prepared.manifest.data, data),
            forgotten or Forgotten(),
            directory,
            directory / _WORK,
            partial(_print, console),
            executor,
        )
        with closing(open_online_store(settings, directory)) as store:
            manifest = _materialize(job, settings, store)
            warning = store.prune(_keeper(job.forgotten, _cut(prepared)))
            if warning is not None:
                job.say(warning)
            return manifest


def _cut(prepared: Prepared) -> int:
    """Returns the time of the last event of the log, in microseconds since 1970."""
    log = prepared.manifest
    return microseconds(datetime.fromisoformat(log.last_event or log.as_of))


def _located(prepared: DataConfig, data: DataConfig | None) -> DataConfig:
    """Returns the configuration of the prepared log, with the places of the present one."""
    if data is None:
        return prepared
    places = {"events": data.events, "items": data.items, "queries": data.queries}
    return prepared.model_copy(update=places)


def _materialize(job: Job, settings: FeatureStoreConfig, store: OnlineStore) -> Materialization:
    remove_temporary_files(job.directory)  # A killed run left them; they may hold forgotten ids.
    identity = _fingerprint(job, settings)
    earlier = read_manifest(job.directory, Materialization)
    is_same = earlier is not None and earlier.fingerprint == identity
    if earlier is not None and is_same and _is_whole(store, earlier, job.say):
        shutil.rmtree(job.work, ignore_errors=True)  # A killed run may have left it.
        apply_repository(job.directory, read_views(job.directory), settings)  # It may have moved.
        job.say(f"{job.directory} is up to date")
        return earlier
    started = time.monotonic()
    work = job.work / identity
    for other in job.work.glob("*"):
        if other != work:
            shutil.rmtree(other)
    job = replace(job, work=work)
    views, waiting = write_features(job)
    waiting.append(write_histories(job))
    contents = _contents(job.prepared, views)
    total = sum(part.rows for part in waiting)
    job.say(f"loading {total:,} rows into {settings.online}")
    load_started = time.monotonic()
    load(store, contents, waiting)
    ended = time.monotonic()
    manifest = Materialization(
        fingerprint=identity,
        generation=contents.generation,
        as_of=job.prepared.manifest.as_of,
        rows={part.view: part.rows for part in waiting},
        changed={part.view: part.changed for part in waiting if part.view != "query_history"},
        seconds=ended - started,
        load_seconds=ended - load_started,
    )
    apply_repository(job.directory, views, settings)
    write_manifest(job.directory, manifest)
    shutil.rmtree(work.parent)
    _print_summary(job, manifest)
    return manifest


def _is_whole(store: OnlineStore, earlier: Materialization, say: Callable[[str], None]) -> bool:
    """Tells whether the online store holds every row of an earlier run; says what it lacks."""
    try:
        current = store.contents()
        if current is None or current.generation != earlier.generation:
            return False
        found = store.count_rows()
    except BrokenStoreError as error:
        say(f"{error} This run does so.")
        return False
    for view, rows in earlier.rows.items():
        if found[view] < rows:
            say(f"the online store has lost {rows - found[view]:,} rows of {view}; it is made anew")
            return False
    return True


def load(store: OnlineStore, contents: Contents, waiting: list[WaitingRows]) -> None:
    """Fills a new generation of the online store, and puts it in the place of the old one."""
    with store.load(contents) as loader:
        for part in waiting:
            for file in part.files:
                with pa.memory_map(str(file)) as source:
                    table = pa.ipc.open_file(source).read_all()
                for batch in table.to_batches():
                    loader.add(part.view, batch["id"], batch["row"])


def _fingerprint(job: Job, settings: FeatureStoreConfig) -> str:
    log = job.prepared.manifest
    store = settings.model_dump(mode="json")
    return fingerprint([_VERSION, log.fingerprint, log.as_of, job.forgotten.fingerprint, store])


def _contents(prepared: Prepared, views: list[FeatureView]) -> Contents:
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
    """Returns a filter of events appended online: it keeps those that the log does not have yet."""

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


def _print_summary(job: Job, manifest: Materialization) -> None:
    rows = sum(manifest.rows.values())
    views = ", ".join(f"{name} {count:,}" for name, count in manifest.rows.items())
    job.say(f"{views}; {sum(manifest.changed.values()):,} rows of the snapshots changed")
    job.say(
        f"{rows:,} rows in {manifest.seconds:.1f} s, {rows / max(manifest.seconds, 1e-9):,.0f} "
        f"rows/s; the load alone {rows / max(manifest.load_seconds, 1e-9):,.0f} rows/s"
    )
