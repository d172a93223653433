"""The ends of Parquet files, and the schema that they have in common."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.errors import UserError
from pipelines.logs.columns import Partition, named_columns, partition_of, plain_type
from pipelines.logs.filesystems import file_state, open_parquet, reading, real_path
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
    """

    schema: pa.Schema
    metadata: pq.FileMetaData
    state: tuple[int, str]
    partition: Partition


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


def _some(files: Sequence[str]) -> str:
    first = shown(files[0])
    return first if len(files) == 1 else f"all of {len(files)} files such as {first}"
