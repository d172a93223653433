"""In which order a training reads its examples: a pure function of the seed, not of the workers.

An epoch's order is all files in random order, begun at a random row. It is cut into lanes of equal
length that are read side by side: a global batch is the next few rows of every lane. So a rank that
trains on the first half of every batch reads the first half of the lanes, and no others.

    order      |----- lane 0 -----|----- lane 1 -----|----- lane 2 -----|----- lane 3 -----|
    batch 0    |##                |##                |##                |##                |
    batch 1    |  ##              |  ##              |  ##              |  ##              |
    rank       |        0         |        0         |        1         |        1         |
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow.parquet as pq

from feature_store.core.errors import UserError
from feature_store.core.hashing import hash64
from feature_store.core.manifests import fingerprint

_SHARD_ORDER, _ROTATION = 21, 22

# Rows that a lane adds to a batch, at least; with fewer the lanes' bookkeeping would show.
_LANE_ROWS = 64
_MAX_LANES = 64
# Each lane holds a row group in memory; all of them at most so much.
_WINDOW_BYTES = 256 * 2**20
_VALUE_BYTES = 4
# The column that only sequences have: the items of their examples.
_TARGETS = "items."


@dataclass(frozen=True)
class Piece:
    """Consecutive rows of one file."""

    file: str
    start: int
    stop: int


@dataclass(frozen=True)
class TrainingPlan:
    """All epochs' batches.

    Every row of an epoch is in exactly one of its batches. Their sizes differ by less than twice
    the number of lanes, and are `batch_size` at most.

    Attributes:
        files: Of the examples, in order, with their rows.
        batch_size: Rows in a global batch, at most.
        lanes: How many; of the data and the batch size alone, so that batches are the same whatever
            the number of ranks.
        window_rows: Of a row group, in which a lane's rows are shuffled.
        epochs: Number of epochs.
        seed: Of the order.
        kind: Of the rows: events, which are an example each, or sequences of several.
        examples_per_row: On average.
    """

    files: tuple[tuple[str, int], ...]
    batch_size: int
    lanes: int
    window_rows: int
    epochs: int
    seed: int
    kind: Literal["events", "sequences"] = "events"
    examples_per_row: float = 1.0

    @cached_property
    def rows(self) -> int:
        """Of an epoch."""
        return sum(rows for _, rows in self.files)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Batches of an epoch."""
        return -(-self.rows // (self.batch_size - self.batch_size % self.lanes))

    @property
    def total_steps(self) -> int:
        """Over all epochs."""
        return self.epochs * self.steps_per_epoch

    @cached_property
    def identity(self) -> str:
        """Of the order: where it is another, a position in it means nothing."""
        files = [(Path(file).name, rows) for file, rows in self.files]
        order = [files, self.batch_size, self.lanes, self.window_rows, self.seed]
        return fingerprint([*order, self.kind])

    def examples(self, start: int, stop: int) -> int:
        """In the steps from `start` to `stop`; of sequences about so many."""

        def before(step: int) -> int:
            epoch, batch = divmod(step, self.steps_per_epoch)
            return epoch * self.rows + sum(self.lane_row(i, batch) for i in range(self.lanes))

        return round((before(stop) - before(start)) * self.examples_per_row)

    def lane_row(self, lane: int, batch: int) -> int:
        """How many of the lane's rows are in the epoch's batches before `batch`.

        An epoch's first batch takes one more of each lane that is longer by a row.
        """
        rows, longer = divmod(self.rows, self.lanes)
        return batch * rows // self.steps_per_epoch + int(batch > 0 and lane < longer)

    def epoch_lanes(self, epoch: int) -> list[list[Piece]]:
        """The rows of each lane."""
        order = np.argsort(hash64(self.seed, _SHARD_ORDER, epoch, np.arange(len(self.files))))
        files = [Piece(self.files[i][0], 0, self.files[i][1]) for i in order]
        start = int(hash64(self.seed, _ROTATION, epoch)) % self.rows
        pieces = [*_cut(files, [start, self.rows])[0], *_cut(files, [0, start])[0]]
        lengths = [self.lane_row(lane, self.steps_per_epoch) for lane in range(self.lanes)]
        return _cut(pieces, [0, *accumulate(lengths)])


def plan_training(
    files: list[Path], *, batch_size: int, workers: int, epochs: int, seed: int
) -> TrainingPlan:
    """Plans from the files' footers.

    Args:
        files: Of examples, or of sequences: with these a batch has about `batch_size` examples, for
            it has so many sequences as hold that many on average.
        batch_size: Examples in a global batch.
        workers: There must be as many rows.
        epochs: Number of epochs.
        seed: Of the order.

    Raises:
        UserError: There are fewer examples than workers.
    """
    footers = {str(file): pq.read_metadata(file) for file in files}
    counted = tuple((file, footer.num_rows) for file, footer in footers.items() if footer.num_rows)
    total = sum(rows for _, rows in counted)
    if total < max(2, workers):
        raise UserError(
            f"{total} training examples are too few for {workers} workers; expected at least "
            f"{max(2, workers)}: give a larger log."
        )
    # Rows are in random order on disk, so that one file tells what all are like.
    window_rows, window_bytes = _row_group(footers[counted[0][0]])
    examples = sum(_values(footer, _TARGETS) for footer in footers.values())
    per_row = examples / total if examples else 1.0
    rows = max(1, round(batch_size / per_row))
    most = min(_MAX_LANES, rows // _LANE_ROWS, _WINDOW_BYTES // window_bytes)
    lanes = 1 << max(0, most.bit_length() - 1)
    kind: Literal["events", "sequences"] = "sequences" if examples else "events"
    return TrainingPlan(counted, rows, lanes, window_rows, epochs, seed, kind, per_row)


def rank_rows(size: int, rank: int, world_size: int) -> tuple[int, int]:
    """From where to where a rank's rows of a global batch are.

    Each rank has `size / world_size` rows, rounded up; the last ones have fewer, or none.
    """
    share = -(-size // world_size)
    return min(rank * share, size), min((rank + 1) * share, size)


def _cut(pieces: list[Piece], bounds: list[int]) -> list[list[Piece]]:
    """The rows of the pieces' concatenation between each two bounds, which ascend."""
    ends = list(accumulate(piece.stop - piece.start for piece in pieces))
    parts: list[list[Piece]] = []
    for start, stop in pairwise(bounds):
        part: list[Piece] = []
        index = bisect_right(ends, start)
        while start < stop:
            shift = pieces[index].stop - ends[index]
            end = min(stop, ends[index])
            part.append(Piece(pieces[index].file, start + shift, end + shift))
            start = end
            index += 1
        parts.append(part)
    return parts


def _row_group(footer: pq.FileMetaData) -> tuple[int, int]:
    """Rows of the largest row group, and its bytes in memory."""
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    largest = max(groups, key=lambda group: group.num_rows)
    values = sum(largest.column(i).num_values for i in range(largest.num_columns))
    return largest.num_rows, _VALUE_BYTES * values


def _values(footer: pq.FileMetaData, column: str) -> int:
    """Of a column of lists, in the whole file; 0 where there is no such column."""
    chunks = (
        footer.row_group(group).column(index)
        for group in range(footer.num_row_groups)
        for index in range(footer.num_columns)
    )
    return sum(c.num_values for c in chunks if c.path_in_schema.startswith(column))
