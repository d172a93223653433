"""From cleaned events to examples: duplicates, splits, history and shuffle, a bucket at a time.

A bucket holds all events of some queries. Everything here is a pure function of a query's events,
so that neither the files' partitioning nor the number of buckets shows in the result.
"""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from feature_store.columns import Column, Ints, Jagged, read_columns, to_arrow, write_columns
from feature_store.history import hash64
from pipelines.catalogue import load_ids
from pipelines.cleaning import DUPLICATE
from pipelines.histories import Events, example_history, query_state
from pipelines.prepared import EXAMPLE_SCHEMA, SPLITS, QueryState
from pipelines.scan import events_file
from pipelines.settings import DataConfig
from pipelines.splits import assign_splits
from pipelines.tasks import read_partitions, write_partitions

# Key of the shuffle's hash; it is part of what a configuration means.
_SHUFFLE = 1

_ROW_GROUP_ROWS = 32_768


@dataclass(frozen=True)
class Bucket:
    """A task: make the examples of all queries of a bucket.

    Attributes:
        index: Of the bucket.
        scans: The directory of `scan_events`.
        data: The configuration.
        vocabulary: The directory of the catalogues' ids.
        ranges: Into how many ranges of the shuffle's hash each split is cut.
        pieces: How many the events have.
        directory: For `examples-*`, `state-*`, `frequency-*` and `duplicates-*` of the bucket.
    """

    index: int
    scans: Path
    data: DataConfig
    vocabulary: Path
    ranges: int
    pieces: int
    directory: Path


@dataclass(frozen=True)
class Built:
    """What became of a bucket.

    Attributes:
        examples: [splits, ranges].
        duplicates: [pieces] rows dropped as such.
    """

    examples: Ints
    duplicates: Ints


def examples_file(directory: Path, bucket: int) -> Path:
    """The examples of a bucket, partitioned by split and range of the shuffle's hash."""
    return directory / f"examples-{bucket:05d}.arrow"


def build_bucket(task: Bucket) -> Built:
    """Makes the examples of a bucket."""
    scans = [events_file(task.scans, piece) for piece in range(task.pieces)]
    events, duplicates = _sorted_events(read_partitions(scans, [task.index]), task)
    data = task.data
    counts = np.zeros((len(SPLITS), task.ranges), np.int64)
    examples = _examples(events, data)
    place = examples["place"].to_numpy()
    ranges = ((place >> np.uint64(32)) * np.uint64(task.ranges) >> np.uint64(32)).astype(np.int64)
    partition = events.split * task.ranges + ranges
    np.add.at(counts.reshape(-1), partition, 1)
    name = f"{task.index:05d}"
    write_partitions(examples_file(task.directory, task.index), examples, partition, counts.size)
    _write_state(task.directory / f"state-{name}.arrow", *query_state(events, data.history))
    keys, n = np.unique(events.item * len(SPLITS) + events.split, return_counts=True)
    np.save(task.directory / f"frequency-{name}.npy", np.stack([keys, n]))
    if len(duplicates.row):
        reasons = pa.array([DUPLICATE]).take(pa.array(np.zeros(len(duplicates.row), np.int8)))
        table = pa.table({"row": pa.array(duplicates.row), "reason": reasons})
        path = task.directory / f"duplicates-{name}.arrow"
        write_partitions(path, table, duplicates.piece, task.pieces)
    return Built(counts, np.bincount(duplicates.piece, minlength=task.pieces))


@dataclass(frozen=True)
class _Rows:
    """Rows of events by the ranks of their ids, which are in code-point order; all [rows]."""

    query: Ints
    item: Ints
    time: Ints
    weight: npt.NDArray[np.float32]
    split: Ints
    piece: Ints
    row: Ints

    def take(self, rows: Ints) -> "_Rows":
        return _Rows(*(getattr(self, field.name)[rows] for field in fields(self)))


def _sorted_events(table: pa.Table, task: Bucket) -> tuple[Events, _Rows]:
    """A bucket's events, sorted and split, and its duplicates."""
    query, query_ids = _codes(table["query"])
    item, item_ids = _codes(table["item"])
    others = (table[name].to_numpy() for name in ("time", "weight", "split", "piece", "row"))
    rows, duplicates = _without_duplicates(_Rows(query, item, *others))
    split = assign_splits(
        task.data.split,
        query=rows.query,
        query_ids=query_ids,
        item=rows.item,
        item_ids=item_ids,
        time=rows.time,
        given=rows.split,
    )
    query = load_ids(task.vocabulary / "query_id.parquet").rows(query_ids)[rows.query]
    item = load_ids(task.vocabulary / "item_id.parquet").rows(item_ids)[rows.item]
    # Queries in the order of their ids need not be in the order of their indices.
    order = np.argsort(query, kind="stable")
    events = Events(
        query=query[order].astype(np.int64),
        item=item[order].astype(np.int64),
        time=rows.time[order],
        rank=np.unique(rows.time, return_inverse=True)[1][order],
        weight=rows.weight[order],
        split=split[order].astype(np.int64),
    )
    return events, duplicates


def _without_duplicates(rows: _Rows) -> tuple[_Rows, _Rows]:
    """Sorts by (query, time, item); of equal events the heaviest stays, and the rest is second."""
    keys = (rows.row, rows.piece, rows.split, -rows.weight, rows.item, rows.time, rows.query)
    order = np.lexsort(keys)
    rows = rows.take(order)
    repeats = np.zeros(len(order), bool)
    repeats[1:] = (
        (rows.query[1:] == rows.query[:-1])
        & (rows.time[1:] == rows.time[:-1])
        & (rows.item[1:] == rows.item[:-1])
    )
    return rows.take(np.flatnonzero(~repeats)), rows.take(np.flatnonzero(repeats))


def _examples(events: Events, data: DataConfig) -> pa.Table:
    """[events] with the columns of `EXAMPLE_SCHEMA` and `place`, the key of the shuffle."""
    history = example_history(events, data.history)
    has_time = data.columns.timestamp is not None
    time = pa.array(events.time) if has_time else pa.nulls(len(events), pa.int64())
    table = pa.table(
        {
            "query": pa.array(events.query, pa.int32()),
            "item": pa.array(events.item, pa.int32()),
            "history": to_arrow({"history": history})["history"],
            "timestamp": time.cast(pa.timestamp("us", "UTC")),
            "weight": pa.array(events.weight),
        }
    ).cast(EXAMPLE_SCHEMA)
    place = hash64(_SHUFFLE, events.query, events.item, events.time)
    return table.append_column("place", pa.array(place))


def _write_state(path: Path, queries: Ints, state: QueryState) -> None:
    columns: dict[str, Column] = {field.name: getattr(state, field.name) for field in fields(state)}
    columns["query"] = Jagged(queries, np.arange(len(queries) + 1))
    write_columns(path, columns)


def read_state(path: Path) -> dict[str, Jagged]:
    """The columns of a bucket's `QueryState`, and `query`: the index of each row."""
    columns = read_columns(path)
    return {name: column for name, column in columns.items() if isinstance(column, Jagged)}


def _codes(column: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """[rows] positions in the distinct values, and these in code-point order."""
    encoded = column.combine_chunks().dictionary_encode()
    order = pc.sort_indices(encoded.dictionary).to_numpy()
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return ranks[encoded.indices.to_numpy()], encoded.dictionary.take(pa.array(order))


@dataclass(frozen=True)
class Merge:
    """A task: gather a range of a split's examples from all buckets, in the order of their hash.

    Attributes:
        directory: Of `build_bucket`.
        buckets: How many.
        partitions: Consecutive ones.
        path: Of the part.
    """

    directory: Path
    buckets: int
    partitions: tuple[int, ...]
    path: Path


def merge_examples(task: Merge) -> None:
    """Writes a part of a split."""
    files = [examples_file(task.directory, bucket) for bucket in range(task.buckets)]
    table = read_partitions(files, task.partitions)
    order = np.argsort(table["place"].to_numpy(), kind="stable")
    table = table.take(pa.array(order)).select(EXAMPLE_SCHEMA.names).cast(EXAMPLE_SCHEMA)
    task.path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, task.path, compression="zstd", row_group_size=_ROW_GROUP_ROWS)
