"""Reads the batches of a plan from Parquet: one rank's examples, and the items of all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from feature_store.columns import Ints, Jagged, jagged_from_arrow
from feature_store.history import hash64
from pipelines.prepared import CONTEXT
from recsys.collate import Share
from recsys.plan import Piece, TrainingPlan, rank_rows

_ROW_ORDER = 23


def read_steps(
    plan: TrainingPlan, start: int, stop: int, rank: int, world_size: int
) -> Iterator[Share]:
    """One rank's share of the steps from `start` to `stop`, in order.

    Other ranks' items can be negatives, so the item column is read of every lane; the other
    columns, which are nearly all bytes, only of the lanes that the rank has rows of. A row group is
    read once, but for those that `start` and the lanes' ends cut in two.
    """
    lanes: list[_Lane] = []
    for step in range(start, stop):
        epoch, batch = divmod(step, plan.steps_per_epoch)
        if step == start or batch == 0:
            lanes = [
                _Lane(pieces, (plan.seed, epoch, index), plan.lane_row(index, batch))
                for index, pieces in enumerate(plan.epoch_lanes(epoch))
            ]
        counts = [
            plan.lane_row(index, batch + 1) - plan.lane_row(index, batch)
            for index in range(plan.lanes)
        ]
        first, last = rank_rows(sum(counts), rank, world_size)
        own: list[_Examples] = []
        items: list[Ints] = []
        begin = 0
        for lane, count in zip(lanes, counts, strict=True):
            found = lane.read(count, max(0, first - begin), min(count, last - begin))
            items += found[0]
            own += found[1]
            begin += count
        examples = _concatenate(own)
        yield Share(
            step=step,
            query=examples.query,
            item=examples.item,
            history=examples.history,
            weight=examples.weight,
            context=examples.context,
            columns=np.concatenate(items),
        )


@dataclass(frozen=True)
class _Examples:
    """All [rows]."""

    query: Ints
    item: Ints
    history: Jagged
    weight: npt.NDArray[np.float32]
    context: dict[str, Jagged]

    def take(self, rows: Ints) -> "_Examples":
        return _Examples(
            self.query[rows],
            self.item[rows],
            self.history.take(rows),
            self.weight[rows],
            {name: column.take(rows) for name, column in self.context.items()},
        )

    def slice(self, start: int, stop: int) -> "_Examples":
        """Views, without a copy."""
        return _Examples(
            self.query[start:stop],
            self.item[start:stop],
            _slice(self.history, start, stop),
            self.weight[start:stop],
            {name: _slice(column, start, stop) for name, column in self.context.items()},
        )


def _slice(column: Jagged, start: int, stop: int) -> Jagged:
    offsets = column.offsets[start : stop + 1]
    return Jagged(column.values[offsets[0] : offsets[-1]], offsets - offsets[0])


_NONE = _Examples(
    np.zeros(0, np.int32),
    np.zeros(0, np.int32),
    Jagged(np.zeros(0, np.int32), np.zeros(1, np.int64)),
    np.zeros(0, np.float32),
    {},
)


def _concatenate(parts: Sequence[_Examples]) -> _Examples:
    if not parts:
        return _NONE
    return _Examples(
        np.concatenate([part.query for part in parts]),
        np.concatenate([part.item for part in parts]),
        Jagged.concatenate([part.history for part in parts]),
        np.concatenate([part.weight for part in parts]),
        {
            name: Jagged.concatenate([part.context[name] for part in parts])
            for name in parts[0].context
        },
    )


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
        self._window: _Window | None = None
        self._items: Ints | None = None
        self._examples: _Examples | None = None

    def read(self, count: int, first: int, last: int) -> tuple[list[Ints], list[_Examples]]:
        """The items of the next `count` rows, and whole examples of those from first to last."""
        items: list[Ints] = []
        examples: list[_Examples] = []
        end = self._row + count
        first, last = self._row + first, self._row + last
        while self._row < end:
            window = self._current()
            stop = min(window.end, end)
            items.append(self._window_items(window)[self._row - window.begin : stop - window.begin])
            start_own, stop_own = max(self._row, first), min(stop, last)
            if start_own < stop_own:
                own = self._window_examples(window)
                examples.append(own.slice(start_own - window.begin, stop_own - window.begin))
            self._row = stop
        return items, examples

    def _current(self) -> "_Window":
        """The window that holds the next row."""
        if self._window is None or self._window.end == self._row:
            self._window = next(self._windows)
            self._items = self._examples = None
        return self._window

    def _window_items(self, window: "_Window") -> Ints:
        if self._examples is not None:
            return self._examples.item
        if self._items is None:
            self._items = _read_items(window)[self._order(window)]
        return self._items

    def _window_examples(self, window: "_Window") -> _Examples:
        if self._examples is None:
            self._examples = _read_examples(window).take(self._order(window))
        return self._examples

    def _order(self, window: "_Window") -> Ints:
        seed, epoch, lane = self._key
        rows = np.arange(window.end - window.begin)
        return np.argsort(hash64(seed, _ROW_ORDER, epoch, lane, window.begin, rows))


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


@lru_cache(maxsize=256)
def _footer(file: str) -> pq.FileMetaData:
    return pq.read_metadata(file)


def _read_items(window: _Window) -> Ints:
    with pq.ParquetFile(window.file, metadata=_footer(window.file)) as parquet:
        table = parquet.read_row_group(window.group, columns=["item"])
    return table["item"].to_numpy()[window.rows]


def _read_examples(window: _Window) -> _Examples:
    with pq.ParquetFile(window.file, metadata=_footer(window.file)) as parquet:
        names = parquet.schema_arrow.names
        context = [name for name in names if name.startswith(CONTEXT)]
        columns = ["query", "item", "history", "weight", *context]
        table = parquet.read_row_group(window.group, columns=columns)
    query, item, weight = (table[name].to_numpy() for name in ("query", "item", "weight"))
    lists = {name.removeprefix(CONTEXT): jagged_from_arrow(table[name]) for name in context}
    examples = _Examples(query, item, jagged_from_arrow(table["history"]), weight, lists)
    return examples.slice(window.rows.start, window.rows.stop)
