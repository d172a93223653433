"""The columns of a log by the names that the configuration uses, however a file stores them.

A column inside a struct is named by a path, `item.id`, and so is one inside a list of structs,
`genres.name`; a column whose full name is `item.id` has precedence. Directories such as
`date=2026-11-22` also give columns, unless the file has one of that name.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.core.arrow import map_elements

Partition = tuple[tuple[str, str | None], ...]

_PARTITION = re.compile(r"([^=]+)=(.*)")
_NULL_PARTITION = "__HIVE_DEFAULT_PARTITION__"
# Places of digits and dashes in the text of a UUID.
_UUID = np.frombuffer(b"00000000-0000-0000-0000-000000000000", np.uint8)


@dataclass(frozen=True)
class _Leaf:
    """A column that can be named.

    Attributes:
        path: Field names, from the file's column down.
        type: Type of the values, a `plain_type`.
        stored: Numbers of the Parquet columns that hold it.
    """

    path: tuple[str, ...]
    type: pa.DataType
    stored: range


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type of the values, however they are stored: `dictionary<string>` is `string`."""
    if isinstance(kind, pa.UuidType):
        return pa.string()
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return pa.binary()
    if pa.types.is_fixed_size_binary(kind):
        return pa.binary()
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", plain_type(kind.value_type)), kind.list_size)
    if _is_list(kind):
        return pa.list_(pa.field("element", plain_type(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, plain_type(field.type)) for field in kind])
    return kind


def undictionaried(kind: pa.DataType) -> pa.DataType:
    """Returns the type with values in place of dictionaries and of views, at any depth.

    Both refer to buffers that also hold the values of other rows.
    """
    if isinstance(kind, pa.BaseExtensionType):
        inner = undictionaried(kind.storage_type)
        return kind if inner == kind.storage_type else inner
    if pa.types.is_dictionary(kind):
        return undictionaried(kind.value_type)
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(undictionaried(field.type)) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(undictionaried(kind.key_type), undictionaried(kind.item_type))
    if _is_list(kind):
        inner = kind.value_field.with_type(undictionaried(kind.value_type))
        if pa.types.is_fixed_size_list(kind):
            return pa.list_(inner, kind.list_size)
        is_large = pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind)
        return pa.large_list(inner) if is_large else pa.list_(inner)
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


def take_rows(table: pa.Table, rows: pa.ChunkedArray) -> pa.Table:
    """Takes rows, and nothing of others: a dictionary would hold their values, too."""
    columns = []
    for column in table.columns:
        kind = undictionaried(column.type)
        taken = _without_views(column).take(rows)
        columns.append(taken if taken.type == kind else taken.cast(kind))
    return pa.table(columns, table.column_names)


def _without_views(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Copies views: Arrow cannot take rows of text, nor undo dictionaries within lists."""
    kind = column.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return column.cast(undictionaried(kind))
    if pa.types.is_list_view(kind):
        return column.cast(pa.list_(kind.value_field))
    if pa.types.is_large_list_view(kind):
        return column.cast(pa.large_list(kind.value_field))
    return column


def partition_of(path: str) -> Partition:
    """Returns the columns that the directories of a path give, as Hive and Spark write them.

    Names and values are URL-decoded, values are strings, and the default partition is null.
    """
    columns: dict[str, str | None] = {}
    for directory in path.split("/")[:-1]:
        match = _PARTITION.fullmatch(directory)
        if match:
            value = None if match[2] == _NULL_PARTITION else unquote(match[2])
            columns[unquote(match[1])] = value
    return tuple(columns.items())


def named_columns(schema: pa.Schema, partition: Partition = ()) -> pa.Schema:
    """Returns all columns that can be named, with `plain_type`s, in the order of the file.

    Args:
        schema: Schema of the file.
        partition: Partition that `partition_of` gives.
    """
    fields = {name: leaf.type for name, leaf in _leaves(schema).items()}
    fields |= {key: pa.string() for key, _ in partition if key not in fields}
    return pa.schema(list(fields.items()))


def stored_columns(parquet: pq.ParquetFile, names: Sequence[str]) -> list[str]:
    """Returns the columns to read, as pyarrow names them, for `take_columns` of these names."""
    leaves = _leaves(parquet.schema_arrow)
    numbers = [number for name in names if name in leaves for number in leaves[name].stored]
    return [parquet.schema.column(number).path for number in numbers]


def widths(schema: pa.Schema, metadata: pq.FileMetaData) -> dict[str, float]:
    """Estimates the uncompressed bytes of a row by column, from a file's first row group."""
    group = metadata.row_group(0)
    return {
        name: sum(group.column(number).total_uncompressed_size for number in leaf.stored)
        / max(1, group.num_rows)
        for name, leaf in _leaves(schema).items()
    }


def take_columns(
    batch: pa.Table | pa.RecordBatch,
    names: Sequence[str],
    schema: pa.Schema,
    partition: Partition = (),
) -> pa.Table:
    """Takes the columns of some names, each as one chunk with its `plain_type`.

    Args:
        batch: Rows of the file, with at least the `stored_columns`.
        names: Names of columns; those that the file lacks are null, of type null.
        schema: Schema of the file.
        partition: Partition that `partition_of` gives.
    """
    leaves, values = _leaves(schema), dict(partition)
    arrays: list[pa.Array] = []
    for name in names:
        leaf = leaves.get(name)
        if leaf is None and name not in values:
            arrays.append(pa.nulls(batch.num_rows))
            continue
        if leaf is None:
            arrays.append(_repeated(values[name], batch.num_rows))
            continue
        column = batch.column(leaf.path[0])
        chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
        plain = [pc.cast(_follow(chunk, leaf.path[1:]), leaf.type) for chunk in chunks]
        arrays.append(pa.concat_arrays(plain) if plain else pa.array([], leaf.type))
    return pa.table(dict(zip(names, arrays, strict=True)))


def append_partition(table: pa.Table, partition: Partition) -> pa.Table:
    """Appends to a whole file's table the columns of its partition that the file itself lacks."""
    for key, value in partition:
        if key not in table.column_names:
            table = table.append_column(key, _repeated(value, table.num_rows))
    return table


def _repeated(value: str | None, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), rows)


def _leaves(schema: pa.Schema) -> dict[str, _Leaf]:
    """Finds the leaves by name; of equal names the one that is less deep, then the first."""
    every: list[_Leaf] = []
    number = 0
    for field in schema:
        every.extend(_leaves_of(field.type, (field.name,), number))
        number += _stored_columns(field.type)
    leaves: dict[str, _Leaf] = {}
    for leaf in every:
        name = ".".join(leaf.path)
        if name not in leaves or len(leaf.path) < len(leaves[name].path):
            leaves[name] = leaf
    return leaves


def _leaves_of(kind: pa.DataType, path: tuple[str, ...], number: int) -> Iterator[_Leaf]:
    """Yields the leaves of a field whose first Parquet column is `number`."""
    struct = kind.value_type if _is_list(kind) else kind
    if not pa.types.is_struct(struct):
        yield _Leaf(path, plain_type(kind), range(number, number + _stored_columns(kind)))
        return
    for field in struct:
        for leaf in _leaves_of(field.type, (*path, field.name), number):
            listed = pa.list_(pa.field("element", leaf.type))
            yield _Leaf(leaf.path, listed if _is_list(kind) else leaf.type, leaf.stored)
        number += _stored_columns(field.type)


def _stored_columns(kind: pa.DataType) -> int:
    """Counts the Parquet columns that hold a type."""
    if isinstance(kind, pa.BaseExtensionType):
        return _stored_columns(kind.storage_type)
    if pa.types.is_struct(kind):
        return sum(_stored_columns(field.type) for field in kind)
    if pa.types.is_map(kind):
        return _stored_columns(kind.key_type) + _stored_columns(kind.item_type)
    return _stored_columns(kind.value_type) if _is_list(kind) else 1


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    return bool(is_list or types.is_list_view(kind) or types.is_large_list_view(kind))


def _follow(array: pa.Array, path: tuple[str, ...]) -> pa.Array:
    """Returns the values at a path of fields; lists of them where a list is on the path."""
    if isinstance(array, pa.UuidArray):
        return _uuid_texts(array.storage)
    if isinstance(array, pa.ExtensionArray):
        return _follow(array.storage, path)
    if not path:
        holds_uuids = _is_list(array.type) and isinstance(array.type.value_type, pa.UuidType)
        return map_elements(array, lambda uuids: _follow(uuids, ())) if holds_uuids else array
    if not _is_list(array.type):
        field = [array.type.get_field_index(path[0])]
        return _follow(pc.struct_field(array, field), path[1:])
    values = _follow(pc.list_flatten(array), path)
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy()
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values, mask=array.is_null())


def _uuid_texts(array: pa.FixedSizeBinaryArray) -> pa.Array:
    """Writes the 16 bytes of UUIDs as text: `550e8400-e29b-41d4-a716-446655440000`."""
    rows = len(array)
    if not rows:
        return pa.array([], pa.string())
    stored = np.frombuffer(array.buffers()[1], np.uint8)
    stored = stored[16 * array.offset :][: 16 * rows]
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    texts = np.full((rows, len(_UUID)), ord("-"), np.uint8)
    texts[:, ord("-") != _UUID] = digits[np.stack([stored >> 4, stored & 15], 1)].reshape(rows, -1)
    ends = np.arange(rows + 1, dtype=np.int32) * len(_UUID)
    strings = pa.StringArray.from_buffers(rows, pa.py_buffer(ends), pa.py_buffer(texts))
    return pc.if_else(array.is_valid(), strings, None)
