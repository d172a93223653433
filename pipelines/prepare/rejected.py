"""Rejected rows are read again and kept, with the source's own columns and the reason."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.files import write_parquet
from pipelines.executor.shuffle import read_partitions
from pipelines.logs.tables import Piece, read_piece


@dataclass(frozen=True)
class Keep:
    """A task: write the rejected rows of a piece.

    Attributes:
        piece: Of a table.
        found: Files with columns row and reason.
        buckets: Directory of such files, `rejected-*`, that are partitioned by piece.
        pieces: How many the table has.
        path: For the rows.
    """

    piece: Piece
    found: tuple[Path, ...]
    buckets: Path | None
    pieces: int
    path: Path


def keep_rejected(task: Keep) -> None:
    """Writes all columns of the rows and a last column, `reason`."""
    tables = [pq.read_table(file) for file in task.found]
    if task.buckets is not None:
        for file in sorted(task.buckets.glob("rejected-*")):
            batches = read_partitions(file, [task.piece.index], task.pieces)
            tables.append(pa.Table.from_batches(batches))
    rejected = pa.concat_tables(tables).sort_by("row")
    rows = read_piece(task.piece).take(rejected["row"])
    name = "reason"
    while name in rows.column_names:  # The log's own column of that name stays what it is.
        name = f"_{name}"
    kept = rows.append_column(name, rejected["reason"])
    write_parquet(task.path, kept)
