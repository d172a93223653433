"""Rejected rows are read again and kept, with the source's own columns and the reason."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.sources import Piece, read_piece
from pipelines.tasks import read_partitions


@dataclass(frozen=True)
class Keep:
    """A task: write the rejected rows of a piece.

    Attributes:
        piece: Of a table.
        found: Files with columns row and reason.
        duplicates: Directory of such files, `duplicates-*`, that are partitioned by piece.
        path: For the rows.
    """

    piece: Piece
    found: tuple[Path, ...]
    duplicates: Path | None
    path: Path


def keep_rejected(task: Keep) -> None:
    """Writes all columns of the rows and a last column, `reason`."""
    tables = [pq.read_table(file) for file in task.found]
    if task.duplicates is not None:
        files = sorted(task.duplicates.glob("duplicates-*"))
        tables.append(read_partitions(files, [task.piece.index]))
    rejected = pa.concat_tables(tables).sort_by("row")
    rows = read_piece(task.piece).take(rejected["row"])
    name = "reason"
    while name in rows.column_names:  # The log's own column of that name stays what it is.
        name = f"_{name}"
    task.path.parent.mkdir(parents=True, exist_ok=True)
    kept = rows.append_column(name, rejected["reason"])
    pq.write_table(kept, task.path, compression="zstd")
