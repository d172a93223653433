"""Reads the batches of a plan from Parquet: one rank's examples, and the items of all."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.core.columns import Ints, Jagged, jagged_from_arrow
from feature_store.core.hashing import hash64
from feature_store.history import windows
from pipelines.prepared.reader import CONTEXT
from recsys.data.plan import Piece, TrainingPlan, rank_rows

_ROW_ORDER = 23


@dataclass(frozen=True)
class Reads:
    """What examples read of histories that they share; see `recsys.history_encoders`.

    Attributes:
        element: [rows] the latest of the histories' values that each sees; -1 for none.
        place: [histories] in the global batch.
    """

    element: Ints
    place: Ints


@dataclass(frozen=True)
class Share:
    """One rank's examples of a global batch; the last ranks may have fewer, or none.

    Attributes:
        step: Counted from 0 over the whole training.
        query: [rows] int32.
        item: [rows] int32.
        history: [rows] items, oldest first; [histories], where `reads` says who reads which.
        weight: [rows] float32.
        columns: Items of the whole global batch, int32.
        context: [rows] by feature name, as of `context_lists`.
        reads: None: each example reads the history of its row to the end.
    """

    step: int
    query: Ints
    item: Ints
    history: Jagged
    weight: npt.NDArray[np.float32]
    columns: Ints
    context: dict[str, Jagged] = field(default_factory=dict)
    reads: Reads | None = None

    def seen(self) -> Jagged:
        """The items that each example sees, [rows]."""
        if self.reads is None:
            return self.history
        read = self.reads.element
        history = np.searchsorted(self.history.offsets, read, side="right") - 1
        start = np.where(read >= 0, self.history.offsets[np.maximum(history, 0)], 0)
        seen = windows(start, read + 1 - start)
        return Jagged(self.history.values[seen.values], seen.offsets)


def read_steps(
    plan: TrainingPlan, start: int, stop: int, rank: int, world_size: int
) -> Iterator[Share]:
    """One rank's share of the steps from `start` to `stop`, in order.

    Other ranks' items can be negatives, so the items are read of every lane; the other columns,
    which are nearly all bytes, only of the lanes that the rank has rows of. A row group is read
    once, but for those that `start` and the lanes' ends cut in two.
    """
    share_of = _share_of_sequences if plan.kind == "sequences" else _share_of_events
    lanes: list[_Lane] = []
    for step in range(start, stop):
        epoch, batch = divmod(step, plan.steps_per_epoch)
        if step == start or batch == 0:
            lanes = [
                _Lane(pieces, (plan.seed, epoch, index), plan.lane_row(index, batch))
                for index, pieces in enumerate(plan.epoch_lanes(epoch))
            ]
        parts: list[_Part] = []
        for index, lane in enumerate(lanes):
            parts += lane.read(plan.lane_row(index, batch + 1) - plan.lane_row(index, batch))
        yield share_of(step, parts, rank, world_size)


def _share_of_events(step: int, parts: list["_Part"], rank: int, world_size: int) -> Share:
    columns = np.concatenate([part.column("item") for part in parts])
    own = _rows(parts, *rank_rows(len(columns), rank, world_size), _NO_EVENTS)
    return Share(
        step=step,
        query=own["query"],
        item=own["item"],
        history=own["history"],
        weight=own["weight"],
        columns=columns,
        context={
            name.removeprefix(CONTEXT): column
            for name, column in own.items()
            if name.startswith(CONTEXT)
        },
    )


def _share_of_sequences(step: int, parts: list["_Part"], rank: int, world_size: int) -> Share:
    """Examples are shared out evenly; two ranks may have some of the same sequence."""
    items = Jagged.concatenate([part.column("items") for part in parts])
    first, last = rank_rows(len(items.values), rank, world_size)
    begin = int(np.searchsorted(items.offsets, first, side="right")) - 1
    end = int(np.searchsorted(items.offsets, last, side="left"))
    own = _rows(parts, begin, end if first < last else begin, _NO_SEQUENCES)
    shift = items.offsets[begin]
    chosen = slice(first - shift, last - shift)
    row, seen = own["items"].row_of_value()[chosen], own["seen"].values[chosen]
    history = own["history"]
    return Share(
        step=step,
        query=own["query"][row],
        item=own["items"].values[chosen],
        history=history,
        weight=own["weights"].values[chosen],
        columns=items.values,
        reads=Reads(
            element=np.where(seen > 0, history.offsets[row] + seen - 1, -1),
            place=np.arange(begin, begin + len(history)),
        ),
    )


# By name of the column: rows of a file.
_Rows = dict[str, Any]

_NO_BAGS = Jagged(np.zeros(0, np.int32), np.zeros(1, np.int64))
_NO_INTS = np.zeros(0, np.int32)
_NO_FLOATS: Any = np.zeros(0, np.float32)
_NO_EVENTS: _Rows = {
    "query": _NO_INTS,
    "item": _NO_INTS,
    "history": _NO_BAGS,
    "weight": _NO_FLOATS,
}
_NO_SEQUENCES: _Rows = {
    "query": _NO_INTS,
    "history": _NO_BAGS,
    "items": _NO_BAGS,
    "seen": _NO_BAGS,
    "weights": Jagged(_NO_FLOATS, _NO_BAGS.offsets),
}


def _rows(parts: list["_Part"], first: int, last: int, none: _Rows) -> _Rows:
    """Rows from first to last of the parts' concatenation; `none` where there are none."""
    found: list[_Rows] = []
    begin = 0
    for part in parts:
        end = begin + len(part)
        if max(begin, first) < min(end, last):
            found.append(part.rows(max(begin, first) - begin, min(end, last) - begin))
        begin = end
    if not found:
        return none
    return {name: _concatenate([rows[name] for rows in found]) for name in found[0]}


def _concatenate(columns: list[Any]) -> Any:
    if isinstance(columns[0], Jagged):
        return Jagged.concatenate(columns)
    return np.concatenate(columns)


def _slice(column: Any, start: int, stop: int) -> Any:
    """A view, without a copy."""
    if not isinstance(column, Jagged):
        return column[start:stop]
    offsets = column.offsets[start : stop + 1]
    return Jagged(column.values[offsets[0] : offsets[-1]], offsets - offsets[0])


class _Lane:
    """Reads one lane's rows in order, a row group at a time, each shuffled.

    Args:
        pieces: Its rows.
        key: Of its shuffles: seed, epoch, lane.
        row: To begin with.
    """

    def __init__(self, pieces: Sequence[Piece], key: tuple[int, int, int], row: int) -> None:
        self._windows = _windows(pieces, row)
        self._key = key
        self._row = row
        self._shuffled: _Shuffled | None = None

    def read(self, count: int) -> "list[_Part]":
        """The next `count` rows."""
        parts: list[_Part] = []
        end = self._row + count
        while self._row < end:
            if self._shuffled is None or self._shuffled.window.end == self._row:
                self._shuffled = _Shuffled(next(self._windows), self._key)
            window = self._shuffled.window
            stop = min(window.end, end)
            parts.append(_Part(self._shuffled, self._row - window.begin, stop - window.begin))
            self._row = stop
        return parts


class _Shuffled:
    """A window's rows in random order, read when they are asked for.

    Args:
        window: Which.
        key: Of the shuffle: seed, epoch, lane.
    """

    def __init__(self, window: "_Window", key: tuple[int, int, int]) -> None:
        self.window = window
        seed, epoch, lane = key
        rows = np.arange(window.end - window.begin)
        self._order = np.argsort(hash64(seed, _ROW_ORDER, epoch, lane, window.begin, rows))
        self._columns: _Rows = {}
        self._is_whole = False

    def column(self, name: str) -> Any:
        """One column alone."""
        if name not in self._columns:
            self._columns |= self._read([name])
        return self._columns[name]

    def rows(self) -> _Rows:
        """All of them."""
        if not self._is_whole:
            self._columns = self._read(None)
            self._is_whole = True
        return self._columns

    def _read(self, names: list[str] | None) -> _Rows:
        return {
            name: column.take(self._order) if isinstance(column, Jagged) else column[self._order]
            for name, column in _read_window(self.window, names).items()
        }


@dataclass(frozen=True)
class _Part:
    """Consecutive rows of a shuffled window."""

    shuffled: _Shuffled
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def column(self, name: str) -> Any:
        return _slice(self.shuffled.column(name), self.start, self.stop)

    def rows(self, start: int, stop: int) -> _Rows:
        """From start to stop of the part's."""
        begin = self.start
        return {
            name: _slice(column, begin + start, begin + stop)
            for name, column in self.shuffled.rows().items()
        }


@dataclass(frozen=True)
class _Window:
    """Rows of one row group: those of a lane from `begin` to `end`.

    Attributes:
        start: Its first row in the row group.
    """

    file: str
    group: int
    start: int
    begin: int
    end: int

    @property
    def rows(self) -> slice:
        """In the row group."""
        return slice(self.start, self.start + self.end - self.begin)


def _windows(pieces: Sequence[Piece], row: int) -> Iterator[_Window]:
    """The windows of a lane from the one that holds `row` on; footers are read when it is time."""
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
    """Each row group of the piece's file, and its rows."""
    footer = _footer(piece.file)
    begin = 0
    for index in range(footer.num_row_groups):
        rows = footer.row_group(index).num_rows
        yield index, begin, begin + rows
        begin += rows


def _footer(file: str) -> pq.FileMetaData:
    """The next day's file may have the same name."""
    return _footer_of(file, os.stat(file).st_ino)


@lru_cache(maxsize=256)
def _footer_of(file: str, inode: int) -> pq.FileMetaData:
    return pq.read_metadata(file)


def _read_window(window: _Window, names: list[str] | None) -> _Rows:
    """Columns of a window's rows; None: all that training needs."""
    with pq.ParquetFile(window.file, metadata=_footer(window.file)) as parquet:
        names = names or [name for name in parquet.schema_arrow.names if name != "timestamp"]
        table = parquet.read_row_group(window.group, columns=names)
    rows = window.rows
    return {name: _slice(_column(table[name]), rows.start, rows.stop) for name in names}


def _column(values: pa.ChunkedArray) -> Any:
    is_list = pa.types.is_list(values.type) or pa.types.is_large_list(values.type)
    return jagged_from_arrow(values) if is_list else values.to_numpy()
