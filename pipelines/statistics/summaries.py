"""Summaries of a table's columns, computed piece by piece and merged.

    merge([summarise(piece) for piece in pieces]) == summarise(whole)

except for the top values of columns with many values (within their stated error) and the last
digits of the moments.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from feature_store.core.columns import Ints
from feature_store.core.hashing import hash_integers, hash_texts
from feature_store.kinds import ColumnFeature
from feature_store.schema import qualified
from pipelines.logs.columns import plain_type
from pipelines.settings import DataConfig
from pipelines.statistics.histograms import Numbers, Numeric, Periods, number_keys
from pipelines.statistics.sketches import Distinct, TopValues

# `tokens` are strings and booleans. The number of a vector is its norm. Only rows and nulls are
# counted of other types.
Kind = Literal["tokens", "numbers", "times", "vectors", "other"]

# Beyond this the squares of numbers overflow.
_LARGEST = 1e100
# Number of values that are probed for repetitions.
_PROBE = 8192
_ELEMENTS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class ColumnSummary:
    """The summary of a column.

    Attributes:
        type: Arrow type, in words.
        kind: Kind of the values, or of the elements of lists.
        is_list: Whether a row may hold several values.
        rows: Number of rows.
        nulls: Number of rows that are null.
        empty: Number of rows that are an empty list.
        values: Number of values that are not null; each element of a list counts.
        invalid: Number of values that the sketches leave out: NaN, infinite and huge numbers.
        distinct: Sketch of the distinct values, where values can be compared.
        top: Frequent values, where values repeat.
        numbers: Moments and quantiles of numbers, times and norms of vectors.
        periods: Counts of times by period.
    """

    type: str
    kind: Kind
    is_list: bool
    rows: int
    nulls: int
    empty: int = 0
    values: int = 0
    invalid: int = 0
    distinct: Distinct | None = None
    top: TopValues | None = None
    numbers: Numbers | None = None
    periods: Periods | None = None


@dataclass(frozen=True)
class Summary:
    """The summary of a table.

    Attributes:
        rows: Number of rows.
        columns: Summaries of the columns by name, in the table's order.
    """

    rows: int
    columns: dict[str, ColumnSummary]


def iso_time(microseconds: float) -> str:
    """Formats a time as `2024-05-06T07:08:09`; Python's own dates end with the year 9999."""
    moment = np.datetime64(int(microseconds), "us")
    return str(np.datetime_as_string(moment, unit="s"))


def summarise(table: pa.Table) -> Summary:
    """Sums up a table of any types, in time linear in it.

    Dictionary-encoded columns are the fastest. Ids that must leave no trace must not be in the
    table: frequent values are kept as they are.
    """
    columns = {name: summarise_column(table[name]) for name in table.column_names}
    return Summary(table.num_rows, columns)


def summarise_events(
    events: pa.Table, data: DataConfig, context: Sequence[ColumnFeature] = ()
) -> Summary:
    """Sums up cleaned events, under the log's own names.

    Args:
        events: Events of `clean_events`; `query` and `item` may be dictionary-encoded.
        data: Configuration of the log, with the names of its columns.
        context: Context features that are columns of the events.
    """
    columns = {data.columns.query_id: events["query"], data.columns.item_id: events["item"]}
    if data.columns.timestamp is not None:
        columns[data.columns.timestamp] = events["time"].cast(pa.timestamp("us", "UTC"))
    if data.columns.weight is not None or data.event_types is not None:
        columns["weight"] = events["weight"]
    for feature in context:
        columns.setdefault(feature.name, events[qualified("context", feature)])
    return summarise(pa.table(columns))


def merge(summaries: Sequence[Summary]) -> Summary:
    """Merges the summaries of pieces; their order does not matter."""
    names = dict.fromkeys(name for summary in summaries for name in summary.columns)
    columns = {
        name: merge_columns([s.columns[name] for s in summaries if name in s.columns])
        for name in names
    }
    return Summary(sum(summary.rows for summary in summaries), columns)


def summarise_column(column: pa.ChunkedArray | pa.Array) -> ColumnSummary:
    """Sums up a column."""
    if isinstance(column, pa.ChunkedArray):
        column = _joined(column)
    if isinstance(column, pa.ChunkedArray):
        return merge_columns([summarise_column(chunk) for chunk in column.chunks])
    column = _plain(column)
    name, rows = str(plain_type(column.type)).replace("element: ", ""), len(column)
    if not _is_list(column.type):
        values = rows - column.null_count
        fields = _sketches(column.drop_null()) if _kind(column.type) != "other" else {}
        return ColumnSummary(
            type=name,
            kind=_kind(column.type),
            is_list=False,
            rows=rows,
            nulls=column.null_count,
            values=values,
            **fields,
        )
    lengths = pc.list_value_length(column).drop_null().to_numpy()
    elements = _plain(pc.list_flatten(column))
    kind = _kind(elements.type)
    if kind == "numbers" and not _is_whole(elements.type):
        kind, fields = "vectors", _norms(elements, lengths)
    else:
        fields = _sketches(elements.drop_null()) if kind != "other" else {}
    return ColumnSummary(
        type=name,
        kind=kind,
        is_list=True,
        rows=rows,
        nulls=column.null_count,
        empty=int((lengths == 0).sum()),
        values=len(elements) - elements.null_count,
        **fields,
    )


def merge_columns(parts: Sequence[ColumnSummary]) -> ColumnSummary:
    """Merges the summaries of a column's pieces."""
    # A piece without values may have the type null, which is no type of the column.
    known = [part for part in parts if part.values] or list(parts)[:1]
    kinds = {part.kind for part in known}
    agree = len(kinds) == 1
    types = sorted({part.type for part in known})
    return ColumnSummary(
        type=" or ".join(types),
        kind=kinds.pop() if agree else "other",
        is_list=any(part.is_list for part in known),
        rows=sum(part.rows for part in parts),
        nulls=sum(part.nulls for part in parts),
        empty=sum(part.empty for part in parts),
        values=sum(part.values for part in parts),
        invalid=sum(part.invalid for part in parts),
        distinct=_merged(Distinct.merged, [p.distinct for p in known]) if agree else None,
        top=_merged(TopValues.merged, [p.top for p in known]) if agree else None,
        numbers=_merged(Numbers.merged, [p.numbers for p in known]) if agree else None,
        periods=_merged(Periods.merged, [p.periods for p in known]) if agree else None,
    )


Sketch = TypeVar("Sketch")


def _merged(
    merged: Callable[[Sequence[Sketch]], Sketch], parts: Sequence[Sketch | None]
) -> Sketch | None:
    some = [part for part in parts if part is not None]
    return merged(some) if some else None


def _joined(column: pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Joins the chunks, unless texts are too long or Arrow cannot join the type."""
    if column.num_chunks == 1:
        return column.chunk(0)
    try:
        return column.combine_chunks()
    except pa.ArrowException:
        return column


def _plain(array: pa.Array) -> pa.Array:
    """Converts an array to a type that Arrow computes with; strings stay dictionary-encoded."""
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_run_end_encoded(array.type):
        array = pc.run_end_decode(array)
    if pa.types.is_string_view(array.type):
        array = array.cast(pa.large_string())
    if pa.types.is_dictionary(array.type) and (
        array.dictionary.null_count or _kind(array.type.value_type) != "tokens"
    ):
        array = array.dictionary.take(array.indices)
    return array


def _is_list(kind: pa.DataType) -> bool:
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _is_whole(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind)


def _kind(kind: pa.DataType) -> Kind:
    types = pa.types
    if types.is_dictionary(kind):
        return _kind(kind.value_type)
    plain = plain_type(kind)
    if types.is_string(plain) or types.is_boolean(plain):
        return "tokens"
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        return "numbers"
    if types.is_timestamp(kind) or types.is_date(kind):
        return "times"
    return "other"


def _sketches(array: pa.Array) -> dict[str, Any]:
    """Builds the sketches of values without null."""
    if not len(array):
        return {}
    match _kind(array.type):
        case "tokens":
            return _of_tokens(array)
        case "times":
            return _of_times(array)
        case _:
            return _of_numbers(array)


def _of_tokens(array: pa.Array) -> dict[str, Any]:
    counts: Ints
    if pa.types.is_dictionary(array.type):
        occurrences = np.bincount(array.indices.to_numpy())
        used = np.flatnonzero(occurrences)
        values, counts = array.dictionary.take(pa.array(used)), occurrences[used]
    else:
        values, counts = _counted(array)
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.string())
    return {"distinct": Distinct.of(hash_texts(values)), "top": TopValues.of(values, counts)}


def _of_numbers(array: pa.Array) -> dict[str, Any]:
    if not _is_whole(array.type):
        array = array.cast(pa.float64(), safe=False)
    values, counts = _counted(array)
    numbers = values.cast(pa.float64(), safe=False).to_numpy()
    usable = np.isfinite(numbers) & (np.abs(numbers) <= _LARGEST)
    invalid = int(counts[~usable].sum())
    values, numbers, counts = values.filter(pa.array(usable)), numbers[usable], counts[usable]
    if not len(numbers):
        return {"invalid": invalid}
    keys = number_keys(numbers)
    bits = values.to_numpy().astype(np.int64) if _is_whole(array.type) else keys
    return {
        "invalid": invalid,
        "distinct": Distinct.of(hash_integers(bits.view(np.uint64))),
        "top": TopValues.of(values, counts),
        "numbers": Numbers.of(numbers, keys, counts),
    }


def _of_times(array: pa.Array) -> dict[str, Any]:
    times = array.cast(pa.timestamp("us", _zone(array.type)), safe=False).view(pa.int64())
    weights: Ints | None = None
    probe = times.slice(0, _PROBE)
    if len(pc.unique(probe)) < len(probe) / 2:  # To count times that hardly repeat would be slower.
        times, weights = _counted(times)
    keys = times.to_numpy()
    return {
        "distinct": Distinct.of(hash_integers(keys.view(np.uint64))),
        "numbers": Numbers.of(keys.astype(np.float64), keys, weights),
        "periods": Periods.of(keys, weights),
    }


def _zone(kind: pa.DataType) -> str | None:
    return kind.tz if pa.types.is_timestamp(kind) else None


def _counted(array: pa.Array) -> tuple[pa.Array, Ints]:
    counted = pc.value_counts(array)
    return counted.field("values"), counted.field("counts").to_numpy()


def _norms(elements: pa.Array, lengths: Ints) -> dict[str, Any]:
    """Sums up the norms of vectors but those with a null or an invalid element."""
    ends = np.cumsum(lengths)
    norms: list[Numeric] = []
    invalid = start = 0
    while start < len(lengths):
        before = int(ends[start] - lengths[start])
        limit = before + _ELEMENTS_AT_ONCE
        stop = max(start + 1, int(np.searchsorted(ends, limit, side="right")))
        part = elements.slice(before, int(ends[stop - 1]) - before)
        numbers = part.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        usable = np.isfinite(numbers) & (np.abs(numbers) <= _LARGEST)
        invalid += int((~usable).sum()) - part.null_count
        width = lengths[start:stop]
        squares = np.where(usable, numbers, np.nan) ** 2
        starts = (ends[start:stop] - width - before)[width > 0]
        norms.append(np.sqrt(np.add.reduceat(squares, starts)) if len(starts) else squares[:0])
        start = stop
    known = np.concatenate(norms) if norms else np.empty(0)
    known = known[~np.isnan(known)]
    return {"invalid": invalid, "numbers": Numbers.of(known, number_keys(known))}
