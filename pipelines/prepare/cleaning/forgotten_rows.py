"""Rows of the log with forgotten ids, and files of the log without them.

A file is written again beside the old one and then takes its name, so that it is whole at every
moment. Its time of modification stays: a file without news is no newer than it was. Values of
dictionaries become plain ones, because a dictionary also holds those of the rows that are left out.
"""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.columns import Bools
from feature_store.core.files import write_atomically
from feature_store.forgotten import Forgotten
from feature_store.schema import SIDES, Side
from pipelines.logs.columns import partition_of, stored_columns, take_columns, take_rows
from pipelines.logs.filesystems import UnreadableFileError, local_path, open_rows, reading
from pipelines.logs.tables import Files
from pipelines.prepare.cleaning.ids import ids_of
from pipelines.settings import DataConfig
from pipelines.urls import is_url


@dataclass(frozen=True)
class FileRows:
    """Rows of a file of the log that are to be forgotten.

    Attributes:
        table: Name of the table: `events`, `items` or `queries`.
        file: Path or URL.
        rows: Number of these rows.
        total: Number of rows of the file.
        is_local: Whether the file is of this machine, and can be written again.
        problem: Sentence on a file that cannot be read; empty where it can.
    """

    table: str
    file: str
    rows: int
    total: int
    is_local: bool
    problem: str = ""


def forgotten_rows(data: DataConfig, files: Files, forgotten: Forgotten) -> Iterator[FileRows]:
    """Yields the files of the log with rows to forget, and those that cannot be read.

    Args:
        data: Configuration of the log.
        files: Files of the log.
        forgotten: Ids to forget.
    """
    for table, listing in files.items():
        for file in listing.files:
            is_local = not is_url(file) or local_path(file) is not None
            try:
                rows = total = 0
                with reading(file, table), open_rows(file) as (parquet, schema):
                    for group in range(parquet.num_row_groups):
                        where = _where(data, table, file, parquet, schema, group, forgotten)
                        rows, total = rows + int(where.sum()), total + len(where)
            except UnreadableFileError as error:
                yield FileRows(table, file, 0, 0, is_local, str(error))
                continue
            if rows:
                yield FileRows(table, file, rows, total, is_local)


def without_rows(data: DataConfig, found: FileRows, forgotten: Forgotten) -> Path | None:
    """Writes a file again without the rows to forget; one that has no others is removed.

    Args:
        data: Configuration of the log.
        found: File of this machine.
        forgotten: Ids to forget.

    Returns:
        Path of the file; None where it is gone.
    """
    path = Path(local_path(found.file) or found.file) if is_url(found.file) else Path(found.file)
    if found.rows == found.total:
        path.resolve().unlink()
        path.unlink(missing_ok=True)  # It was a link.
        if partition_of(str(path)) and not any(path.parent.iterdir()):
            path.parent.rmdir()  # Its name may be an id.
        return None
    path = path.resolve()  # A link stays one.
    status = path.stat()

    def write(temporary: Path) -> None:
        writer: pq.ParquetWriter | None = None
        for rows, codec in _kept(data, found, forgotten):
            if writer is None:
                writer = pq.ParquetWriter(temporary, rows.schema, compression=codec)
            if len(rows):
                writer.write_table(rows)
        if writer is not None:
            writer.close()
        os.chmod(temporary, status.st_mode)
        os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))

    write_atomically(path, write)
    return path


def _kept(
    data: DataConfig, found: FileRows, forgotten: Forgotten
) -> Iterator[tuple[pa.Table, str]]:
    """Yields the rows to keep of each row group, and the file's compression."""
    with ExitStack() as stack:
        with reading(found.file, found.table):
            parquet, schema = stack.enter_context(open_rows(found.file))
            groups, codec = parquet.num_row_groups, _codec(parquet)
        for group in range(groups):
            with reading(found.file, found.table):
                where = _where(data, found.table, found.file, parquet, schema, group, forgotten)
                kept = pa.chunked_array([np.flatnonzero(~where)])
                rows = take_rows(parquet.read_row_group(group), kept)
            yield rows.replace_schema_metadata(schema.metadata), codec


def _where(
    data: DataConfig,
    table: str,
    file: str,
    parquet: pq.ParquetFile,
    schema: pa.Schema,
    group: int,
    forgotten: Forgotten,
) -> Bools:
    """Returns which rows of a row group are to be forgotten, [rows]."""
    partition = partition_of(file)
    where = np.zeros(parquet.metadata.row_group(group).num_rows, bool)
    for side, name in _columns(data, table).items():
        stored = stored_columns(parquet, [name])
        if not stored and name not in dict(partition):
            continue  # A file without the column is one that `prepare` puts aside.
        read = parquet.read_row_group(group, columns=stored)
        ids = ids_of(take_columns(read, [name], schema, partition)[name]).strings
        encoded = ids.dictionary_encode()
        is_forgotten = np.append(forgotten.contains(side, encoded.dictionary), False)
        codes = encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(zero_copy_only=False)
        where |= is_forgotten[codes]
    return where


def _columns(data: DataConfig, table: str) -> dict[Side, str]:
    """Returns the columns of ids of a table by side."""
    if table == "events":
        return {side: data.columns.id_of(side) for side in SIDES}
    side: Side = "item" if table == "items" else "query"
    return {side: data.columns.key_of(side)}


def _codec(parquet: pq.ParquetFile) -> str:
    """Returns the compression of a file, which has at least one column."""
    codec: str = parquet.metadata.row_group(0).column(0).compression
    return "none" if codec == "UNCOMPRESSED" else codec.lower()
