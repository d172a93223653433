"""Rows of a table as bytes, the form of raw values in the online store.

A row is one byte a column, 1 where it has a value, and then the columns, little-endian:

    number, time     its bytes, zeros where there is no value
    boolean          one byte
    string           uint32 length, UTF-8
    list             uint32 count, its highest bit set where one byte an element tells which are
                     null; then the elements: numbers as above, strings as all lengths and all text

Columns are encoded whole and joined row by row, without a loop over the rows. Equal rows have equal
bytes, and decoded values have exactly the Arrow types that they had, so that an encoder cannot tell
them from those of a file.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.arrow import plain_array
from feature_store.core.columns import Ints

Bytes = npt.NDArray[np.uint8]

_HAS_NULLS = 1 << 31
_BINARY = pa.large_binary()


def encode_rows(table: pa.Table) -> pa.Array:
    """Encodes columns of numbers, booleans, times, strings and lists; [rows] large_binary."""
    columns = [plain_array(table[name]) for name in table.column_names]
    present = np.zeros((table.num_rows, len(columns)), np.uint8)
    for index, column in enumerate(columns):
        present[:, index] = column.is_valid().to_numpy(zero_copy_only=False)
    parts = [_fixed(present)]
    for column in columns:
        parts += _encode(column)
    return pc.binary_join_element_wise(*parts, pa.scalar(b"", _BINARY))


def decode_rows(rows: Sequence[bytes | None], schema: pa.Schema) -> pa.Table:
    """Decodes the rows of `encode_rows`; None is a row of nulls."""
    if not rows:
        return schema.empty_table()
    decoded = [_decode_row(row, schema) for row in rows]
    arrays = [pa.concat_arrays(list(parts)) for parts in zip(*decoded, strict=True)]
    return pa.table(arrays, schema=schema)


def _encode(column: pa.Array) -> list[pa.Array]:
    """Returns the parts of each row, to be joined."""
    if _is_list(column.type):
        return _encode_lists(column)
    if _is_text(column.type):
        return _encode_text(column)
    return [_fixed(_fixed_bytes(column))]


def _encode_text(column: pa.Array) -> list[pa.Array]:
    content = _as_binary(column)
    return [_fixed_numbers(np.diff(_offsets(content))), content]


def _encode_lists(column: pa.Array) -> list[pa.Array]:
    counts = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    elements = plain_array(column.flatten())
    ends = np.concatenate([[0], np.cumsum(counts)])
    valid = elements.is_valid().to_numpy(zero_copy_only=False)
    nulls = np.concatenate([[0], np.cumsum(~valid)])
    has_nulls = nulls[ends[1:]] > nulls[ends[:-1]]
    marks = valid[np.repeat(has_nulls, counts)].astype(np.uint8)
    parts = [
        _fixed_numbers(counts | np.where(has_nulls, _HAS_NULLS, 0)),
        _cut(marks, np.concatenate([[0], np.cumsum(counts * has_nulls)])),
    ]
    if not _is_text(column.type.value_type):
        content = _fixed_bytes(elements)
        return [*parts, _cut(content.reshape(-1), ends * content.shape[1])]
    text = _as_binary(elements)
    offsets = _offsets(text)
    lengths = np.diff(offsets).astype("<u4").view(np.uint8)
    start = offsets[0]
    data = np.frombuffer(text.buffers()[2] or b"", np.uint8)[start : offsets[-1]]
    return [*parts, _cut(lengths, ends * 4), _cut(data, offsets[ends] - start)]


def _fixed_bytes(column: pa.Array) -> Bytes:
    """Returns the values' bytes, [rows, width]; zeros where there is no value."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.uint8())
    width = column.type.bit_width // 8
    buffer = np.frombuffer(column.buffers()[1] or b"", np.uint8)
    start = column.offset * width
    content = buffer[start : start + len(column) * width].reshape(len(column), width)
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    return content if valid.all() else np.where(valid[:, None], content, np.uint8(0))


def _as_binary(column: pa.Array) -> pa.Array:
    return pc.fill_null(column.cast(_BINARY), b"")


def _offsets(column: pa.Array) -> Ints:
    return np.frombuffer(column.buffers()[1], np.int64)[column.offset :][: len(column) + 1]


def _fixed_numbers(numbers: Ints) -> pa.Array:
    return _fixed(numbers.astype("<u4").view(np.uint8).reshape(-1, 4))


def _fixed(content: Bytes) -> pa.Array:
    """Turns each row of a matrix into a binary value."""
    rows, width = content.shape
    return _cut(content.reshape(-1), np.arange(rows + 1) * width)


def _cut(content: Bytes, offsets: Ints) -> pa.Array:
    buffers = [
        None,
        pa.py_buffer(np.ascontiguousarray(offsets, np.int64)),
        pa.py_buffer(np.ascontiguousarray(content)),
    ]
    return pa.Array.from_buffers(_BINARY, len(offsets) - 1, buffers)


def _decode_row(row: bytes | None, schema: pa.Schema) -> list[pa.Array]:
    """Decodes a row into one array of length 1 for each column."""
    if row is None:
        return [pa.nulls(1, kind) for kind in schema.types]
    arrays: list[pa.Array] = []
    position = len(schema)
    for index, kind in enumerate(schema.types):
        array, position = _decode(row, position, kind)
        arrays.append(array if row[index] else pa.nulls(1, kind))
    return arrays


def _decode(row: bytes, position: int, kind: pa.DataType) -> tuple[pa.Array, int]:
    """Decodes the value at a position; also returns the position of the next one."""
    if _is_list(kind):
        return _decode_list(row, position, kind)
    if _is_text(kind):
        start = position + 4
        end = start + int.from_bytes(row[position:start], "little")
        return _text_array(row[start:end], np.array([0, end - start]), None, kind), end
    end = position + _width(kind)
    return _fixed_array(row[position:end], 1, None, kind), end


def _decode_list(row: bytes, position: int, kind: pa.DataType) -> tuple[pa.Array, int]:
    mark = int.from_bytes(row[position : position + 4], "little")
    count, position = mark & ~_HAS_NULLS, position + 4
    bitmap = None
    if mark & _HAS_NULLS:
        valid = np.frombuffer(row, np.uint8, count, position)
        bitmap = pa.py_buffer(np.packbits(valid, bitorder="little"))
        position += count
    element = kind.value_type
    if _is_text(element):
        lengths = np.frombuffer(row, "<u4", count, position)
        start = position + 4 * count
        offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        end = start + int(offsets[-1])
        elements = _text_array(row[start:end], offsets, bitmap, element)
    else:
        end = position + count * _width(element)
        elements = _fixed_array(row[position:end], count, bitmap, element)
    if pa.types.is_fixed_size_list(kind):
        if count != kind.list_size:  # The value is null.
            return pa.nulls(1, kind), end
        return pa.FixedSizeListArray.from_arrays(elements, type=kind), end
    make = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
    return make.from_arrays([0, count], elements, type=kind), end


def _text_array(
    content: bytes, offsets: Ints, bitmap: pa.Buffer | None, kind: pa.DataType
) -> pa.Array:
    is_large = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    buffers = [
        bitmap,
        pa.py_buffer(offsets.astype(np.int64 if is_large else np.int32)),
        pa.py_buffer(content),
    ]
    return pa.Array.from_buffers(kind, len(offsets) - 1, buffers)


def _fixed_array(
    content: bytes, count: int, bitmap: pa.Buffer | None, kind: pa.DataType
) -> pa.Array:
    if pa.types.is_boolean(kind):
        stored = pa.Array.from_buffers(pa.uint8(), count, [bitmap, pa.py_buffer(content)])
        return stored.cast(pa.bool_())
    return pa.Array.from_buffers(kind, count, [bitmap, pa.py_buffer(content)])


def _width(kind: pa.DataType) -> int:
    return 1 if pa.types.is_boolean(kind) else kind.bit_width // 8


def _is_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def _is_text(kind: pa.DataType) -> bool:
    return (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
    )
