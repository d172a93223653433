"""Reads the batches of a plan from Parquet: one rank's examples, and the items of all ranks."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from feature_store.core.columns import Floats, Ints, Jagged
from feature_store.history import windows
from pipelines.prepared.examples import CONTEXT
from recsys.data.lanes import Lane, Part, Rows
from recsys.data.plan import TrainingPlan, rank_rows


@dataclass(frozen=True)
class Reads:
    """The part that each example reads of histories that several share.

    See `recsys.model.history`, which draws them.

    Attributes:
        element: [rows] latest of the histories' values that each example sees; -1 for none.
        positions: [histories] position of each history's row in the global batch.
    """

    element: Ints
    positions: Ints


@dataclass(frozen=True)
class LocalBatch:
    """One rank's examples of a global batch; the last ranks may have fewer, or none.

    Attributes:
        step: Number of the step, counted from 0 over the whole training.
        query: [rows] int32.
        item: [rows] int32.
        history: [rows] items, oldest first; [histories], where `reads` says who reads which.
        weight: [rows] float32.
        global_items: Items of the whole global batch, int32.
        context: [rows] columns by feature name, as `context_columns` takes them.
        reads: Part of the histories that each example reads; None: each reads the history of its
            row to the end.
    """

    step: int
    query: Ints
    item: Ints
    history: Jagged
    weight: Floats
    global_items: Ints
    context: dict[str, Jagged] = field(default_factory=dict)
    reads: Reads | None = None

    def seen(self) -> Jagged:
        """Returns the items that each example sees, [rows]."""
        if self.reads is None:
            return self.history
        read = self.reads.element
        history = np.searchsorted(self.history.offsets, read, side="right") - 1
        start = np.where(read >= 0, self.history.offsets[np.maximum(history, 0)], 0)
        seen = windows(start, read + 1 - start)
        return Jagged(self.history.values[seen.values], seen.offsets)


def read_steps(
    plan: TrainingPlan, start: int, stop: int, rank: int, world_size: int
) -> Iterator[LocalBatch]:
    """Yields one rank's part of the steps from `start` to `stop`, in order.

    Other ranks' items can be negatives, so the items are read of every lane; the other columns,
    which are nearly all bytes, only of the lanes that the rank has rows of. A row group is read
    once, except those that `start` and the lanes' ends cut in two.
    """
    batch_of = _batch_of_sequences if plan.kind == "sequences" else _batch_of_events
    lanes: list[Lane] = []
    for step in range(start, stop):
        epoch, batch = divmod(step, plan.steps_per_epoch)
        if step == start or batch == 0:
            lanes = [
                Lane(pieces, (plan.seed, epoch, index), plan.lane_row(index, batch))
                for index, pieces in enumerate(plan.epoch_lanes(epoch))
            ]
        parts: list[Part] = []
        for index, lane in enumerate(lanes):
            parts += lane.read(plan.lane_row(index, batch + 1) - plan.lane_row(index, batch))
        yield batch_of(step, parts, rank, world_size)


def _batch_of_events(step: int, parts: list[Part], rank: int, world_size: int) -> LocalBatch:
    """Takes the rank's rows of the parts, each of which is an example."""
    items = np.concatenate([part.numbers("item") for part in parts])
    rows = _rows(parts, *rank_rows(len(items), rank, world_size), _NO_EVENTS)
    return LocalBatch(
        step=step,
        query=rows.numbers["query"],
        item=rows.numbers["item"],
        history=rows.lists["history"],
        weight=rows.numbers["weight"],
        global_items=items,
        context={
            name.removeprefix(CONTEXT): column
            for name, column in rows.lists.items()
            if name.startswith(CONTEXT)
        },
    )


def _batch_of_sequences(step: int, parts: list[Part], rank: int, world_size: int) -> LocalBatch:
    """Splits the examples evenly over ranks; two ranks may have some of the same sequence."""
    items = Jagged.concatenate([part.lists("items") for part in parts])
    first, last = rank_rows(len(items.values), rank, world_size)
    begin = int(np.searchsorted(items.offsets, first, side="right")) - 1
    end = int(np.searchsorted(items.offsets, last, side="left"))
    rows = _rows(parts, begin, end if first < last else begin, _NO_SEQUENCES)
    shift = items.offsets[begin]
    examples = slice(first - shift, last - shift)
    row = rows.lists["items"].row_of_value()[examples]
    seen = rows.lists["seen"].values[examples]
    history = rows.lists["history"]
    return LocalBatch(
        step=step,
        query=rows.numbers["query"][row],
        item=rows.lists["items"].values[examples],
        history=history,
        weight=rows.lists["weights"].values[examples].astype(np.float32, copy=False),
        global_items=items.values,
        reads=Reads(
            element=np.where(seen > 0, history.offsets[row] + seen - 1, -1),
            positions=np.arange(begin, begin + len(history)),
        ),
    )


_NO_INTS = np.zeros(0, np.int32)
_NO_FLOATS = np.zeros(0, np.float32)
_NO_BAGS = Jagged(_NO_INTS, np.zeros(1, np.int64))
_NO_EVENTS = Rows(
    numbers={"query": _NO_INTS, "item": _NO_INTS, "weight": _NO_FLOATS},
    lists={"history": _NO_BAGS},
)
_NO_SEQUENCES = Rows(
    numbers={"query": _NO_INTS},
    lists={
        "history": _NO_BAGS,
        "items": _NO_BAGS,
        "seen": _NO_BAGS,
        "weights": _NO_BAGS,
    },
)


def _rows(parts: list[Part], first: int, last: int, none: Rows) -> Rows:
    """Reads rows from first to last of the parts' concatenation; `none` where there are none."""
    pieces: list[Rows] = []
    begin = 0
    for part in parts:
        end = begin + len(part)
        if max(begin, first) < min(end, last):
            pieces.append(part.rows(max(begin, first) - begin, min(end, last) - begin))
        begin = end
    return Rows.concatenate(pieces) if pieces else none
