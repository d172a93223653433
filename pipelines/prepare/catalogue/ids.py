"""The ids of the catalogue of items or queries: read, checked, and grown from run to run."""

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.errors import UserError
from feature_store.core.files import write_array, write_parquet
from feature_store.encoding.encoder import SideEncoder
from feature_store.encoding.vocabulary import Vocabulary, grow_vocabulary
from feature_store.forgotten import FORGOTTEN, Forgotten
from feature_store.schema import Side
from pipelines.logs.tables import Piece, Source, read_piece
from pipelines.prepare.cleaning.cleaning import INVALID_ID, NULL_ID, REPEATED_ID, Rejections
from pipelines.prepare.cleaning.ids import (
    ids_of,
    note_on_spellings,
    note_on_texts,
    note_on_unknown,
)
from pipelines.prepare.job import Run, count_of
from pipelines.prepare.scan import Scan, kept_ids

# Number of ids that may be in memory with their repetitions.
_REPEATED_IDS = 1_000_000


@dataclass(frozen=True)
class Catalogue:
    """The items or the queries of this run.

    Attributes:
        side: Side of the catalogue.
        source: Table of the side, if there is one.
        row_ids: Ids of the table's kept rows.
        ids: All distinct ids of this run.
        rejected: Number of the table's rejected rows by reason.
        rejected_rows: File of the rejected rows by piece.
    """

    side: Side
    source: Source | None
    row_ids: pa.Array
    ids: pa.Array
    rejected: dict[str, int]
    rejected_rows: dict[int, Path]


def rows_file(directory: Path, piece: int) -> Path:
    """Returns the NumPy file of the rows of a piece that are kept."""
    return directory / f"rows-{piece:05d}.npy"


def current_file(directory: Path) -> Path:
    """Returns the NumPy file that says of each id whether it is in this run's log."""
    return directory / "current.npy"


def read_catalogue(run: Run, side: Side) -> Catalogue:
    """Reads the ids of a side's table, and decides which rows are kept.

    Raises:
        UserError: None of the rows has an id.
    """
    source = run.job.sources.side(side)
    if source is None:
        nothing = pa.array([], pa.string())
        return Catalogue(side, None, nothing, nothing, {}, {})
    run.job.progress.begin(f"reading {count_of(source.rows, 'row')} of {source.table}")
    folder = run.folder(side)
    column = run.job.data.columns.key_of(side)
    tasks = [
        ReadIds(piece, column, folder / f"ids-{piece.index:05d}.parquet") for piece in source.pieces
    ]
    texts = run.tasks(f"{side}-ids", read_ids, tasks)
    for note in note_on_texts(f"{source.table}: id", texts):
        run.job.progress.note(note)
    parts = [_ids(task.path) for task in tasks]
    counts: Counter[str] = Counter()
    rejected_rows: dict[int, Path] = {}
    kept: list[pa.Array] = []
    checked = _check_ids(parts, side, run.job.forgotten)
    for piece, part, rejections in zip(source.pieces, parts, checked, strict=True):
        kept.append(part["id"].filter(pa.array(rejections.kept)))
        write_array(rows_file(folder, piece.index), np.flatnonzero(rejections.kept))
        counts.update(rejections.counts())
        table = rejections.table()
        if len(table):
            rejected_rows[piece.index] = folder / f"rejected-{piece.index:05d}.parquet"
            write_parquet(rejected_rows[piece.index], table)
    row_ids = pa.concat_arrays(kept)
    if not len(row_ids):
        raise UserError(
            f"{source.table}: all {count_of(source.rows, 'row')} have a null id in column "
            f"{column!r}, or one that is no string or whole number; fix the table, or set "
            f"data.columns.{side}_key."
        )
    return Catalogue(side, source, row_ids, row_ids, dict(counts), rejected_rows)


def complete_catalogue(catalogue: Catalogue, scans: tuple[Scan, ...]) -> Catalogue:
    """Adds ids that only the events have: of all queries, and of items without a table."""
    if catalogue.side == "item" and catalogue.source is not None:
        return catalogue
    return replace(catalogue, ids=_with_events(catalogue.row_ids, catalogue.side, scans))


def _with_events(ids: pa.Array, side: Side, scans: tuple[Scan, ...]) -> pa.Array:
    """Returns distinct ids, and after them those that only the events have, as they come."""
    parts, waiting = [ids], 0
    for task in scans:
        parts.append(kept_ids(task, side))
        waiting += len(parts[-1])
        # Each id is compared only a few times if the limit grows with the number of ids.
        if waiting > max(_REPEATED_IDS, 3 * len(ids)):
            ids, waiting = pc.unique(pa.concat_arrays(parts)), 0
            parts = [ids]
    return pc.unique(pa.concat_arrays(parts))


def note_spellings(run: Run, catalogue: Catalogue, scans: tuple[Scan, ...]) -> None:
    """Warns of ids that may be the same as others of the catalogue, but are written otherwise."""
    side, ids = catalogue.side, catalogue.ids
    notes = list(note_on_spellings(f"{side} ids", ids))
    if side == "item" and catalogue.source is not None:
        notes += note_on_unknown(_with_events(ids, side, scans).slice(len(ids)), ids)
    for note in notes:
        run.job.progress.note(note)


def grow_ids(ids: pa.Array, previous: Vocabulary | None) -> Vocabulary:
    """Returns the catalogue's ids, each counted once; those of an earlier run keep their row.

    Args:
        ids: Distinct ids of this run.
        previous: Ids of the earlier run; those that are gone stay, with count 0.
    """
    counts = pa.table({"token": ids, "count": pa.array(np.ones(len(ids), np.int64))})
    return grow_vocabulary(counts, first_row=0, previous=previous)


def without_forgotten(
    encoder: SideEncoder, side: Side, forgotten: Forgotten
) -> tuple[SideEncoder, bool]:
    """Puts null in place of ids to be forgotten, and returns whether there were any.

    Their rows stay, so that others do not move.
    """
    ids = encoder.ids
    is_forgotten = forgotten.contains(side, ids.tokens)
    if not is_forgotten.any():
        return encoder, False
    tokens = pc.if_else(pa.array(is_forgotten), None, ids.tokens)
    cleared = Vocabulary(tokens, ids.counts, ids.first_row)
    return SideEncoder(
        side, encoder.features, cleared, encoder.vocabularies, encoder.scalings, encoder.items
    ), True


@dataclass(frozen=True)
class ReadIds:
    """A task: write the ids of a piece of a side's table.

    Attributes:
        piece: Piece of the table.
        column: Column of the ids.
        path: File for the ids.
    """

    piece: Piece
    column: str
    path: Path


def read_ids(task: ReadIds) -> dict[str, int]:
    """Writes the ids as strings, and which rows have none; returns `Ids.texts`."""
    ids = ids_of(read_piece(task.piece, [task.column])[task.column])
    write_parquet(task.path, pa.table({"id": ids.strings, "missing": ids.missing}))
    return ids.texts


def _ids(path: Path) -> pa.RecordBatch:
    """Reads what `read_ids` wrote, also of a table without rows."""
    table = pq.read_table(path).combine_chunks()
    return table.to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], table.schema)


def _check_ids(parts: list[pa.RecordBatch], side: Side, forgotten: Forgotten) -> list[Rejections]:
    """Rejects rows without an id, ids to be forgotten, and all but the first row of an id."""
    encoded = pa.concat_arrays([part["id"] for part in parts]).dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy()
    is_first = np.zeros(len(codes), bool)
    is_first[np.unique(codes, return_index=True)[1]] = True
    is_forgotten = np.append(forgotten.contains(side, encoded.dictionary), False)[codes]
    checked: list[Rejections] = []
    start = 0
    for part in parts:
        rejections = Rejections(len(part))
        end = start + len(part)
        rejections.reject(part["missing"], NULL_ID)
        rejections.reject(part["id"].is_null(), INVALID_ID)
        rejections.reject(is_forgotten[start:end], FORGOTTEN)
        rejections.reject(~is_first[start:end], REPEATED_ID)
        checked.append(rejections)
        start = end
    return checked
