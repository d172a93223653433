"""The features of items and queries: raw rows to snapshots, and to rows of the online store."""

import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import id_strings
from feature_store.core.errors import UserError
from feature_store.core.manifests import MANIFEST
from feature_store.core.rows import encode_rows
from feature_store.forgotten import Forgotten
from feature_store.offline.snapshots import Snapshots
from feature_store.offline.views import FeatureView, raw_columns
from feature_store.schema import SIDES
from pipelines.executor.shuffle import read_partitions, write_partitions
from pipelines.logs.tables import Piece, Source, list_files, open_sources, read_as, read_piece
from pipelines.materialize.job import Catalogue, Job, WaitingRows, Written, load_ids, write_rows
from pipelines.prepared.reader import Prepared
from pipelines.urls import shown


@dataclass(frozen=True)
class CutRows:
    """A task: cut the rows of a piece of a side's table by part of the snapshots.

    Attributes:
        piece: Piece of the table.
        id_column: Column of the ids.
        catalogue: Ids of the side; rows of other ids are left out.
        snapshots: Snapshots of the side's view.
        path: File for columns id and the features, partitioned.
    """

    piece: Piece
    id_column: str
    catalogue: Catalogue
    snapshots: Snapshots
    path: Path


@dataclass(frozen=True)
class WriteFeatures:
    """A task: write the snapshot of a part, and its rows for the online store.

    Attributes:
        part: Number of the part.
        inputs: Files that `cut_rows` wrote, in the order of the pieces.
        snapshots: Snapshots to add to.
        as_of: Time of the new snapshot.
        forgotten: Ids of which no row stays.
        path: File for the rows; see `write_rows`.
    """

    part: int
    inputs: tuple[Path, ...]
    snapshots: Snapshots
    as_of: datetime
    forgotten: Forgotten
    path: Path


def write_features(job: Job) -> tuple[list[FeatureView], list[WaitingRows]]:
    """Writes the snapshots of both sides; the rows for the online store wait in files."""
    log = job.prepared.manifest
    sources = open_sources(job.data, log.features, list_files(job.data))
    views: list[FeatureView] = []
    waiting: list[WaitingRows] = []
    for side in SIDES:
        source, names = sources.side(side), raw_columns(log.features, side)
        if source is None or not names:
            continue
        _require_unchanged(job.prepared, source)
        columns = pa.schema([(name, source.schema.field(name).type) for name in names])
        view = FeatureView(side, columns)
        views.append(view)
        job.say(f"reading {source.rows:,} rows of {source.table}")
        waiting.append(_write_side(job, view, source))
    return views, waiting


def _write_side(job: Job, view: FeatureView, source: Source) -> WaitingRows:
    log = job.prepared.manifest
    snapshots = Snapshots.open(view, job.directory / "offline", source.rows)
    snapshots.require_latest(datetime.fromisoformat(log.as_of))
    folder = job.work / view.side
    cuts = [
        CutRows(
            piece=piece,
            id_column=log.data.columns.key_of(view.side),
            catalogue=job.catalogue(view.side),
            snapshots=snapshots,
            path=folder / f"cut-{piece.index:05d}.arrow",
        )
        for piece in source.pieces
    ]
    job.run_tasks(f"{view.side}-cut", cut_rows, cuts, source.rows)
    writes = [
        WriteFeatures(
            part=part,
            inputs=tuple(cut.path for cut in cuts),
            snapshots=snapshots,
            as_of=datetime.fromisoformat(log.as_of),
            forgotten=job.forgotten,
            path=folder / f"rows-{part:05d}.arrow",
        )
        for part in range(snapshots.parts)
    ]
    written = job.run_tasks(f"{view.side}-write", write_part, writes, source.rows)
    return WaitingRows(
        view="item_features" if view.side == "item" else "query_features",
        files=[write.path for write in writes],
        rows=sum(part.rows for part in written),
        changed=sum(part.changed for part in written),
    )


def cut_rows(task: CutRows) -> int:
    """Writes the rows of current ids, and returns their number."""
    features = task.snapshots.view.columns
    ids = id_strings(read_piece(task.piece, [task.id_column])[task.id_column])
    raw = read_as(task.piece, features)
    tokens, current = load_ids(task.catalogue)
    kept = pc.is_in(ids, value_set=tokens.filter(pa.array(current)).drop_null())
    columns = [ids, *raw.columns]
    # Columns are named by their position, for a feature may have any name, "id" too.
    table = pa.table(columns, names=[str(index) for index in range(len(columns))]).filter(kept)
    part = task.snapshots.part_of(table["0"].combine_chunks())
    write_partitions(task.path, [(table, part)], task.snapshots.parts)
    return len(table)


def write_part(task: WriteFeatures) -> Written:
    """Writes a part of the snapshots and of the online store; of each id, the first row counts."""
    snapshots = task.snapshots
    parts = [read_partitions(path, [task.part], snapshots.parts) for path in task.inputs]
    table = pa.Table.from_batches([batch for batches in parts for batch in batches])
    ids = table["0"].combine_chunks()
    codes = ids.dictionary_encode().indices.to_numpy()
    table = table.take(pa.array(np.sort(np.unique(codes, return_index=True)[1])))
    ids = table["0"].combine_chunks()
    features = pa.table(table.columns[1:], schema=snapshots.view.columns)
    changed = snapshots.write(task.part, ids, features, task.as_of, task.forgotten)
    write_rows(task.path, ids, encode_rows(features))
    return Written(len(ids), changed)


def _require_unchanged(prepared: Prepared, source: Source) -> None:
    """Refuses a table that was not prepared, or is newer: its values would be dated back."""
    names = [os.path.basename(shown(file)) for file in source.files]
    if names != [os.path.basename(file) for file in prepared.manifest.sources[source.table]]:
        raise UserError(
            f"{source.table}: {shown(source.files[0])} is not of the table that was prepared; run "
            "`recsys prepare` again."
        )
    prepared_at = (prepared.directory / MANIFEST).stat().st_mtime_ns
    for file in source.files:
        if "://" not in file and os.stat(file).st_mtime_ns > prepared_at:
            raise UserError(
                f"{source.table}: {file} changed after it was prepared; run `recsys prepare` again."
            )
