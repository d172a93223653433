"""Checks of single rows: the reason why an event is rejected, and the columns of kept events."""

from collections import Counter
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.calendar.reading import is_number_type
from feature_store.core.arrow import plain_array, token_strings
from feature_store.core.columns import Bools
from feature_store.core.times import microseconds
from feature_store.encoding.context import raw_values
from feature_store.forgotten import FORGOTTEN
from feature_store.kinds import ColumnFeature
from feature_store.schema import Side, qualified
from pipelines.logs.clock import Clock
from pipelines.logs.left_out import LOW_RATING, OTHER_TYPE
from pipelines.prepare.cleaning.ids import Ids
from pipelines.prepared.examples import SPLITS
from pipelines.settings import DataConfig, GivenSplit

NULL_ID = "null id"
INVALID_ID = "invalid id"
REPEATED_ID = "repeated id"
DUPLICATE = "duplicate"
FUTURE = "future timestamp"
UNKNOWN_ITEM = "unknown item"
INVALID_WEIGHT = "invalid weight"


class Rejections:
    """The first reason against each row of a table.

    Args:
        rows: Number of rows of the table.
    """

    def __init__(self, rows: int) -> None:
        self.reasons: list[str] = []
        self._code = np.full(rows, -1, np.int16)

    def reject(self, where: Any, reason: str) -> None:
        """Rejects the rows where a mask (Arrow or NumPy, null counts as false) is true."""
        if isinstance(where, pa.Array | pa.ChunkedArray):
            where = pc.fill_null(where, False).to_numpy(zero_copy_only=False)
        self._code[where & (self._code < 0)] = len(self.reasons)
        self.reasons.append(reason)

    @property
    def kept(self) -> Bools:
        """Rows without a reason against them, [rows]."""
        return self._code < 0

    def counts(self) -> dict[str, int]:
        """Counts the rejected rows by reason, without zeros."""
        counts = np.bincount(self._code[self._code >= 0], minlength=len(self.reasons))
        total: Counter[str] = Counter()  # A reason may be given twice.
        for reason, n in zip(self.reasons, counts, strict=True):
            total[reason] += int(n)
        return {reason: n for reason, n in total.items() if n}

    def table(self) -> pa.Table:
        """Returns the rejected rows but the forgotten ones, as columns row (int32) and reason."""
        is_kept = self._code >= 0
        if FORGOTTEN in self.reasons:
            is_kept &= self._code != self.reasons.index(FORGOTTEN)
        rows = np.flatnonzero(is_kept).astype(np.int32)
        reasons = pa.array(self.reasons, pa.string()).take(pa.array(self._code[rows]))
        return pa.table({"row": pa.array(rows), "reason": reasons})


def event_columns(data: DataConfig, context: tuple[ColumnFeature, ...] = ()) -> list[str]:
    """Returns the columns of the events that the configuration uses, each once."""
    names = [data.columns.query_id, data.columns.item_id, data.columns.timestamp]
    names += [data.columns.rating, data.columns.weight, data.columns.event_type]
    if isinstance(data.split, GivenSplit):
        names.append(data.split.column)
    names += [feature.name for feature in context]
    return list(dict.fromkeys(name for name in names if name is not None))


def clean_events(
    raw: pa.Table,
    ids: dict[Side, Ids],
    data: DataConfig,
    clock: Clock,
    as_of: datetime,
    forgotten: Bools,
    context: tuple[ColumnFeature, ...] = (),
) -> tuple[pa.Table, Rejections, int | None]:
    """Checks each event on its own.

    Args:
        raw: Columns that `event_columns` lists.
        ids: Ids by side.
        data: Configuration of the columns.
        clock: Reading of the times.
        as_of: Time after which events are rejected as future ones.
        forgotten: Rows that are dropped without a trace, [rows].
        context: Features of the events.

    Returns:
        The events that stay, with columns query and item (string ids), time (int64 microseconds, 0
        where the log has no time), weight (float32), split (int8 index into `SPLITS`, -1 where it
        is not given), the context's `raw_values` as `context.<feature>`, and row (int32, of `raw`);
        the reasons against the others; and the time of the earliest future event.
    """
    columns = data.columns
    rejections = Rejections(raw.num_rows)
    rejections.reject(forgotten, FORGOTTEN)
    sides: tuple[Side, ...] = ("query", "item")
    for side in sides:
        rejections.reject(ids[side].missing, f"null {side} id")
        rejections.reject(ids[side].strings.is_null(), f"invalid {side} id")
    time = _times(raw, data.columns.timestamp, clock, rejections)
    if data.min_rating is not None:
        rating = _numbers(raw[columns.rating])
        rejections.reject(np.isnan(rating), "null rating")
        rejections.reject(np.isinf(rating), "invalid rating")
        rejections.reject(rating < data.min_rating, LOW_RATING)
    weight = np.ones(raw.num_rows, np.float64)
    if columns.weight is not None:
        weight = _numbers(raw[columns.weight])
        rejections.reject(~(np.isfinite(weight) & (weight >= 0)), INVALID_WEIGHT)
    if data.event_types is not None:
        types = pa.array(data.event_types, pa.string())
        kind = pc.index_in(token_strings(raw[columns.event_type]), value_set=types)
        rejections.reject(kind.is_null(), OTHER_TYPE)
        weight_of_type = np.array(list(data.event_types.values()))
        weight = weight * weight_of_type[pc.fill_null(kind, 0).to_numpy()]
    with np.errstate(over="ignore"):
        single = weight.astype(np.float32)
    rejections.reject(np.isinf(single), INVALID_WEIGHT)
    split = np.full(raw.num_rows, -1, np.int8)
    if isinstance(data.split, GivenSplit):
        given = pc.index_in(token_strings(raw[data.split.column]), value_set=pa.array(SPLITS))
        split = pc.fill_null(given, -1).to_numpy().astype(np.int8)
        rejections.reject(split < 0, "unknown split")
    # Last, so that the other reasons do not depend on the moment.
    is_future = rejections.kept & (time.to_numpy() > microseconds(as_of))
    rejections.reject(is_future, FUTURE)
    earliest = int(time.to_numpy()[is_future].min()) if is_future.any() else None
    events = pa.table(
        {
            **{side: ids[side].strings for side in sides},
            "time": time,
            "weight": pa.array(single),
            "split": pa.array(split),
            **{qualified("context", f): raw_values(f, raw[f.name]) for f in context},
            "row": pa.array(np.arange(raw.num_rows, dtype=np.int32)),
        }
    )
    if not rejections.kept.all():
        events = events.take(pa.array(np.flatnonzero(rejections.kept)))
    return events, rejections, earliest


def _times(raw: pa.Table, name: str | None, clock: Clock, rejections: Rejections) -> pa.Array:
    if name is None:
        return pa.array(np.zeros(raw.num_rows, np.int64))
    column = plain_array(raw[name])
    is_text = pa.types.is_binary(column.type) or pa.types.is_null(column.type)
    if is_text or (clock.unit is None and is_number_type(column.type)):
        column = token_strings(column)  # The times of other files are text.
    time = clock.read(column)
    rejections.reject(column.is_null(), "null timestamp")
    rejections.reject(time.is_null(), "invalid timestamp")
    return pc.fill_null(time, 0)


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    numbers = pc.cast(column, pa.float64(), safe=False)
    return pc.fill_null(numbers, np.nan).to_numpy()
