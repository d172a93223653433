"""From cleaned events to examples: duplicates, splits, history and shuffle, a bucket at a time.

A bucket holds all events of some queries. Everything here is a pure function of a query's events,
so that neither the files' partitioning nor the number of buckets shows in the result.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Column, Ints, Jagged, to_arrow, write_columns
from feature_store.core.files import write_array, write_parquet
from feature_store.core.hashing import hash64, hash_strings
from feature_store.schema import FeatureSchema, qualified
from pipelines.executor.shuffle import Partitioned, read_partitions, write_partitions
from pipelines.prepare.bucket import (
    Rows,
    load_inventory,
    query_index,
    read_bucket,
    without_duplicates,
)
from pipelines.prepare.catalogue_features import load_encoder, load_ids
from pipelines.prepare.cleaning import DUPLICATE, UNKNOWN_ITEM
from pipelines.prepare.context import Context
from pipelines.prepare.histories import Events, example_history, query_state, questions
from pipelines.prepare.sequences import sequences_file, write_sequences
from pipelines.prepare.splits import TEST, TRAIN, assign_splits
from pipelines.prepared.query_state import QueryState
from pipelines.prepared.reader import EXAMPLE_SCHEMA, SPLITS, context_lists, example_schema
from pipelines.settings import DataConfig, has_sequences

# Keys of the shuffle's hash and the ids'; they are part of what a configuration means.
_SHUFFLE, _IDS, _LABELS = 1, 5, 7

_ROW_GROUP_ROWS = 16_384


@dataclass(frozen=True)
class Bucket:
    """A task: make the examples of all queries of a bucket.

    Attributes:
        index: Of the bucket.
        inventory: File of the `Inventory`, as JSON; too large to be sent with every task.
        data: The configuration.
        features: Of which the context is used.
        ranges: Into how many ranges of the shuffle's hash each split is cut.
        slice_rows: Examples that are made at a time, for histories are large.
        directory: For `examples-*`, `sequences-*`, `state-*`, `context-*`, `latest-*`,
            `frequency-*` and `rejected-*` of the bucket.
    """

    index: int
    inventory: Path
    data: DataConfig
    features: FeatureSchema
    ranges: int
    slice_rows: int
    directory: Path


@dataclass(frozen=True)
class Built:
    """What became of a bucket.

    Attributes:
        examples: By split and range, one split after the other.
        sequences: By range; none where examples cannot share a history.
        rejected: By reason, the rows of each piece that were put aside.
    """

    examples: list[int]
    sequences: list[int]
    rejected: dict[str, dict[int, int]]


def examples_file(directory: Path, bucket: int) -> Path:
    """The examples of a bucket, partitioned by split and range of the shuffle's hash."""
    return directory / f"examples-{bucket:05d}.arrow"


def build_bucket(task: Bucket) -> Built:
    """Makes the examples of a bucket."""
    inventory = load_inventory(task.inventory)
    bucket = read_bucket(inventory, task.index, task.features)
    rows, item_ids, query_ids = bucket.rows, bucket.item_ids, bucket.query_ids
    known = np.load(inventory.known)
    item_index = load_ids(inventory.items).rows(item_ids)
    is_known = (item_index >= 0) & known[item_index] if len(known) else item_index >= 0
    unknown = ~is_known[rows.item]
    kept, duplicates = without_duplicates(rows.take(np.flatnonzero(~unknown)))
    put_aside = {UNKNOWN_ITEM: rows.take(np.flatnonzero(unknown)), DUPLICATE: duplicates}
    indices = query_index(inventory, task.index, query_ids)
    events = _events(kept, task.data, item_ids, item_index, query_ids, indices)
    document = task.features.model_dump_json()
    context = Context(load_encoder(inventory.vocabulary, document, "context"), bucket.context)
    counts = np.zeros(len(SPLITS) * task.ranges, np.int64)

    def slices() -> Iterator[Partitioned]:
        for index, encoded in enumerate(context.of_events(events, task.slice_rows)):
            chosen = slice(index * task.slice_rows, (index + 1) * task.slice_rows)
            examples = _examples(events, chosen, task.data)
            for feature in task.features.context:
                lists = context_lists(encoded[feature.name])
                examples = examples.append_column(qualified("context", feature), lists)
            place = examples["place"].to_numpy() >> np.uint64(32)
            ranges = (place * np.uint64(task.ranges) >> np.uint64(32)).astype(np.int64)
            partition = events.split[chosen] * task.ranges + ranges
            np.add.at(counts, partition, 1)
            yield examples, partition

    write_partitions(examples_file(task.directory, task.index), slices(), len(counts))
    sequences: list[int] = []
    if has_sequences(task.data, task.features):
        path = sequences_file(task.directory, task.index)
        sequences = write_sequences(path, events, task.data, task.ranges)
    name = f"{task.index:05d}"
    _write_state(task.directory / f"state-{name}.arrow", *query_state(events, task.data.history))
    _write_context(task, events, context)
    keys, n = np.unique(events.item * len(SPLITS) + events.split, return_counts=True)
    write_array(task.directory / f"frequency-{name}.npy", np.stack([keys, n]))
    rejected = _write_rejected(task, put_aside, len(inventory.scans))
    return Built(counts.tolist(), sequences, rejected)


def _write_rejected(
    task: Bucket, put_aside: dict[str, Rows], pieces: int
) -> dict[str, dict[int, int]]:
    rejected: dict[str, dict[int, int]] = {}
    parts: list[Partitioned] = []
    for reason, rows in put_aside.items():
        if not len(rows.row):
            continue
        piece, n = np.unique(rows.piece, return_counts=True)
        rejected[reason] = dict(zip(piece.tolist(), n.tolist(), strict=True))
        table = pa.table({"row": pa.array(rows.row), "reason": [reason] * len(rows.row)})
        parts.append((table, rows.piece))
    if parts:
        write_partitions(task.directory / f"rejected-{task.index:05d}.arrow", parts, pieces)
    return rejected


def _events(
    rows: Rows,
    data: DataConfig,
    item_ids: pa.Array,
    item_index: Ints,
    query_ids: pa.Array,
    query_index: Ints,
) -> Events:
    """The events of sorted rows, split, in the order of the queries' indices.

    Args:
        rows: Sorted by (query, time, item).
        data: Its split and its fraction of labels are used.
        item_ids: In code-point order.
        item_index: Of each of them.
        query_ids: In code-point order.
        query_index: Of each of them.
    """
    split = assign_splits(
        data.split,
        query=rows.query,
        query_ids=query_ids,
        item=rows.item,
        item_ids=item_ids,
        time=rows.time,
        given=rows.split,
    )
    query = query_index[rows.query]
    query_key = hash_strings(_IDS, query_ids)[rows.query]
    item_key = hash_strings(_IDS, item_ids)[rows.item]
    is_label = np.ones(len(query), bool)
    if data.label_fraction < 1:
        share = hash64(_LABELS, query_key, item_key) / np.float64(2**64)
        is_label = (split != TRAIN) | (share < data.label_fraction)
    # Queries in the order of their ids need not be in the order of their indices.
    order = np.argsort(query, kind="stable")
    order = order[is_label[order]]
    rows = rows.take(order)
    return Events(
        query=query[order].astype(np.int64),
        item=item_index[rows.item].astype(np.int64),
        time=rows.time,
        rank=np.unique(rows.time, return_inverse=True)[1],
        weight=rows.weight,
        split=split[order].astype(np.int64),
        query_key=query_key[order],
        item_key=item_key[order],
        place=rows.place,
    )


def _examples(events: Events, rows: slice, data: DataConfig) -> pa.Table:
    """[rows] with the columns of `EXAMPLE_SCHEMA` and `place`, the key of the shuffle."""
    query, item, time = events.query[rows], events.item[rows], events.time[rows]
    history = example_history(events, rows, data.history)
    has_time = data.columns.timestamp is not None
    times = pa.array(time) if has_time else pa.nulls(len(time), pa.int64())
    table = pa.table(
        {
            "query": pa.array(query, pa.int32()),
            "item": pa.array(item, pa.int32()),
            "history": to_arrow({"history": history})["history"],
            "timestamp": times.cast(pa.timestamp("us", "UTC")),
            "weight": pa.array(events.weight[rows]),
        }
    ).cast(EXAMPLE_SCHEMA)
    place = hash64(_SHUFFLE, events.query_key[rows], events.item_key[rows], time)
    return table.append_column("place", pa.array(place))


def _write_state(path: Path, queries: Ints, state: QueryState) -> None:
    columns: dict[str, Column] = {field.name: getattr(state, field.name) for field in fields(state)}
    columns["query"] = Jagged(queries, np.arange(len(queries) + 1))
    write_columns(path, columns)


def _write_context(task: Bucket, events: Events, context: Context) -> None:
    """`context-<split>-*`, and `latest-*`: of each query its index and its latest event's time."""
    if not task.features.context:
        return
    queries = np.unique(events.query)
    for split, encoded in context.of_questions(events).items():
        columns = {qualified("context", f): encoded[f.name] for f in task.features.context}
        columns["query"] = Jagged(queries, np.arange(len(queries) + 1))
        write_columns(task.directory / f"context-{split}-{task.index:05d}.arrow", columns)
    if context.shows_recency:
        latest = np.stack([queries, questions(events, TEST).previous])
        write_array(task.directory / f"latest-{task.index:05d}.npy", latest)


@dataclass(frozen=True)
class Merge:
    """A task: gather a range of a split's examples from all buckets, in the order of their hash.

    Attributes:
        directory: Of `build_bucket`.
        features: Of which the context is used.
        buckets: How many.
        partitions: Consecutive ones.
        count: Partitions of each bucket.
        path: Of the part.
    """

    directory: Path
    features: FeatureSchema
    buckets: int
    partitions: tuple[int, ...]
    count: int
    path: Path


def merge_examples(task: Merge) -> None:
    """Writes a part of a split."""
    batches: list[pa.RecordBatch] = []
    for bucket in range(task.buckets):
        path = examples_file(task.directory, bucket)
        batches.extend(read_partitions(path, task.partitions, task.count))
    table = pa.Table.from_batches(batches).combine_chunks()
    order = np.argsort(table["place"].to_numpy(), kind="stable")
    schema = example_schema(task.features)
    table = table.take(pa.array(order)).select(schema.names).cast(schema)
    write_parquet(task.path, table, row_group_size=_ROW_GROUP_ROWS)
