"""The ends of Parquet files, and the columns that they have in common."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.arrow import common_type
from feature_store.core.errors import UserError
from pipelines.logs.columns import Partition, named_columns, partition_of
from pipelines.logs.filesystems import (
    UnreadableFileError,
    file_state,
    open_parquet,
    reading,
    real_path,
)
from pipelines.logs.rejected_files import RefusedLogError
from pipelines.urls import shown

_READERS = 16


@dataclass(frozen=True)
class Footer:
    """The end of a Parquet file, which describes it without its rows.

    Attributes:
        schema: Schema of the columns.
        metadata: Metadata of the row groups.
        state: State of the file, see `file_state`.
        partition: Columns that the directories give and the file itself lacks.
        columns: All columns that can be named, with `plain_type`s; bytes are strings.
    """

    schema: pa.Schema
    metadata: pq.FileMetaData
    state: tuple[int, str]
    partition: Partition
    columns: pa.Schema


@dataclass(frozen=True)
class Layout:
    """The columns of some files with rows.

    Attributes:
        columns: Columns as those of `Footer`.
        repeated: Names of columns that the files have twice.
        files: Files with exactly these.
    """

    columns: pa.Schema
    repeated: frozenset[str]
    files: tuple[str, ...]


@dataclass(frozen=True)
class Union:
    """The columns of all files of a table.

    Attributes:
        schema: Columns that some file has, each in a type that holds the values of all files.
        conflicts: Reasons why other columns cannot be read, by name: the end of a sentence.
    """

    schema: pa.Schema
    conflicts: dict[str, str]


def layouts_of(footers: Mapping[str, Footer], what: str) -> tuple[Layout, ...]:
    """Groups the files that have rows by their columns.

    The order, the nullability and the storage of a type (dictionary, large) may differ.

    Args:
        footers: Footers by file.
        what: Name of the table.

    Raises:
        RefusedLogError: There is no row in any file.
        UserError: Directories give different columns.
    """
    some = {file: footer for file, footer in footers.items() if footer.metadata.num_rows}
    if not some:
        sentence = f"{what}: {_some(list(footers))} holds no rows; expected at least one."
        raise RefusedLogError(sentence, list(footers))
    _require_same_keys(some, what)
    groups: dict[tuple[object, ...], list[str]] = {}
    last: tuple[Footer, tuple[object, ...]] | None = None
    for file, footer in some.items():
        if last is None or not footer.schema.equals(last[0].schema):
            last = footer, tuple(sorted((f.name, str(f.type)) for f in footer.columns))
        groups.setdefault(last[1], []).append(file)
    layouts: list[Layout] = []
    for files in groups.values():
        footer = some[files[0]]
        counts = Counter(footer.schema.names)
        repeated = frozenset(name for name, count in counts.items() if count > 1)
        layouts.append(Layout(footer.columns, repeated, tuple(files)))
    return tuple(layouts)


def union_of(layouts: Sequence[Layout]) -> Union:
    """Returns the columns of all layouts, in the order in which they first occur."""
    kinds: dict[str, tuple[pa.DataType, str]] = {}
    conflicts: dict[str, str] = {}
    for layout in layouts:
        file = shown(layout.files[0])
        conflicts |= {name: f"{file} has two of that name" for name in layout.repeated}
        for name, kind in zip(layout.columns.names, layout.columns.types, strict=True):
            earlier = kinds.setdefault(name, (kind, file))
            common = common_type(earlier[0], kind)
            if common is None:
                conflicts[name] = f"it is {earlier[0]} in {earlier[1]} and {kind} in {file}"
            else:
                kinds[name] = common, earlier[1]
    fields = [(name, kind) for name, (kind, _) in kinds.items() if name not in conflicts]
    return Union(pa.schema(fields), conflicts)


def read_footers(files: Sequence[str], what: str) -> dict[str, Footer]:
    """Reads the ends of files, several at a time, because remote files are slow.

    Raises:
        UnreadableFileError: A file is missing or not Parquet.
    """
    footers, unreadable = try_footers(files, what)
    if unreadable:
        raise unreadable[0]
    return footers


def try_footers(
    files: Sequence[str], what: str
) -> tuple[dict[str, Footer], list[UnreadableFileError]]:
    """Reads the ends of files; also returns the errors of those that cannot be read."""

    def attempt(file: str) -> Footer | UnreadableFileError:
        try:
            return read_footer(file, what)
        except UnreadableFileError as error:
            return error

    with ThreadPoolExecutor(_READERS) as pool:
        results = dict(zip(files, pool.map(attempt, files), strict=True))
    footers = {file: each for file, each in results.items() if isinstance(each, Footer)}
    return footers, [each for each in results.values() if isinstance(each, UnreadableFileError)]


def read_footer(file: str, what: str) -> Footer:
    """Reads the end of one file.

    Raises:
        UnreadableFileError: The file is missing or not Parquet.
    """
    with reading(file, what), open_parquet(file) as parquet:
        schema, metadata, state = parquet.schema_arrow, parquet.metadata, file_state(file)
    names = named_columns(schema).names
    partition = tuple(pair for pair in partition_of(real_path(file)) if pair[0] not in names)
    columns = named_columns(schema, partition)
    readable = [(field.name, _without_bytes(field.type)) for field in columns]
    return Footer(schema, metadata, state, partition, pa.schema(readable))


def _without_bytes(kind: pa.DataType) -> pa.DataType:
    """Returns strings in place of bytes: Hive and Impala do not mark strings as UTF-8."""
    if pa.types.is_binary(kind):
        return pa.string()
    if pa.types.is_list(kind):
        return pa.list_(pa.field("element", _without_bytes(kind.value_type)))
    return kind


def _require_same_keys(footers: Mapping[str, Footer], what: str) -> None:
    """Checks that each file has the columns that the directories of the others give."""
    first = next(iter(footers))
    every = {key for footer in footers.values() for key, _ in footer.partition}
    for file, footer in footers.items():
        if every <= set(footer.columns.names):
            continue
        given, expected = dict(footer.partition), dict(footers[first].partition)
        if given.keys() == expected.keys():
            continue
        raise UserError(
            f"{what}: the directories of {shown(file)} give {_keys(given)}, "
            f"those of {shown(first)} give {_keys(expected)}; expected the same "
            "name=value directories for all files."
        )


def _keys(partition: Iterable[str]) -> str:
    return f"the columns {', '.join(map(repr, partition))}" if partition else "no column"


def _some(files: Sequence[str]) -> str:
    first = shown(files[0])
    return first if len(files) == 1 else f"all of {len(files)} files such as {first}"
