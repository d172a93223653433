"""The order in which a training reads its examples: a function of the seed, not of the workers.

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

# Least rows that a lane adds to a batch; with fewer the lanes' bookkeeping would show.
_LANE_ROWS = 64
_MAX_LANES = 64
# Each lane holds a row group in memory; this bounds the memory of all of them.
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
    """The batches of all epochs.

    Every row of an epoch is in exactly one of its batches. Their sizes differ by less than twice
    the number of lanes, and are `batch_size` at most.

    Attributes:
        files: Files of examples in order, each with its number of rows.
        batch_size: Most rows in a global batch.
        lanes: Number of lanes, which depends on the data and the batch size alone, so that batches
            are the same for any number of ranks.
        window_rows: Rows of a row group, within which a lane's rows are shuffled.
        epochs: Number of epochs.
        seed: Seed of the order.
        kind: Kind of the rows: events, which are an example each, or sequences of several.
        examples_per_row: Average number of examples in a row.
        steps: Number of batches after which training ends; None: those of all epochs.
        selection: Directory of the files, where they are not all prepared examples; see `replay`.
        neighbours: Directory of the items' neighbours, where views of items show them.
    """

    files: tuple[tuple[str, int], ...]
    batch_size: int
    lanes: int
    window_rows: int
    epochs: int
    seed: int
    kind: Literal["events", "sequences"] = "events"
    examples_per_row: float = 1.0
    steps: int | None = None
    selection: Path | None = None
    neighbours: Path | None = None

    @cached_property
    def rows(self) -> int:
        """Number of rows in an epoch."""
        return sum(rows for _, rows in self.files)

    @cached_property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""
        return -(-self.rows // (self.batch_size - self.batch_size % self.lanes))

    @property
    def total_steps(self) -> int:
        """Number of batches in the training."""
        if self.steps is not None:
            return self.steps
        return self.epochs * self.steps_per_epoch

    @cached_property
    def identity(self) -> str:
        """Fingerprint of the order: a position is meaningless in an order with another one."""
        files = [(Path(file).name, rows) for file, rows in self.files]
        order = [files, self.batch_size, self.lanes, self.window_rows, self.seed]
        return fingerprint([*order, self.kind])

    def examples(self, start: int, stop: int) -> int:
        """Counts the examples in the steps from `start` to `stop`; for sequences about."""

        def before(step: int) -> int:
            epoch, batch = divmod(step, self.steps_per_epoch)
            return epoch * self.rows + sum(self.lane_row(i, batch) for i in range(self.lanes))

        return round((before(stop) - before(start)) * self.examples_per_row)

    def lane_row(self, lane: int, batch: int) -> int:
        """Counts the lane's rows in the epoch's batches before `batch`.

        An epoch's first batch takes one more of each lane that is longer by a row.
        """
        rows, longer = divmod(self.rows, self.lanes)
        return batch * rows // self.steps_per_epoch + int(batch > 0 and lane < longer)

    def epoch_lanes(self, epoch: int) -> list[list[Piece]]:
        """Returns the rows of each lane."""
        order = np.argsort(hash64(self.seed, _SHARD_ORDER, epoch, np.arange(len(self.files))))
        files = [Piece(self.files[i][0], 0, self.files[i][1]) for i in order]
        start = int(hash64(self.seed, _ROTATION, epoch)) % self.rows
        pieces = [*_cut(files, [start, self.rows])[0], *_cut(files, [0, start])[0]]
        lengths = [self.lane_row(lane, self.steps_per_epoch) for lane in range(self.lanes)]
        return _cut(pieces, [0, *accumulate(lengths)])


def plan_training(
    files: list[Path],
    *,
    batch_size: int,
    workers: int,
    epochs: int,
    seed: int,
    lane_rows: int = _LANE_ROWS,
) -> TrainingPlan:
    """Plans a training from the footers of its files.

    Args:
        files: Files of events, or of sequences. A batch of sequences has about `batch_size`
            examples: the number of sequences that hold as many on average.
        batch_size: Examples in a global batch.
        workers: Number of ranks; there must be a row for each.
        epochs: Number of epochs.
        seed: Seed of the order.
        lane_rows: Least rows that a lane adds to a batch.

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
    # Rows are in random order on disk, so that one file is like all others.
    window_rows, window_bytes = _row_group(footers[counted[0][0]])
    examples = sum(_values(footer, _TARGETS) for footer in footers.values())
    per_row = examples / total if examples else 1.0
    rows = max(1, round(batch_size / per_row))
    most = min(_MAX_LANES, rows // lane_rows, _WINDOW_BYTES // window_bytes)
    lanes = 1 << max(0, most.bit_length() - 1)
    kind: Literal["events", "sequences"] = "sequences" if examples else "events"
    return TrainingPlan(counted, rows, lanes, window_rows, epochs, seed, kind, per_row)


def rank_rows(size: int, rank: int, world_size: int) -> tuple[int, int]:
    """Returns the first row and the end of a rank's rows of a global batch.

    Each rank has `rows_per_rank` rows; the last ones have fewer, or none.
    """
    rows = rows_per_rank(size, world_size)
    return min(rank * rows, size), min((rank + 1) * rows, size)


def rows_per_rank(size: int, world_size: int) -> int:
    """Returns the rows that each rank has of a global batch, the last ones with padding."""
    return -(-size // world_size)


def _cut(pieces: list[Piece], bounds: list[int]) -> list[list[Piece]]:
    """Cuts the pieces' concatenation at the bounds, which ascend."""
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
    """Returns the rows of the largest row group, and its bytes in memory."""
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    largest = max(groups, key=lambda group: group.num_rows)
    values = sum(largest.column(i).num_values for i in range(largest.num_columns))
    return largest.num_rows, _VALUE_BYTES * values


def _values(footer: pq.FileMetaData, column: str) -> int:
    """Counts the values of a column of lists in a file; 0 where there is no such column."""
    chunks = (
        footer.row_group(group).column(index)
        for group in range(footer.num_row_groups)
        for index in range(footer.num_columns)
    )
    return sum(c.num_values for c in chunks if c.path_in_schema.startswith(column))
