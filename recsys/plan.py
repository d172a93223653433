"""In which order a training reads its examples: a pure function of the seed, not of the workers."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from feature_store.columns import Jagged, jagged_from_arrow
from feature_store.errors import UserError
from feature_store.history import hash64
from recsys.collate import Window

# Rows that are read and shuffled together; shards are already in random order on disk.
_CHUNK_ROWS = 131_072
_SHARD_ORDER, _ROTATION, _ROW_ORDER = 21, 22, 23


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one file."""

    file: str
    start: int
    stop: int


@dataclass(frozen=True)
class Chunk:
    """Examples that are read and shuffled together, and cut into global batches.

    Attributes:
        first_step: Of its first batch.
        skip: Batches that an earlier run has already trained on.
        batch_size: Examples in each batch.
        pieces: Where its rows are.
        key: Of its shuffle.
    """

    first_step: int
    skip: int
    batch_size: int
    pieces: tuple[Piece, ...]
    key: tuple[int, int, int]  # seed, epoch, chunk


@dataclass(frozen=True)
class TrainingPlan:
    """All epochs' batches.

    Attributes:
        files: Of the examples, in order, with their rows.
        batch_size: Examples in each global batch.
        steps_per_epoch: Whole batches; which examples are left over differs from epoch to epoch.
        epochs: Number of epochs.
        seed: Of the order.
    """

    files: tuple[tuple[str, int], ...]
    batch_size: int
    steps_per_epoch: int
    epochs: int
    seed: int

    @property
    def total_steps(self) -> int:
        """Over all epochs."""
        return self.epochs * self.steps_per_epoch

    def chunks(self, from_step: int = 0) -> Iterator[Chunk]:
        """Chunks that hold the steps from `from_step` on."""
        chunk_steps = max(1, _CHUNK_ROWS // self.batch_size)
        for epoch in range(from_step // self.steps_per_epoch, self.epochs):
            order = self._epoch(epoch)
            for index, first in enumerate(range(0, self.steps_per_epoch, chunk_steps)):
                steps = min(chunk_steps, self.steps_per_epoch - first)
                first_step = epoch * self.steps_per_epoch + first
                if first_step + steps <= from_step:
                    continue
                pieces = _cut(order, first * self.batch_size, (first + steps) * self.batch_size)
                yield Chunk(
                    first_step=first_step,
                    skip=max(0, from_step - first_step),
                    batch_size=self.batch_size,
                    pieces=tuple(pieces),
                    key=(self.seed, epoch, index),
                )

    def _epoch(self, epoch: int) -> list[Piece]:
        """All rows of an epoch: shards in random order, begun at a random row."""
        order = np.argsort(hash64(self.seed, _SHARD_ORDER, epoch, np.arange(len(self.files))))
        pieces = [Piece(self.files[i][0], 0, self.files[i][1]) for i in order]
        total = sum(rows for _, rows in self.files)
        start = int(hash64(self.seed, _ROTATION, epoch)) % total
        return [*_cut(pieces, start, total), *_cut(pieces, 0, start)]


def plan_training(
    files: list[Path], *, batch_size: int, workers: int, epochs: int, seed: int
) -> TrainingPlan:
    """Plans from the files' footers.

    Raises:
        UserError: There are fewer examples than workers.
    """
    counted = tuple((str(file), pq.read_metadata(file).num_rows) for file in files)
    counted = tuple((file, rows) for file, rows in counted if rows)
    total = sum(rows for _, rows in counted)
    if total < batch_size:  # One batch of everything, which ranks can share equally.
        batch_size = total - total % workers
    if batch_size < 2:
        raise UserError(
            f"{total} training examples are too few for {workers} workers; expected at least "
            f"{max(2, workers)}: give a larger log."
        )
    return TrainingPlan(counted, batch_size, total // batch_size, epochs, seed)


def read_chunk(chunk: Chunk) -> Iterator[Window]:
    """Reads and shuffles a chunk, and cuts it into batches."""
    table = pa.concat_tables([_read(piece) for piece in chunk.pieces])
    query, item, weight = (table[name].to_numpy() for name in ("query", "item", "weight"))
    history: Jagged = jagged_from_arrow(table["history"])
    order = np.argsort(hash64(chunk.key[0], _ROW_ORDER, *chunk.key[1:], np.arange(len(query))))
    for batch in range(chunk.skip, len(query) // chunk.batch_size):
        rows = order[batch * chunk.batch_size : (batch + 1) * chunk.batch_size]
        yield Window(
            chunk.first_step + batch, query[rows], item[rows], history.take(rows), weight[rows]
        )


def _cut(pieces: list[Piece], start: int, stop: int) -> Iterator[Piece]:
    """Rows `start` to `stop` of the pieces' concatenation."""
    begin = 0
    for piece in pieces:
        rows = piece.stop - piece.start
        first, last = max(start - begin, 0), min(stop - begin, rows)
        if first < last:
            yield Piece(piece.file, piece.start + first, piece.start + last)
        begin += rows


@lru_cache(maxsize=256)
def _footer(file: str) -> pq.FileMetaData:
    return pq.read_metadata(file)


def _read(piece: Piece) -> pa.Table:
    """Reads only the row groups that hold the piece."""
    footer = _footer(piece.file)
    ends = np.cumsum([footer.row_group(i).num_rows for i in range(footer.num_row_groups)])
    first = int(np.searchsorted(ends, piece.start, side="right"))
    last = int(np.searchsorted(ends, piece.stop, side="left"))
    groups = list(range(first, last + 1))
    columns = ["query", "item", "history", "weight"]
    with pq.ParquetFile(piece.file) as parquet:
        table = parquet.read_row_groups(groups, columns=columns)
    skipped = int(ends[first - 1]) if first else 0
    return table.slice(piece.start - skipped, piece.stop - piece.start)
