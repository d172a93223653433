"""Finding and opening the Parquet files of a log."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.errors import UserError
from pipelines.logs.columns import Partition, named_columns, partition_of, plain_type
from pipelines.logs.filesystems import (
    file_state,
    list_files,
    open_parquet,
    reading,
    real_path,
    split_options,
)
from pipelines.urls import is_url, shown

_SHOWN_NAMES = 5
_READERS = 16


@dataclass(frozen=True)
class Footer:
    """The end of a Parquet file, which describes it without its rows.

    Attributes:
        schema: Schema of the columns.
        metadata: Metadata of the row groups.
        state: State of the file, see `file_state`.
        partition: Columns that the directories give and the file itself lacks.
    """

    schema: pa.Schema
    metadata: pq.FileMetaData
    state: tuple[int, str]
    partition: Partition


def parquet_files(path: str) -> list[str]:
    """Lists the Parquet files of a file, a directory, a glob or a URL of one of these, sorted.

    In directories and globs only `*.parquet` counts. Directories are read recursively; names that
    begin with a dot or an underscore are ignored, as by Spark and Hive, except for a partition such
    as `_date=2026-11-22`.

    Raises:
        UserError: There is no such path, or nothing in it is Parquet.
    """
    if is_url(path):
        files, others = _remote_files(path)
    elif os.path.isfile(path):
        return [path]
    elif os.path.isdir(path):
        files, others = _split_by_suffix(_walk(path))
    elif glob.has_magic(path):
        matches = (_walk(name) if os.path.isdir(name) else [name] for name in _matches(path))
        files, others = _split_by_suffix(name for names in matches for name in names)
    else:
        raise UserError(
            f"{path} does not exist; give a Parquet file, a directory of them or a glob."
        )
    if not files:
        raise UserError(
            f"{shown(path)} holds no *.parquet files ({_listing(others)}); "
            "give a Parquet file, a directory of them or a glob."
        )
    return sorted(set(files))


def common_schema(files: Sequence[str], footers: Sequence[Footer], what: str) -> pa.Schema:
    """Returns the schema of the first file with rows, and checks that the others agree with it.

    Two files agree when their columns have the same names and types, and their directories give the
    same columns. The order, the nullability and the storage of a type (dictionary, large) may
    differ.

    Raises:
        UserError: Files do not match, or there is no row in any.
    """
    if not any(footer.metadata.num_rows for footer in footers):
        raise UserError(f"{what}: {_some(files)} holds no rows; expected at least one.")
    first = next(i for i, footer in enumerate(footers) if footer.metadata.num_rows)
    schema = footers[first].schema
    repeated = [name for name, count in Counter(schema.names).items() if count > 1]
    if repeated:
        raise UserError(
            f"{what}: {shown(files[first])} has two columns {repeated[0]!r}; rename one."
        )
    expected, keys = _plain_types(schema), dict(footers[first].partition).keys()
    for file, footer in zip(files, footers, strict=True):
        if not footer.metadata.num_rows:
            continue
        types = _plain_types(footer.schema)
        if types != expected:
            difference = _difference(expected, types)
            raise UserError(
                f"{what}: {shown(file)} does not match {shown(files[first])}: {difference}; "
                "give all files the same columns."
            )
        if dict(footer.partition).keys() != keys:
            raise UserError(
                f"{what}: the directories of {shown(file)} give {_keys(dict(footer.partition))}, "
                f"those of {shown(files[first])} give {_keys(keys)}; expected the same "
                "name=value directories for all files."
            )
    return schema


def read_footers(files: Sequence[str], what: str) -> list[Footer]:
    """Reads the ends of files, several at a time, because remote files are slow.

    Raises:
        UserError: A file is missing or not Parquet.
    """
    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(lambda file: read_footer(file, what), files))


def read_footer(file: str, what: str) -> Footer:
    """Reads the end of one file.

    Raises:
        UserError: The file is missing or not Parquet.
    """
    with reading(file, what), open_parquet(file) as parquet:
        schema, metadata, state = parquet.schema_arrow, parquet.metadata, file_state(file)
    names = named_columns(schema).names
    partition = tuple(pair for pair in partition_of(real_path(file)) if pair[0] not in names)
    return Footer(schema, metadata, state, partition)


def _plain_types(schema: pa.Schema) -> dict[str, pa.DataType]:
    return {field.name: plain_type(field.type) for field in schema}


def _keys(partition: Iterable[str]) -> str:
    return f"the columns {', '.join(map(repr, partition))}" if partition else "no column"


def _difference(expected: dict[str, pa.DataType], types: dict[str, pa.DataType]) -> str:
    """Describes the first difference between two schemas."""
    for name in expected:
        if name not in types:
            return f"it has no column {name!r}"
        if types[name] != expected[name]:
            return f"its column {name!r} is {types[name]}, not {expected[name]}"
    return f"it alone has the column {next(name for name in types if name not in expected)!r}"


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def _walk(directory: str) -> Iterator[str]:
    for parent, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if not _is_ignored(name))
        yield from (os.path.join(parent, name) for name in names if not _is_ignored(name))


def _matches(pattern: str) -> list[str]:
    """Lists the matches of a glob; names that it spells out may begin with an underscore."""
    fixed = len(re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition(os.sep)[0])
    names = glob.glob(pattern, recursive=True)
    return [name for name in names if not any(map(_is_ignored, name[fixed:].split(os.sep)))]


def _remote_files(url: str) -> tuple[list[str], list[str]]:
    files, names = list_files(url)
    if names == [""]:
        return files, []
    pairs = zip(files, names, strict=True)
    return _split_by_suffix(
        file for file, name in pairs if not any(map(_is_ignored, name.split("/")))
    )


def _split_by_suffix(names: Iterator[str]) -> tuple[list[str], list[str]]:
    files: list[str] = []
    others: list[str] = []
    for name in names:
        (files if _without_options(name).endswith(".parquet") else others).append(name)
    return files, others


def _without_options(name: str) -> str:
    return split_options(name)[0] if is_url(name) else name


def _listing(names: list[str]) -> str:
    if not names:
        return "it has no files"
    some = [os.path.basename(_without_options(name)) for name in sorted(names)[:_SHOWN_NAMES]]
    return f"it has {', '.join(some)}{', ...' if len(names) > _SHOWN_NAMES else ''}"


def _some(files: Sequence[str]) -> str:
    first = shown(files[0])
    return first if len(files) == 1 else f"all of {len(files)} files such as {first}"
