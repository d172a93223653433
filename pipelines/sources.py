"""The log's three tables: their files, checked columns, and the pieces that tasks read."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from feature_store.encoding import plain_array
from feature_store.errors import UserError
from feature_store.schema import Feature, FeatureSchema, IdFeature, Side
from pipelines.logs import (
    Footer,
    common_schema,
    open_parquet,
    parquet_files,
    plain_type,
    read_footer,
)
from pipelines.settings import DataConfig, GivenSplit

Fits = Callable[[pa.DataType], bool]

# One task reads so many rows and uncompressed bytes, or one row group where that is larger.
_PIECE_ROWS = 1_000_000
_PIECE_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Piece:
    """Consecutive row groups of a file.

    Attributes:
        table: `events`, `items` or `queries`.
        index: Of the piece in its table.
        file: Path or URL.
        groups: Row groups.
        rows: In all of them.
    """

    table: str
    index: int
    file: str
    groups: tuple[int, ...]
    rows: int


@dataclass(frozen=True)
class Source:
    """One table of the log.

    Attributes:
        table: `events`, `items` or `queries`.
        files: Paths or URLs, sorted.
        schema: Its columns, with `plain_type`s.
        pieces: Of all files, in order.
    """

    table: str
    files: tuple[str, ...]
    schema: pa.Schema
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int:
        """In all files."""
        return sum(piece.rows for piece in self.pieces)


@dataclass(frozen=True)
class Sources:
    """The log; items and queries may be known from the events only."""

    events: Source
    items: Source | None
    queries: Source | None

    def side(self, side: Side) -> Source | None:
        """The table of one side."""
        return self.items if side == "item" else self.queries

    def files(self) -> dict[str, list[str]]:
        """By table."""
        found = [source for source in (self.events, self.items, self.queries) if source]
        return {source.table: list(source.files) for source in found}


def open_sources(data: DataConfig, features: FeatureSchema) -> Sources:
    """Finds the files and checks every column that the configuration names.

    Raises:
        UserError: A file is missing, empty or corrupt, or a column is missing or of a wrong type.
    """
    events = _open(data.events, "events")
    items = _open(data.items, "items") if data.items is not None else None
    queries = _open(data.queries, "queries") if data.queries is not None else None
    _check_events(events, data)
    _check_side("item", items, data.columns.item_id, features)
    _check_side("query", queries, data.columns.query_id, features)
    return Sources(events, items, queries)


def source_state(data: DataConfig) -> dict[str, list[tuple[str, int, str]]]:
    """By table, each file with its size and modification time, to see whether anything changed.

    Raises:
        UserError: A path does not exist or holds no Parquet file.
    """
    paths = {"events": data.events, "items": data.items, "queries": data.queries}
    return {
        table: [_file_state(file) for file in parquet_files(path)]
        for table, path in paths.items()
        if path is not None
    }


def read_piece(piece: Piece, columns: list[str] | None = None) -> pa.Table:
    """Reads columns of a piece, with `plain_type`s; all columns, as they are, for None.

    Raises:
        UserError: The file cannot be read, or is not what it was.
    """
    try:
        with open_parquet(piece.file) as parquet:
            table = parquet.read_row_groups(list(piece.groups), columns=columns)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"{piece.table}: cannot read {piece.file} as Parquet ({reason}); "
            "write it again or take it away."
        ) from error
    if columns is None:
        return table
    # By name: to read `a` also reads a column whose name is `a.b`.
    arrays = [plain_array(table[name]) for name in columns]
    return pa.table(
        {
            name: pc.cast(array, plain_type(array.type))
            for name, array in zip(columns, arrays, strict=True)
        }
    )


def _file_state(file: str) -> tuple[str, int, str]:
    if "://" in file:
        filesystem, path = fs.FileSystem.from_uri(file)
        information = filesystem.get_file_info(path)
        return file, information.size, str(information.mtime_ns)
    status = os.stat(file)
    return file, status.st_size, str(status.st_mtime_ns)


def _open(path: str, table: str) -> Source:
    files = parquet_files(path)
    with ThreadPoolExecutor(16) as pool:  # The footers of remote files take their time.
        footers = list(pool.map(lambda file: read_footer(file, table), files))
    schema = common_schema(files, footers, table)
    pieces: list[Piece] = []
    for file, footer in zip(files, footers, strict=True):
        for groups, rows in _cut(footer):
            pieces.append(Piece(table, len(pieces), file, groups, rows))
    plain = pa.schema([(field.name, plain_type(field.type)) for field in schema])
    return Source(table, tuple(files), plain, tuple(pieces))


def _cut(footer: Footer) -> list[tuple[tuple[int, ...], int]]:
    """Runs of row groups of about `_PIECE_ROWS` rows, with their rows."""
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
        expected = "whole numbers, Arrow timestamps, dates or ISO-8601 text"
        _check(events, columns.timestamp, "data.columns.timestamp", _is_time, expected)
    if columns.rating is not None:
        _check(events, columns.rating, "data.columns.rating", _is_number, "a number")
    if columns.weight is not None:
        _check(events, columns.weight, "data.columns.weight", _is_number, "a number")
    if columns.event_type is not None:
        _check(events, columns.event_type, "data.columns.event_type", _is_id, "string or integer")
    if isinstance(data.split, GivenSplit):
        _check(events, data.split.column, "data.split.column", pa.types.is_string, "string")


def _check_side(side: Side, source: Source | None, id_column: str, features: FeatureSchema) -> None:
    table = "items" if side == "item" else "queries"
    if source is not None:
        _check(source, id_column, f"data.columns.{side}_id", _is_id, "string or integer")
    for feature in features.side(side):
        if isinstance(feature, IdFeature):
            continue  # Its values are the catalogue's ids, whatever its name.
        if source is None:
            raise UserError(
                f"features.{side} has {feature.name!r}, but there is no table of {table}; "
                f"set data.{table}, or remove the feature."
            )
        _check_feature(source, feature, f"features.{side}")


def _check_feature(source: Source, feature: Feature, key: str) -> None:
    kinds: dict[str, tuple[Fits, str]] = {
        "categorical": (_is_token, "string, integer or boolean"),
        "multi_valued": (lambda kind: _is_list_of(kind, _is_token), "a list of strings"),
        "text": (pa.types.is_string, "string"),
        "numeric": (_is_number, "a number"),
        "vector": (lambda kind: _is_list_of(kind, _is_number), "a list of numbers"),
    }
    fits, expected = kinds[feature.kind]
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


def _is_time(kind: pa.DataType) -> bool:
    return (
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_timestamp(kind)
        or pa.types.is_date(kind)
        or pa.types.is_string(kind)
    )


def _is_list_of(kind: pa.DataType, fits: Fits) -> bool:
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    return is_list and fits(plain_type(kind.value_type))
