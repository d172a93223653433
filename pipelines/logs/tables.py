"""The log's three tables: their files, the check of their columns, and the pieces of tasks."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.arrow import as_type, plain_array
from feature_store.core.errors import UserError
from feature_store.core.manifests import fingerprint
from feature_store.kinds import IdFeature
from feature_store.schema import SIDES, FeatureSchema, Side
from pipelines.logs.columns import Partition, append_partition, stored_columns, take_columns
from pipelines.logs.files import Footer, layouts_of, try_footers, union_of
from pipelines.logs.filesystems import UnreadableFileError, file_state, open_rows, reading
from pipelines.logs.listing import Listing, find_files
from pipelines.logs.needs import Need, find_faults, needs_of_events, needs_of_side
from pipelines.logs.rejected_files import require_few
from pipelines.settings import DataConfig, context_fault
from pipelines.urls import shown, without_user

# Files by table; `items` and `queries` may be missing.
Files = dict[str, Listing]

# Rows and uncompressed bytes that one task reads, unless a single row group is larger.
_PIECE_ROWS = 1_000_000
_PIECE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Piece:
    """Consecutive row groups of a file.

    Attributes:
        table: Name of the table: `events`, `items` or `queries`.
        index: Number of the piece in its table.
        file: Path or URL.
        groups: Numbers of the row groups.
        rows: Number of rows.
        state: Size of the file, and its modification time or another mark of its version.
        partition: Columns that the names of the file's directories give, and their values.
    """

    table: str
    index: int
    file: str
    groups: tuple[int, ...]
    rows: int
    state: tuple[int, str]
    partition: Partition


def piece_identity(piece: Piece) -> str:
    """Computes a fingerprint of a piece's file, row groups and partition, to detect changes."""
    file = without_user(piece.file)
    return fingerprint([piece.table, file, piece.state, piece.groups, piece.partition])


@dataclass(frozen=True)
class Source:
    """One table of the log.

    Attributes:
        table: Name of the table: `events`, `items` or `queries`.
        files: Paths or URLs, sorted.
        schema: All columns that can be named, in types that are common to all files.
        conflicts: Reasons why other columns have no common type, by name.
        pieces: Pieces of all files, in order.
        rejected: Reasons by file that was put aside.
        notes: Sentences for the user on columns that some files lack.
    """

    table: str
    files: tuple[str, ...]
    schema: pa.Schema
    conflicts: dict[str, str]
    pieces: tuple[Piece, ...]
    rejected: dict[str, str]
    notes: tuple[str, ...]

    @property
    def rows(self) -> int:
        """Number of rows of all files."""
        return sum(piece.rows for piece in self.pieces)


@dataclass(frozen=True)
class Sources:
    """The tables of a log; items and queries may be known from the events alone."""

    events: Source
    items: Source | None
    queries: Source | None

    def side(self, side: Side) -> Source | None:
        """Returns the table of one side."""
        return self.items if side == "item" else self.queries

    def files(self) -> dict[str, list[str]]:
        """Returns the files by table, without the secrets of URLs."""
        return {source.table: [shown(file) for file in source.files] for source in self._tables()}

    def notes(self) -> list[str]:
        """Returns the notes on all tables."""
        return [note for source in self._tables() for note in source.notes]

    def _tables(self) -> list[Source]:
        return [source for source in (self.events, self.items, self.queries) if source]


def list_files(data: DataConfig) -> Files:
    """Lists the files of the log by table; in a bucket, that takes requests.

    Raises:
        UserError: A path does not exist or holds no Parquet file.
    """
    paths = {"events": data.events, "items": data.items, "queries": data.queries}
    return {table: find_files(path) for table, path in paths.items() if path is not None}


def notes_on(files: Files) -> Iterator[str]:
    """Yields sentences on what lies beside the files of the log and is not read."""
    for table, listing in files.items():
        yield from (f"{table}: {note}" for note in listing.notes)


def open_sources(
    data: DataConfig,
    features: FeatureSchema,
    files: Files,
    damaged: Sequence[UnreadableFileError] = (),
) -> Sources:
    """Reads the footers of all files, and checks every column that the configuration names.

    Args:
        data: The configuration of the log.
        features: Features whose columns are checked.
        files: Files of the log, see `list_files`.
        damaged: Errors of files of the events whose ends can be read, but not their rows.

    Raises:
        UserError: A file is missing, empty or corrupt, or a column is missing or of a wrong type.
    """
    fault = context_fault(data, features)
    if fault is not None:
        raise UserError(f"{fault}; change it, or remove the feature.")
    for side in SIDES:
        _require_table(side, data, features)
    limit = data.quality.max_rejected_files
    needs = tuple(needs_of_events(data, features))
    events = _open(files["events"].files, "events", needs, limit, damaged)
    items, queries = (
        _open(files[table].files, table, tuple(needs_of_side(side, data, features)))
        if (table := "items" if side == "item" else "queries") in files
        else None
        for side in SIDES
    )
    return Sources(events, items, queries)


def _require_table(side: Side, data: DataConfig, features: FeatureSchema) -> None:
    table = "items" if side == "item" else "queries"
    if (data.items if side == "item" else data.queries) is not None:
        return
    for feature in features.side(side):
        if not isinstance(feature, IdFeature):
            raise UserError(
                f"features.{side} has {feature.name!r}, but there is no table of {table}; "
                f"set data.{table}, or remove the feature."
            )


def source_state(files: Files) -> dict[str, list[tuple[str, int, str]]]:
    """Returns each file's size and modification time by table, to detect changes."""
    return {table: _states(listing.files, table) for table, listing in files.items()}


def file_marks(files: Files) -> dict[str, dict[str, str]]:
    """Returns a mark of each file's version by table and file, which tells nothing else of it."""
    return {
        table: {
            file: fingerprint(state)
            for file, state in zip(listing.files, _states(listing.files, table), strict=True)
        }
        for table, listing in files.items()
    }


def mark_of(piece: Piece) -> str:
    """Returns the mark of the file of a piece, as `file_marks` does."""
    return fingerprint((without_user(piece.file), *piece.state))


def _states(files: Sequence[str], table: str) -> list[tuple[str, int, str]]:
    def state(file: str) -> tuple[str, int, str]:
        try:
            with reading(file, table):
                return without_user(file), *file_state(file)
        except UnreadableFileError:  # Opening the file says what is wrong with it.
            return without_user(file), -1, ""

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(state, files))


def read_piece(piece: Piece, columns: list[str] | None = None) -> pa.Table:
    """Reads columns of a piece, with the `plain_type`s of its own file.

    Args:
        piece: Piece to read.
        columns: Names of columns, null if the file lacks one; None: all of the file, unchanged.

    Raises:
        UserError: The file cannot be read, or has changed.
    """
    with reading(piece.file, piece.table), open_rows(piece.file) as (parquet, schema):
        stored = stored_columns(parquet, columns) if columns is not None else None
        try:
            table = parquet.read_row_groups(list(piece.groups), columns=stored)
        except pa.ArrowNotImplementedError:  # Several groups have dictionaries inside lists.
            groups = [parquet.read_row_group(group, columns=stored) for group in piece.groups]
            table = pa.concat_tables(groups)
        if file_state(piece.file) != piece.state:
            raise UserError(
                f"{piece.table}: {shown(piece.file)} was written again while it was read; "
                "run the command again when it is complete."
            )
        if columns is None:
            return append_partition(table.replace_schema_metadata(), piece.partition)
        return take_columns(table, columns, schema, piece.partition)


def read_as(piece: Piece, schema: pa.Schema) -> pa.Table:
    """Reads the columns of a schema in its types, which are common to all files of the table.

    Raises:
        UserError: The file cannot be read, or has a value that its column's type cannot hold.
    """
    table = read_piece(piece, schema.names)
    with reading(piece.file, piece.table):
        arrays = [as_type(plain_array(table[field.name]), field.type) for field in schema]
    return pa.table(arrays, schema=schema)


def open_source(path: str, table: str) -> Source:
    """Finds the files of a table and reads their footers.

    Args:
        path: File, directory, glob or URL.
        table: Name of the table: `events`, `items` or `queries`.

    Raises:
        UserError: A file is missing, empty or corrupt.
    """
    return _open(find_files(path).files, table)


def _open(
    files: Sequence[str],
    table: str,
    needs: Sequence[Need] = (),
    limit: int | None = None,
    damaged: Sequence[UnreadableFileError] = (),
) -> Source:
    """Opens the files that can be used.

    Args:
        files: Files of the table.
        table: Name of the table.
        needs: Columns that are needed.
        limit: Number of files that may be put aside; None: a fault of any is an error.
        damaged: Errors of files whose ends can be read, but not their rows.
    """
    passed = {error.file for error in damaged}
    footers, unreadable = try_footers([file for file in files if file not in passed], table)
    errors = [*damaged, *unreadable]
    rejected = {error.file: error.reason for error in errors}
    if errors and limit is None:
        raise errors[0]
    require_few(table, files, rejected, limit, errors)
    layouts = layouts_of(footers, table)
    findings = find_faults(table, layouts, needs)
    rejected |= findings.faults
    require_few(table, files, rejected, limit, errors)
    used = {file: footer for file, footer in footers.items() if file not in rejected}
    if findings.faults:
        layouts = layouts_of(used, table)
    pieces: list[Piece] = []
    for file, footer in used.items():
        for groups, rows in _cut(footer):
            index = len(pieces)
            pieces.append(Piece(table, index, file, groups, rows, footer.state, footer.partition))
    union = union_of(layouts)
    for need in needs:
        # Types may each go with that of most files, but not with one another.
        if need.name in union.conflicts and (table != "events" or need.in_every_file):
            raise UserError(
                f"{table} column {need.name!r} has no one type: {union.conflicts[need.name]}; "
                "give all files the same."
            )
    known = {shown(file): reason for file, reason in sorted(rejected.items())}
    return Source(
        table, tuple(used), union.schema, union.conflicts, tuple(pieces), known, findings.notes
    )


def _cut(footer: Footer) -> list[tuple[tuple[int, ...], int]]:
    """Cuts the row groups into runs of about `_PIECE_ROWS` rows; returns the groups and rows."""
    metadata: pq.FileMetaData = footer.metadata
    groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
    rows = np.array([group.num_rows for group in groups], np.int64)
    sizes = np.array([group.total_byte_size for group in groups], np.int64)
    loads = np.cumsum(np.maximum(rows / _PIECE_ROWS, sizes / _PIECE_BYTES))
    runs = np.ceil(loads).astype(np.int64)
    cut: list[tuple[tuple[int, ...], int]] = []
    for run in np.unique(runs):
        chosen = np.flatnonzero((runs == run) & (rows > 0))
        if len(chosen):
            cut.append((tuple(chosen.tolist()), int(rows[chosen].sum())))
    return cut
