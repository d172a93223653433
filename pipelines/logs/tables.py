"""The log's three tables: their files, the check of their columns, and the pieces of tasks."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.errors import UserError
from feature_store.core.manifests import fingerprint
from feature_store.kinds import ColumnFeature, IdFeature, Raw
from feature_store.schema import FeatureSchema, Side
from pipelines.logs.columns import (
    Partition,
    append_partition,
    named_columns,
    plain_type,
    stored_columns,
    take_columns,
)
from pipelines.logs.files import Footer, common_schema, read_footers
from pipelines.logs.filesystems import file_state, open_rows, reading
from pipelines.logs.listing import Listing, find_files
from pipelines.logs.timestamps import is_time_type
from pipelines.settings import DataConfig, GivenSplit, context_fault
from pipelines.urls import shown, without_user

Fits = Callable[[pa.DataType], bool]
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
        schema: All columns that can be named, with `plain_type`s; see `named_columns`.
        pieces: Pieces of all files, in order.
    """

    table: str
    files: tuple[str, ...]
    schema: pa.Schema
    pieces: tuple[Piece, ...]

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
        tables = [source for source in (self.events, self.items, self.queries) if source]
        return {source.table: [shown(file) for file in source.files] for source in tables}


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


def open_sources(data: DataConfig, features: FeatureSchema, files: Files) -> Sources:
    """Reads the footers of all files, and checks every column that the configuration names.

    Args:
        data: The configuration of the log.
        features: Features whose columns are checked.
        files: Files of the log, see `list_files`.

    Raises:
        UserError: A file is missing, empty or corrupt, or a column is missing or of a wrong type.
    """
    fault = context_fault(data, features)
    if fault is not None:
        raise UserError(f"{fault}; change it, or remove the feature.")
    events = _open(files["events"].files, "events")
    items, queries = (
        _open(files[table].files, table) if table in files else None
        for table in ("items", "queries")
    )
    _check_events(events, data)
    for feature in features.context_columns:
        _check_feature(events, feature, "features.context")
    _check_side("item", items, data.columns.item_id, features)
    _check_side("query", queries, data.columns.query_id, features)
    return Sources(events, items, queries)


def source_state(files: Files) -> dict[str, list[tuple[str, int, str]]]:
    """Returns each file's size and modification time by table, to detect changes.

    Raises:
        UserError: A file cannot be read.
    """
    return {table: _states(listing.files, table) for table, listing in files.items()}


def _states(files: Sequence[str], table: str) -> list[tuple[str, int, str]]:
    def state(file: str) -> tuple[str, int, str]:
        with reading(file, table):
            return without_user(file), *file_state(file)

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(state, files))


def read_piece(piece: Piece, columns: list[str] | None = None) -> pa.Table:
    """Reads columns of a piece, with `plain_type`s; None reads all columns unchanged.

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


def open_source(path: str, table: str) -> Source:
    """Finds the files of a table and reads their footers.

    Args:
        path: File, directory, glob or URL.
        table: Name of the table: `events`, `items` or `queries`.

    Raises:
        UserError: A file is missing, empty or corrupt, or files do not match.
    """
    return _open(find_files(path).files, table)


def _open(files: Sequence[str], table: str) -> Source:
    footers = read_footers(files, table)
    schema = common_schema(files, footers, table)
    pieces: list[Piece] = []
    for file, footer in zip(files, footers, strict=True):
        for groups, rows in _cut(footer):
            index = len(pieces)
            pieces.append(Piece(table, index, file, groups, rows, footer.state, footer.partition))
    partition = next(footer.partition for footer in footers if footer.metadata.num_rows)
    return Source(table, tuple(files), named_columns(schema, partition), tuple(pieces))


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


def _check_events(events: Source, data: DataConfig) -> None:
    columns = data.columns
    _check(events, columns.query_id, "data.columns.query_id", _is_id, "string or integer")
    _check(events, columns.item_id, "data.columns.item_id", _is_id, "string or integer")
    if columns.timestamp is not None:
        expected = "whole numbers, Arrow timestamps, dates or text"
        _check(events, columns.timestamp, "data.columns.timestamp", is_time_type, expected)
    if columns.rating is not None:
        _check(events, columns.rating, "data.columns.rating", _is_number, "a number")
    if columns.weight is not None:
        _check(events, columns.weight, "data.columns.weight", _is_number, "a number")
    if columns.event_type is not None:
        expected = "string, integer or boolean"
        _check(events, columns.event_type, "data.columns.event_type", _is_token, expected)
    if isinstance(data.split, GivenSplit):
        _check(events, data.split.column, "data.split.column", pa.types.is_string, "string")


def _check_side(side: Side, source: Source | None, id_column: str, features: FeatureSchema) -> None:
    table = "items" if side == "item" else "queries"
    if source is not None:
        _check(source, id_column, f"data.columns.{side}_id", _is_id, "string or integer")
    for feature in features.side(side):
        if isinstance(feature, IdFeature):
            continue  # The values are the catalogue's ids, whatever the name.
        if source is None:
            raise UserError(
                f"features.{side} has {feature.name!r}, but there is no table of {table}; "
                f"set data.{table}, or remove the feature."
            )
        _check_feature(source, feature, f"features.{side}")


def _check_feature(source: Source, feature: ColumnFeature, key: str) -> None:
    forms: dict[Raw, tuple[Fits, str]] = {
        "token": (_is_token, "string, integer or boolean"),
        "tokens": (lambda kind: _is_list_of(kind, _is_token), "a list of strings"),
        "text": (pa.types.is_string, "string"),
        "number": (_is_number, "a number"),
        "numbers": (lambda kind: _is_list_of(kind, _is_number), "a list of numbers"),
    }
    fits, expected = forms[feature.raw]
    _check(source, feature.name, key, fits, f"{expected} for kind {feature.kind}")


def _check(source: Source, name: str, key: str, fits: Fits, expected: str) -> None:
    if name not in source.schema.names:
        raise UserError(
            f"{source.table} column {name!r} not found; the log has: "
            f"{', '.join(source.schema.names)}. Set {key}."
        )
    kind = source.schema.field(name).type
    if not fits(kind):
        raise UserError(
            f"{source.table} column {name!r} is {kind}; expected {expected}. "
            f"Convert it, or set {key} to another column."
        )


def _is_id(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_integer(kind)


def _is_token(kind: pa.DataType) -> bool:
    return _is_id(kind) or pa.types.is_boolean(kind)


def _is_number(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _is_list_of(kind: pa.DataType, fits: Fits) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and fits(plain_type(kind.value_type))
