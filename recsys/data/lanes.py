"""The rows of a lane, read from Parquet a row group at a time, each shuffled in itself.

lane     |      window 0      |      window 1      |  ...    each of one row group
read     |  batch 0  |  batch 1  |  batch 2  |  ...          a batch takes one part or two
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.columns import Ints, Jagged, jagged_from_arrow
from feature_store.core.hashing import hash64
from recsys.data.plan import Piece

_ROW_ORDER = 23


@dataclass(frozen=True)
class Rows:
    """Rows of a file of examples, as columns by name.

    Attributes:
        numbers: [rows] each: `query`; of events also `item` and `weight`.
        lists: [rows] bags each: `history`; of sequences also `items`, `seen` and `weights`; of
            events also the context features.
    """

    numbers: dict[str, npt.NDArray[Any]]
    lists: dict[str, Jagged]

    @classmethod
    def concatenate(cls, parts: Sequence["Rows"]) -> "Rows":
        """Joins the rows of all parts, which have the same columns."""
        return cls(
            {
                name: np.concatenate([part.numbers[name] for part in parts])
                for name in parts[0].numbers
            },
            {
                name: Jagged.concatenate([part.lists[name] for part in parts])
                for name in parts[0].lists
            },
        )

    def slice(self, start: int, stop: int) -> "Rows":
        """Returns the rows from start to stop, without a copy."""
        return Rows(
            {name: column[start:stop] for name, column in self.numbers.items()},
            {name: _slice(column, start, stop) for name, column in self.lists.items()},
        )

    def take(self, rows: Ints) -> "Rows":
        """Returns the given rows, in that order."""
        return Rows(
            {name: column[rows] for name, column in self.numbers.items()},
            {name: column.take(rows) for name, column in self.lists.items()},
        )


def _slice(column: Jagged, start: int, stop: int) -> Jagged:
    """Returns the rows from start to stop, without a copy of the values."""
    offsets = column.offsets[start : stop + 1]
    return Jagged(column.values[offsets[0] : offsets[-1]], offsets - offsets[0])


class Lane:
    """Reads one lane's rows in order, a row group at a time, each shuffled.

    Args:
        pieces: Rows of the lane.
        key: Key of its shuffles: seed, epoch, lane.
        row: First row to read.
    """

    def __init__(self, pieces: Sequence[Piece], key: tuple[int, int, int], row: int) -> None:
        self._windows = _windows(pieces, row)
        self._key = key
        self._row = row
        self._shuffled: _Shuffled | None = None

    def read(self, count: int) -> "list[Part]":
        """Returns the next `count` rows, which are read when they are asked for."""
        parts: list[Part] = []
        end = self._row + count
        while self._row < end:
            if self._shuffled is None or self._shuffled.window.end == self._row:
                self._shuffled = _Shuffled(next(self._windows), self._key)
            window = self._shuffled.window
            stop = min(window.end, end)
            parts.append(Part(self._shuffled, self._row - window.begin, stop - window.begin))
            self._row = stop
        return parts


class _Shuffled:
    """The rows of a window in random order, read when they are asked for.

    Args:
        window: Rows of one row group.
        key: Key of the shuffle: seed, epoch, lane.
    """

    def __init__(self, window: "_Window", key: tuple[int, int, int]) -> None:
        self.window = window
        seed, epoch, lane = key
        rows = np.arange(window.end - window.begin)
        self._order = np.argsort(hash64(seed, _ROW_ORDER, epoch, lane, window.begin, rows))
        self._columns: dict[str, Rows] = {}
        self._whole: Rows | None = None

    def column(self, name: str) -> Rows:
        """Returns one column alone, or all where they have been read."""
        if self._whole is not None:
            return self._whole
        if name not in self._columns:
            self._columns[name] = self._read([name])
        return self._columns[name]

    def rows(self) -> Rows:
        """Returns all columns."""
        if self._whole is None:
            self._whole = self._read(None)
            self._columns.clear()
        return self._whole

    def _read(self, names: list[str] | None) -> Rows:
        return _read_window(self.window, names).take(self._order)


@dataclass(frozen=True)
class Part:
    """Consecutive rows of a shuffled window."""

    shuffled: _Shuffled
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def numbers(self, name: str) -> npt.NDArray[Any]:
        """Returns one column of numbers, without reading the others."""
        return self.shuffled.column(name).numbers[name][self.start : self.stop]

    def lists(self, name: str) -> Jagged:
        """Returns one column of lists, without reading the others."""
        return _slice(self.shuffled.column(name).lists[name], self.start, self.stop)

    def rows(self, start: int, stop: int) -> Rows:
        """Returns all columns of the part's rows from start to stop."""
        return self.shuffled.rows().slice(self.start + start, self.start + stop)


@dataclass(frozen=True)
class _Window:
    """Rows of one row group that are those of a lane from `begin` to `end`.

    Attributes:
        start: First of these rows in the row group.
    """

    file: str
    group: int
    start: int
    begin: int
    end: int


def _windows(pieces: Sequence[Piece], row: int) -> Iterator[_Window]:
    """Yields a lane's windows from the one that holds `row`; reads each footer when it is due."""
    begin = 0
    for piece in pieces:
        end = begin + piece.stop - piece.start
        if row < end:
            for group, start, stop in _row_groups(piece):
                first = begin + max(start, piece.start) - piece.start
                last = begin + min(stop, piece.stop) - piece.start
                if first < last and row < last:
                    yield _Window(piece.file, group, max(start, piece.start) - start, first, last)
        begin = end


def _row_groups(piece: Piece) -> Iterator[tuple[int, int, int]]:
    """Yields each row group of the piece's file with its first row and its end."""
    footer = _footer(piece.file)
    begin = 0
    for index in range(footer.num_row_groups):
        rows = footer.row_group(index).num_rows
        yield index, begin, begin + rows
        begin += rows


def _footer(file: str) -> pq.FileMetaData:
    """Reads a footer, or remembers it.

    The next day's file may have the same name, and of a removed file even its inode.
    """
    state = os.stat(file)
    return _footer_of(file, state.st_ino, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=256)
def _footer_of(file: str, inode: int, changed: int, size: int) -> pq.FileMetaData:
    return pq.read_metadata(file)


def _read_window(window: _Window, names: list[str] | None) -> Rows:
    """Reads columns of a window's rows; None: all that training needs."""
    with pq.ParquetFile(window.file, metadata=_footer(window.file)) as parquet:
        names = names or [name for name in parquet.schema_arrow.names if name != "timestamp"]
        table = parquet.read_row_group(window.group, columns=names)
    rows = Rows(
        {name: table[name].to_numpy() for name in names if not _is_list(table[name].type)},
        {name: jagged_from_arrow(table[name]) for name in names if _is_list(table[name].type)},
    )
    return rows.slice(window.start, window.start + window.end - window.begin)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)
