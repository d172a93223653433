"""Encoded feature columns in memory, and as Arrow tables on disk.

A sparse feature is a jagged column: row r of

    offsets  0     2  3  3        5
    values   [7 9][4][ ][1 1]

holds the table rows `values[offsets[r]:offsets[r + 1]]`; an empty bag means that the value is
absent. A dense feature is a matrix with a presence mask.
"""

import mmap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store.core.files import write_atomically

Ints = npt.NDArray[np.integer]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Jagged:
    """Bags of table rows: values [total] int32, offsets [rows + 1] int64."""

    values: Ints
    offsets: Ints

    @classmethod
    def from_lengths(cls, values: Ints, lengths: Ints) -> "Jagged":
        """Builds bags from their values and lengths, [rows]."""
        return cls(values, np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]))

    @classmethod
    def concatenate(cls, columns: Sequence["Jagged"]) -> "Jagged":
        """Joins the rows of all columns, one column after the other."""
        values = np.concatenate([column.values for column in columns])
        return cls.from_lengths(values, np.concatenate([column.lengths for column in columns]))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> Ints:
        """Number of values of each bag, [rows]."""
        return np.diff(self.offsets)

    def positions(self, rows: Ints) -> tuple[Ints, Ints]:
        """Returns the positions of the values of `rows`, row after row, and each row's length."""
        lengths = self.lengths[rows]
        ends = np.cumsum(lengths)
        total = int(ends[-1]) if len(ends) else 0
        shift = np.repeat(self.offsets[rows] - (ends - lengths), lengths)
        return np.arange(total) + shift, lengths

    def take(self, rows: Ints) -> "Jagged":
        """Returns the bags of `rows`, in that order; rows may repeat."""
        if len(rows) == 1:  # Requests of one query take this path.
            start, stop = self.offsets[rows[0]], self.offsets[rows[0] + 1]
            return Jagged(self.values[start:stop], np.array([0, stop - start]))
        positions, lengths = self.positions(rows)
        return Jagged.from_lengths(self.values[positions], lengths)

    def row_of_value(self) -> Ints:
        """Returns the row that each value belongs to, [total]."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def beside(self, other: "Jagged") -> "Jagged":
        """Joins the bags of two columns row by row; the values of `other` come last."""
        if len(self) == 1:  # Requests of one query take this path, and need no sort.
            values = np.concatenate([self.values, other.values])
            return Jagged(values, np.array([0, len(values)]))
        parents = np.concatenate([self.row_of_value(), other.row_of_value()])
        values = np.concatenate([self.values, other.values])
        order = np.argsort(parents, kind="stable")
        return Jagged.from_lengths(values[order], self.lengths + other.lengths)

    def keep(self, kept: Bools) -> "Jagged":
        """Drops the values where `kept` [total] is false."""
        before = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
        return Jagged(self.values[kept], before[self.offsets])


@dataclass(frozen=True)
class Dense:
    """A matrix [rows, width] float32 and which rows have a value, [rows]; absent rows are zero."""

    values: Floats
    present: Bools

    @classmethod
    def concatenate(cls, columns: Sequence["Dense"]) -> "Dense":
        """Joins the rows of all columns, one column after the other."""
        return cls(
            np.concatenate([column.values for column in columns]),
            np.concatenate([column.present for column in columns]),
        )

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Ints) -> "Dense":
        """Returns the given rows, in that order."""
        return Dense(self.values[rows], self.present[rows])


Column = Jagged | Dense


def take_or_absent(column: Column, rows: Ints) -> Column:
    """Returns the given rows of a column, in that order; row -1 is an absent value."""
    known = rows >= 0
    if isinstance(column, Jagged):
        bags = column.take(rows[known])
        lengths = np.zeros(len(rows), np.int64)
        lengths[known] = bags.lengths
        return Jagged.from_lengths(bags.values, lengths)
    values = np.zeros((len(rows), column.values.shape[1]), np.float32)
    present = np.zeros(len(rows), np.bool_)
    values[known], present[known] = column.values[rows[known]], column.present[rows[known]]
    return Dense(values, present)


def take_rows(columns: dict[str, Column], rows: Ints) -> dict[str, Column]:
    """Applies `take_or_absent` to every column."""
    return {name: take_or_absent(column, rows) for name, column in columns.items()}


def to_arrow(columns: dict[str, Column]) -> pa.Table:
    """Converts jagged columns to list<int32>, dense ones to fixed_size_list<float> with nulls."""
    arrays: dict[str, pa.Array] = {}
    for name, column in columns.items():
        if isinstance(column, Jagged):
            arrays[name] = pa.LargeListArray.from_arrays(
                pa.array(column.offsets, pa.int64()), pa.array(column.values, pa.int32())
            )
        else:
            arrays[name] = pa.FixedSizeListArray.from_arrays(
                pa.array(column.values.reshape(-1), pa.float32()),
                column.values.shape[1],
                mask=pa.array(~column.present),
            )
    return pa.table(arrays)


def jagged_from_arrow(array: pa.ChunkedArray | pa.Array) -> Jagged:
    """Converts a list column without nulls; one chunk is not copied."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks() if array.num_chunks != 1 else array.chunk(0)
    offsets = array.offsets.to_numpy().astype(np.int64, copy=False)
    values = array.values.to_numpy(zero_copy_only=False)
    return Jagged(values[offsets[0] : offsets[-1]], offsets - offsets[0])


def from_arrow(table: pa.Table) -> dict[str, Column]:
    """Converts the columns of a table back; the inverse of `to_arrow`."""
    columns: dict[str, Column] = {}
    for name in table.column_names:
        array = (
            table[name].combine_chunks() if table[name].num_chunks != 1 else table[name].chunk(0)
        )
        if pa.types.is_fixed_size_list(array.type):
            width = array.type.list_size
            start = array.offset * width
            flat = array.values.to_numpy(zero_copy_only=False)
            values = flat[start : start + len(array) * width].reshape(len(array), width)
            present = array.is_valid().to_numpy(zero_copy_only=False)
            columns[name] = Dense(np.where(present[:, None], values, np.float32(0)), present)
        else:
            columns[name] = jagged_from_arrow(array)
    return columns


def write_columns(path: Path, columns: dict[str, Column]) -> None:
    """Writes an Arrow IPC file of one record batch, so that readers map it without a copy."""
    table = to_arrow(columns).combine_chunks()
    write_atomically(path, partial(_write_batch, table=table))


def _write_batch(path: Path, table: pa.Table) -> None:
    """Writes an Arrow IPC file of one batch."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=max(1, table.num_rows))


def write_bags(
    path: Path, offsets: Mapping[str, Ints], parts: Iterable[tuple[str, int, Ints]]
) -> None:
    """Writes the file that `write_columns` writes of jagged columns, whose values come in parts.

    Args:
        path: Path of the file.
        offsets: Offsets of each column, [rows + 1].
        parts: Column, position of the first value, and values, int32; together all of them, in any
            order.
    """
    # The file is laid out with zeros, whose place the values then take.
    table = to_arrow({name: Jagged(_zeros(int(o[-1])), o) for name, o in offsets.items()})

    def write(temporary: Path) -> None:
        _write_batch(temporary, table)
        starts = _starts_of_values(temporary)
        with temporary.open("r+b") as file:
            for name, first, values in parts:
                file.seek(starts[name] + first * np.dtype(np.int32).itemsize)
                file.write(values.astype(np.int32, copy=False).data)

    write_atomically(path, write)


def _zeros(count: int) -> Ints:
    """Returns int32 zeros that need no memory: all their pages are the system's one page of them.

    NumPy's own may be memory that was in use before, and then they are written.
    """
    width = np.dtype(np.int32).itemsize
    pages = mmap.mmap(-1, max(1, count) * width, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, np.int32, count)


def _starts_of_values(path: Path) -> dict[str, int]:
    """Returns the place in a file of one batch where the values of each jagged column begin."""
    with pa.memory_map(str(path)) as source:
        begin = source.read_buffer(1).address
        batch = pa.ipc.open_file(source).get_batch(0)
        values = {name: batch[name].values.buffers()[1] for name in batch.schema.names}
        return {name: buffer.address - begin for name, buffer in values.items() if buffer}


def read_columns(path: Path) -> dict[str, Column]:
    """Maps a file of `write_columns` into memory."""
    with pa.memory_map(str(path)) as source:
        return from_arrow(pa.ipc.open_file(source).read_all())
