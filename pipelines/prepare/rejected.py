"""Rejected rows, read again and kept with the source's own columns and the reason."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.files import write_parquet
from feature_store.forgotten import FORGOTTEN
from pipelines.executor.shuffle import read_partitions
from pipelines.logs.columns import undictionaried
from pipelines.logs.tables import Piece, read_piece
from pipelines.prepare.catalogue_ids import Catalogue
from pipelines.prepare.examples import Examples
from pipelines.prepare.job import Run, count_of
from pipelines.prepare.scan import Scans
from pipelines.prepared.reader import part_file


@dataclass(frozen=True)
class KeepRows:
    """A task: write the rejected rows of a piece.

    Attributes:
        piece: Piece of a table.
        rejected: Files with columns row and reason.
        buckets: Folder of more such files, `rejected-*`, which are partitioned by piece.
        pieces: Number of pieces of the table.
        path: File for the rows.
    """

    piece: Piece
    rejected: tuple[Path, ...]
    buckets: Path | None
    pieces: int
    path: Path


def keep_rejected(
    run: Run, catalogues: list[Catalogue], scans: Scans, examples: Examples
) -> dict[str, int]:
    """Writes all rejected rows with their reasons, and counts them.

    Returns:
        Number of rows by `<table>: <reason>`.
    """
    by_reason = scans.rejected + Counter({k: int(n.sum()) for k, n in examples.rejected.items()})
    counts = {f"events: {reason}": n for reason, n in by_reason.items()}
    tasks = _tasks_of_events(run, scans, examples)
    for catalogue in catalogues:
        if catalogue.source is None:
            continue
        table, pieces = catalogue.source.table, catalogue.source.pieces
        counts |= {f"{table}: {reason}": n for reason, n in catalogue.rejected.items()}
        for index, file in catalogue.rejected_rows.items():
            path = part_file(run.directory / "rejected" / table, index)
            tasks.append(KeepRows(pieces[index], (file,), None, len(pieces), path))
    if tasks:
        kept = sum(n for reason, n in counts.items() if not reason.endswith(f": {FORGOTTEN}"))
        run.job.progress.begin(f"putting {count_of(kept, 'rejected row')} aside")
    run.tasks("rejected", keep_rows, tasks)
    return dict(sorted(counts.items()))


def _tasks_of_events(run: Run, scans: Scans, examples: Examples) -> list[KeepRows]:
    """Returns a task for each piece that scanning or building examples rejected rows of."""
    late = np.sum(list(examples.rejected.values()), axis=0) if examples.rejected else None
    tasks: list[KeepRows] = []
    for index, (task, scanned) in enumerate(zip(scans.tasks, scans.scanned, strict=True)):
        rejected = (task.rejected,) if scanned.rejected.keys() - {FORGOTTEN} else ()
        buckets = run.folder("examples") if late is not None and late[index] else None
        if rejected or buckets:
            path = part_file(run.directory / "rejected" / "events", index)
            tasks.append(KeepRows(task.piece, rejected, buckets, len(scans.tasks), path))
    return tasks


def keep_rows(task: KeepRows) -> None:
    """Writes all columns of the rows and a last column, `reason`."""
    tables = [pq.read_table(file) for file in task.rejected]
    if task.buckets is not None:
        for file in sorted(task.buckets.glob("rejected-*")):
            batches = read_partitions(file, [task.piece.index], task.pieces)
            tables.append(pa.Table.from_batches(batches))
    rejected = pa.concat_tables(tables).sort_by("row")
    rows = _take(read_piece(task.piece), rejected["row"])
    name = "reason"
    while name in rows.column_names:  # The log's own column of that name stays what it is.
        name = f"_{name}"
    write_parquet(task.path, rows.append_column(name, rejected["reason"]))


def _take(table: pa.Table, rows: pa.ChunkedArray) -> pa.Table:
    """Takes rows, and nothing of others: a dictionary would hold their values, too."""
    columns = []
    for column in table.columns:
        kind = undictionaried(column.type)
        taken = _without_views(column).take(rows)
        columns.append(taken if taken.type == kind else taken.cast(kind))
    return pa.table(columns, table.column_names)


def _without_views(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Copies views: Arrow cannot take rows of text, nor undo dictionaries within lists."""
    kind = column.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return column.cast(undictionaried(kind))
    if pa.types.is_list_view(kind):
        return column.cast(pa.list_(kind.value_field))
    if pa.types.is_large_list_view(kind):
        return column.cast(pa.large_list(kind.value_field))
    return column
