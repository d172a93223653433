"""The steps of `materialize`: each hands tasks to Ray and collects what they wrote."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from feature_store.core.errors import UserError
from feature_store.core.manifests import MANIFEST
from feature_store.forgotten import Forgotten
from feature_store.offline.snapshots import Snapshots
from feature_store.offline.views import FeatureView, raw_columns
from feature_store.online.store import Contents, OnlineStore, View
from feature_store.schema import SIDES, Side
from pipelines.executor import Executor, LocalExecutor
from pipelines.executor.tasks import run_tasks
from pipelines.logs.tables import Source, list_files, open_sources
from pipelines.materialize import tasks as tasks
from pipelines.prepared.reader import SPLITS, Prepared

Task = TypeVar("Task")
Summary = TypeVar("Summary")

_PART_EVENTS = 1_000_000
# With fewer rows Ray would take longer to start than the work takes.
_EXECUTOR_FROM_ROWS = 10_000_000


@dataclass(frozen=True)
class Stage:
    """What every step works on.

    Attributes:
        prepared: The data.
        forgotten: Ids of which nothing stays.
        directory: Of the feature store.
        work: For what steps hand each other.
        say: Callback that tells the user what begins.
        executor: Engine that runs the tasks of a large step.
    """

    prepared: Prepared
    forgotten: Forgotten
    directory: Path
    work: Path
    say: Callable[[str], None]
    executor: Executor

    def catalogue(self, side: Side) -> tasks.Catalogue:
        """The ids of a side."""
        path = self.prepared.directory.absolute() / "vocabulary" / f"{side}_id.parquet"
        return tasks.Catalogue(side, path, self.forgotten)

    def run(
        self, name: str, function: Callable[[Task], Summary], todo: Sequence[Task], rows: int
    ) -> list[Summary]:
        """Runs the tasks of a step, each once; in this process where there is little to do."""
        (self.work / name).mkdir(exist_ok=True)
        executor = self.executor if rows >= _EXECUTOR_FROM_ROWS else LocalExecutor()
        summaries = [self.work / name / f"{index:05d}.json" for index in range(len(todo))]
        return run_tasks(executor, function, todo, summaries=summaries, say=self.say)


@dataclass(frozen=True)
class WaitingRows:
    """Rows that wait for the online store, in files in the order of their ids' hash."""

    view: View
    files: list[Path]
    rows: int
    changed: int


def write_features(stage: Stage) -> tuple[list[FeatureView], list[WaitingRows]]:
    """The snapshots of both sides; the rows for the online store wait in files."""
    log = stage.prepared.manifest
    sources = open_sources(log.data, log.features, list_files(log.data))
    views: list[FeatureView] = []
    waiting: list[WaitingRows] = []
    for side in SIDES:
        source, names = sources.side(side), raw_columns(log.features, side)
        if source is None or not names:
            continue
        _require_unchanged(stage.prepared, source)
        columns = pa.schema([(name, source.schema.field(name).type) for name in names])
        view = FeatureView(side, columns)
        views.append(view)
        stage.say(f"reading {source.rows:,} rows of {source.table}")
        waiting.append(_write_side(stage, view, source))
    return views, waiting


def _write_side(stage: Stage, view: FeatureView, source: Source) -> WaitingRows:
    log = stage.prepared.manifest
    snapshots = Snapshots.open(view, stage.directory / "offline", source.rows)
    snapshots.require_latest(datetime.fromisoformat(log.as_of))
    folder = stage.work / view.side
    folder.mkdir(exist_ok=True)
    cuts = [
        tasks.CutRows(
            piece=piece,
            id_column=log.data.columns.id_of(view.side),
            catalogue=stage.catalogue(view.side),
            snapshots=snapshots,
            path=folder / f"cut-{piece.index:05d}.arrow",
        )
        for piece in source.pieces
    ]
    stage.run(f"{view.side}-cut", tasks.cut_rows, cuts, source.rows)
    writes = [
        tasks.WriteFeatures(
            part=part,
            inputs=tuple(cut.path for cut in cuts),
            snapshots=snapshots,
            as_of=datetime.fromisoformat(log.as_of),
            forgotten=stage.forgotten,
            path=folder / f"rows-{part:05d}.arrow",
        )
        for part in range(snapshots.parts)
    ]
    done = stage.run(f"{view.side}-write", tasks.write_features, writes, source.rows)
    return WaitingRows(
        view="item_features" if view.side == "item" else "query_features",
        files=[write.path for write in writes],
        rows=sum(part.rows for part in done),
        changed=sum(part.changed for part in done),
    )


def write_histories(stage: Stage) -> WaitingRows:
    """The recent histories of all queries; the rows for the online store wait in files."""
    counts = stage.prepared.manifest.counts
    events = counts.train + counts.validation + counts.test
    stage.say(f"reading {events:,} events")
    parts = max(1, -(-events // _PART_EVENTS))
    folder = stage.work / "history"
    offline = stage.directory / "offline" / "query_history"
    folder.mkdir(exist_ok=True)
    files = [file for split in SPLITS for file in stage.prepared.examples(split)]
    cuts = [
        tasks.CutEvents(
            examples=file.absolute(),
            queries=stage.catalogue("query"),
            parts=parts,
            path=folder / f"cut-{index:05d}.arrow",
        )
        for index, file in enumerate(files)
    ]
    stage.run("history-cut", tasks.cut_events, cuts, events)
    writes = [
        tasks.WriteHistories(
            part=part,
            parts=parts,
            inputs=tuple(cut.path for cut in cuts),
            queries=stage.catalogue("query"),
            items=stage.catalogue("item"),
            settings=stage.prepared.manifest.data.history,
            as_of=datetime.fromisoformat(stage.prepared.manifest.as_of),
            snapshot=offline / f"part-{part:05d}-of-{parts:05d}.parquet",
            path=folder / f"rows-{part:05d}.arrow",
        )
        for part in range(parts)
    ]
    done = stage.run("history-write", tasks.write_histories, writes, events)
    for file in set(offline.glob("*.parquet")) - {write.snapshot for write in writes}:
        file.unlink()  # Of another number of parts.
    rows = sum(part.rows for part in done)
    return WaitingRows("query_history", [write.path for write in writes], rows, 0)


def load(store: OnlineStore, contents: Contents, waiting: list[WaitingRows]) -> None:
    """Fills a new generation of the online store, and puts it in the place of the old one."""
    with store.load(contents) as loader:
        for part in waiting:
            for file in part.files:
                with pa.memory_map(str(file)) as source:
                    table = pa.ipc.open_file(source).read_all()
                for batch in table.to_batches():
                    loader.add(part.view, batch["id"], batch["row"])


def _require_unchanged(prepared: Prepared, source: Source) -> None:
    """A value that is newer than the prepared data would be dated back to its time."""
    prepared_at = (prepared.directory / MANIFEST).stat().st_mtime_ns
    for file in source.files:
        if "://" not in file and os.stat(file).st_mtime_ns > prepared_at:
            raise UserError(
                f"{source.table}: {file} changed after it was prepared; run `recsys prepare` again."
            )
