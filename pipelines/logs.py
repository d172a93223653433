"""Finding and opening the Parquet files of a log."""

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from feature_store.errors import UserError

_SHOWN_NAMES = 5


@dataclass(frozen=True)
class Footer:
    """What the end of a Parquet file says of it."""

    schema: pa.Schema
    metadata: pq.FileMetaData


def parquet_files(path: str) -> list[str]:
    """The Parquet files of a file, a directory, a glob or a remote directory, sorted.

    In directories and globs only `*.parquet` counts; directories are read recursively, and names
    that begin with a dot or an underscore are ignored, as Spark and Hive do.

    Raises:
        UserError: There is no such path, or nothing in it is Parquet.
    """
    if "://" in path:
        files, others = _remote_files(path)
    elif os.path.isfile(path):
        return [path]
    elif os.path.isdir(path):
        files, others = _split_by_suffix(_walk(path))
    elif glob.has_magic(path):
        found = (_walk(name) if os.path.isdir(name) else [name] for name in _matches(path))
        files, others = _split_by_suffix(name for names in found for name in names)
    else:
        raise UserError(
            f"{path} does not exist; give a Parquet file, a directory of them or a glob."
        )
    if not files:
        raise UserError(
            f"{path} holds no *.parquet files ({_listing(others)}); "
            "give a Parquet file, a directory of them or a glob."
        )
    return sorted(set(files))


def read_schema(files: Sequence[str], what: str) -> pa.Schema:
    """The schema that all files share.

    Args:
        files: As from `parquet_files`.
        what: Names the table in errors, such as `events`.

    Raises:
        UserError: A file is missing or corrupt, files do not match, or there is no row in any.
    """
    return common_schema(files, [read_footer(file, what) for file in files], what)


def common_schema(files: Sequence[str], footers: Sequence[Footer], what: str) -> pa.Schema:
    """The schema of the first file with rows, after a check that the others agree with it.

    Two files agree when their columns have the same names and types; their order, their nullability
    and how a type is stored (dictionary, large) may differ.

    Raises:
        UserError: Files do not match, or there is no row in any.
    """
    if not any(footer.metadata.num_rows for footer in footers):
        raise UserError(f"{what}: {_some(files)} holds no rows; expected at least one.")
    first = next(i for i, footer in enumerate(footers) if footer.metadata.num_rows)
    schema = footers[first].schema
    repeated = [name for name, count in Counter(schema.names).items() if count > 1]
    if repeated:
        raise UserError(f"{what}: {files[first]} has two columns {repeated[0]!r}; rename one.")
    expected = _plain_types(schema)
    for file, footer in zip(files, footers, strict=True):
        found = _plain_types(footer.schema)
        if footer.metadata.num_rows and found != expected:
            difference = _difference(expected, found)
            raise UserError(
                f"{what}: {file} does not match {files[first]}: {difference}; "
                "give all files the same columns."
            )
    return schema


def open_parquet(file: str) -> pq.ParquetFile:
    """Opens a local file or a URL."""
    if "://" in file:
        filesystem, path = fs.FileSystem.from_uri(file)
        return pq.ParquetFile(filesystem.open_input_file(path))
    return pq.ParquetFile(file)


def read_footer(file: str, what: str) -> Footer:
    """Reads the end of one file.

    Raises:
        UserError: It is missing or not Parquet.
    """
    try:
        with open_parquet(file) as parquet:
            return Footer(parquet.schema_arrow, parquet.metadata)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"{what}: cannot read {file} as Parquet ({reason}); write it again or take it away."
        ) from error


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values, whatever way they are stored: `dictionary<string>` is `string`."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", plain_type(kind.value_type)), kind.list_size)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(pa.field("element", plain_type(kind.value_type)))
    return kind


def _plain_types(schema: pa.Schema) -> dict[str, pa.DataType]:
    return {field.name: plain_type(field.type) for field in schema}


def _difference(expected: dict[str, pa.DataType], found: dict[str, pa.DataType]) -> str:
    """The first difference between two schemas, in words."""
    for name in expected:
        if name not in found:
            return f"it has no column {name!r}"
        if found[name] != expected[name]:
            return f"its column {name!r} is {found[name]}, not {expected[name]}"
    return f"it alone has the column {next(name for name in found if name not in expected)!r}"


def _is_ignored(name: str) -> bool:
    return name.startswith((".", "_"))


def _walk(directory: str) -> Iterator[str]:
    for parent, directories, names in os.walk(directory):
        directories[:] = sorted(name for name in directories if not _is_ignored(name))
        yield from (os.path.join(parent, name) for name in names if not _is_ignored(name))


def _matches(pattern: str) -> list[str]:
    """What a glob matches; names that it spells out itself may begin with an underscore."""
    fixed = len(re.split(r"[*?[]", pattern, maxsplit=1)[0].rpartition(os.sep)[0])
    found = glob.glob(pattern, recursive=True)
    return [name for name in found if not any(map(_is_ignored, name[fixed:].split(os.sep)))]


def _remote_files(url: str) -> tuple[list[str], list[str]]:
    base, question, options = url.partition("?")
    try:
        filesystem, root = fs.FileSystem.from_uri(url)
        information = filesystem.get_file_info(root)
        if information.type == fs.FileType.File:
            return [url], []
        found = filesystem.get_file_info(fs.FileSelector(root, recursive=True))
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"cannot list {url} ({reason}); give the URL of a Parquet file or directory."
        ) from error
    start = len(root.rstrip("/"))
    below = [entry.path[start:] for entry in found if entry.type == fs.FileType.File]
    visible = [name for name in below if not any(map(_is_ignored, name.split("/")))]
    return _split_by_suffix(base.rstrip("/") + name + question + options for name in visible)


def _split_by_suffix(names: Iterator[str]) -> tuple[list[str], list[str]]:
    files: list[str] = []
    others: list[str] = []
    for name in names:
        plain = name.partition("?")[0] if "://" in name else name
        (files if plain.endswith(".parquet") else others).append(name)
    return files, others


def _listing(names: list[str]) -> str:
    if not names:
        return "it has no files"
    shown = [os.path.basename(name) for name in sorted(names)[:_SHOWN_NAMES]]
    return f"it has {', '.join(shown)}{', ...' if len(names) > _SHOWN_NAMES else ''}"


def _some(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"all of {len(files)} files such as {files[0]}"
