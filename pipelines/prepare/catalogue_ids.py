"""The steps of `prepare` that read and encode the catalogue of items or queries."""

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.columns import write_columns
from feature_store.core.errors import UserError
from feature_store.core.files import write_array, write_parquet
from feature_store.encoding.encoder import SideEncoder
from feature_store.encoding.vocabulary import Vocabulary
from feature_store.schema import Side
from pipelines.logs.tables import Source
from pipelines.prepare import catalogue_features as catalogue
from pipelines.prepare.job import Run, count_of
from pipelines.prepare.scan import Scan, kept_ids
from pipelines.statistics.summaries import Summary, merge, summarise_column

# So many may be in memory with their repetitions.
_FEW_IDS = 1_000_000


@dataclass(frozen=True)
class Catalogue:
    """What is known of a side.

    Attributes:
        side: Which.
        source: Its table, if there is one.
        row_ids: The ids of the table's kept rows.
        ids: All distinct ids of this run.
        rejected: Rows of the table by reason.
        rejected_rows: By piece, the file of those that are to be put aside.
    """

    side: Side
    source: Source | None
    row_ids: pa.Array
    ids: pa.Array
    rejected: dict[str, int]
    rejected_rows: dict[int, Path]


def read_catalogue(run: Run, side: Side) -> Catalogue:
    """Reads the ids of a side's table, and finds the rows to be kept.

    Raises:
        UserError: None of the rows has an id.
    """
    source = run.job.sources.side(side)
    if source is None:
        nothing = pa.array([], pa.string())
        return Catalogue(side, None, nothing, nothing, {}, {})
    run.job.progress.begin(f"reading {count_of(source.rows, 'row')} of {source.table}")
    folder = run.folder(side)
    column = run.job.data.columns.id_of(side)
    tasks = [
        catalogue.ReadIds(piece, column, folder / f"ids-{piece.index:05d}.parquet")
        for piece in source.pieces
    ]
    run.tasks(f"{side}-ids", catalogue.read_ids, tasks)
    parts = [_ids(task.path) for task in tasks]
    counts: Counter[str] = Counter()
    rejected: dict[int, Path] = {}
    kept: list[pa.Array] = []
    found = catalogue.kept_rows(parts, side, run.job.forgotten)
    for piece, part, rejections in zip(source.pieces, parts, found, strict=True):
        kept.append(part.filter(pa.array(rejections.kept)))
        rows = catalogue.rows_file(folder, piece.index)
        write_array(rows, np.flatnonzero(rejections.kept))
        counts.update(rejections.counts())
        put_aside = rejections.table()
        if len(put_aside):
            rejected[piece.index] = folder / f"rejected-{piece.index:05d}.parquet"
            write_parquet(rejected[piece.index], put_aside)
    row_ids = pa.concat_arrays(kept)
    if not len(row_ids):
        raise UserError(
            f"{source.table}: all {count_of(source.rows, 'row')} have a null id in column "
            f"{column!r}; mend the table, or set data.columns.{side}_id."
        )
    return Catalogue(side, source, row_ids, row_ids, dict(counts), rejected)


def complete_catalogue(found: Catalogue, scans: tuple[Scan, ...]) -> Catalogue:
    """Adds ids that only the events have: of all queries, and of items without a table."""
    if found.side == "item" and found.source is not None:
        return found
    ids, waiting = found.row_ids, 0
    parts = [ids]
    for task in scans:
        parts.append(kept_ids(task, found.side))
        waiting += len(parts[-1])
        if waiting > max(_FEW_IDS, len(ids)):  # Each id is looked at a few times at most.
            ids, waiting = pc.unique(pa.concat_arrays(parts)), 0
            parts = [ids]
    return replace(found, ids=pc.unique(pa.concat_arrays(parts)))


def encode_catalogue(
    run: Run, found: Catalogue, previous: SideEncoder | None
) -> tuple[Vocabulary, Summary | None]:
    """Grows the vocabularies of a side, and encodes its features.

    Returns:
        The ids, their place being the index; and what the columns of the side's table hold.
    """
    side, source = found.side, found.source
    features = run.job.features.side(side)
    table = "items" if side == "item" else "queries"
    folder = run.folder(side)
    clear_unused = False
    if previous is not None:
        previous, clear_unused = catalogue.without_forgotten(previous, side, run.job.forgotten)
    ids = catalogue.grow_ids(found.ids, previous.ids if previous is not None else None)
    run.job.progress.begin(f"encoding {len(ids):,} {table}, {count_of(len(features), 'feature')}")
    has_columns = any(not feature.is_id for feature in features)
    pieces = source.pieces if source is not None and has_columns else ()
    count_tasks = [
        catalogue.CountFeatures(piece, features, catalogue.rows_file(folder, piece.index), folder)
        for piece in pieces
    ]
    summaries = run.tasks(f"{side}-count", catalogue.count_features, count_tasks)
    counted = partial(catalogue.read_counts, count_tasks)
    items = catalogue.shared_encoder(run.directory / "vocabulary", run.job.features, side)
    encoder = catalogue.build_encoder(
        side, features, ids, counted, previous, items, clear_unused=clear_unused
    )
    encoder.save(run.directory / "vocabulary")
    path = run.directory / "statistics" / f"{side}.hashing.json"
    for warning in catalogue.write_hashing_statistics(path, side, features, counted):
        run.job.progress.note(warning)
    encode_tasks = [
        catalogue.EncodeFeatures(
            piece,
            side,
            run.job.features,
            catalogue.rows_file(folder, piece.index),
            run.directory / "vocabulary",
            folder / f"encoded-{piece.index:05d}.arrow",
        )
        for piece in pieces
    ]
    run.tasks(f"{side}-encode", catalogue.encode_features, encode_tasks)
    current = np.zeros(len(ids), bool)
    current[ids.rows(found.ids)] = True
    write_array(folder / "current.npy", current)
    row_ids = found.row_ids if pieces else found.row_ids[:0]
    columns = catalogue.join_features(
        encoder, [task.path for task in encode_tasks], row_ids, current
    )
    write_columns(run.directory / table / "features.arrow", columns)
    return ids, _summary(run, found, summaries)


def _summary(run: Run, found: Catalogue, parts: list[Summary]) -> Summary | None:
    if found.source is None:
        return None
    columns = {run.job.data.columns.id_of(found.side): summarise_column(found.row_ids)}
    if parts:
        columns |= merge(parts).columns
    return Summary(len(found.row_ids), columns)


def _ids(path: Path) -> pa.Array:
    """One array, also of a table without rows."""
    return pa.concat_arrays([pa.array([], pa.string()), *pq.read_table(path)["id"].chunks])
