"""Examples of the kept events: duplicates, splits and histories, a bucket at a time.

A bucket holds all events of some queries. Everything here is a pure function of a query's events,
so the result depends neither on how events lie in files nor on the number of buckets.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from feature_store.core.columns import Column, Ints, Jagged, to_arrow, write_columns
from feature_store.core.files import write_array, write_text
from feature_store.core.hashing import crc32, hash64
from feature_store.encoding.vocabulary import Vocabulary
from feature_store.schema import FeatureSchema, qualified
from pipelines.executor.shuffle import Partitioned, write_partitions
from pipelines.prepare.catalogue.encoders import load_encoder
from pipelines.prepare.catalogue.ids import current_file
from pipelines.prepare.catalogue.item_index import write_item_index
from pipelines.prepare.cleaning.cleaning import DUPLICATE, UNKNOWN_ITEM
from pipelines.prepare.examples.bucket import (
    BucketRows,
    Inventory,
    Rows,
    load_inventory,
    read_bucket,
    without_duplicates,
)
from pipelines.prepare.examples.context import Context
from pipelines.prepare.examples.histories import Events, example_history, query_state, requests
from pipelines.prepare.examples.sequences import sequences_file, write_sequences
from pipelines.prepare.examples.splits import TEST, TRAIN, assign_splits
from pipelines.prepare.job import Run, count_of
from pipelines.prepare.scan import Scans
from pipelines.prepared.examples import EXAMPLE_SCHEMA, SPLITS, context_lists
from pipelines.prepared.query_state import QueryState
from pipelines.settings import DataConfig, has_sequences

# Seeds of the hashes: with others the same configuration would give other examples.
_SHUFFLE, _LABELS = 1, 7
# Reasons against events that are known only here.
_REASONS = (UNKNOWN_ITEM, DUPLICATE)


@dataclass(frozen=True)
class BuildBucket:
    """A task: make the examples of all queries of a bucket.

    Attributes:
        index: Number of the bucket.
        inventory: JSON file of the `Inventory`, which is too large to be sent with every task.
        data: The configuration.
        features: Schema whose context the examples have.
        holds_out: Whether events are held out; otherwise all are training events.
        ranges: Number of ranges of the shuffle's hash into which each split is cut.
        slice_rows: Number of examples made at a time, because histories are large.
        directory: Folder for `examples-*`, `sequences-*`, `state-*`, `context-*`, `latest-*`,
            `frequency-*`, `rejected-*` and `counts-*` of the bucket.
    """

    index: int
    inventory: Path
    data: DataConfig
    features: FeatureSchema
    holds_out: bool
    ranges: int
    slice_rows: int
    directory: Path


@dataclass(frozen=True)
class Examples:
    """The examples of all buckets.

    Attributes:
        buckets: Number of buckets.
        counts: [splits, ranges] number of examples.
        sequences: [ranges] number of sequences of training examples; 0 where there are none.
        weightless: Number of training examples whose weight is 0.
        rejected: Number of rejected rows of each piece, [pieces], by reason.
    """

    buckets: int
    counts: Ints
    sequences: Ints
    weightless: int
    rejected: dict[str, Ints]


def examples_file(directory: Path, bucket: int) -> Path:
    """Returns the file of a bucket's examples, partitioned by split and range of the hash."""
    return directory / f"examples-{bucket:05d}.arrow"


def counts_file(directory: Path, bucket: int) -> Path:
    """Returns the NumPy file of what a bucket counts; what all buckets count is their sum."""
    return directory / f"counts-{bucket:05d}.npy"


def build_examples(run: Run, scans: Scans, items: Vocabulary, queries: Vocabulary) -> Examples:
    """Splits the events and attaches their histories, bucket by bucket."""
    run.job.progress.begin(f"building examples in {count_of(scans.buckets, 'part')}")
    folder = run.folder("examples")
    inventory = folder / "inventory.json"
    _write_inventory(run, scans, items, queries, inventory)
    rows = run.job.rows_of_task
    # Buckets are about as large, and a little more is not worth a slice of its own.
    slice_rows = rows + rows // 4
    ranges = max(1, -(-run.job.sources.events.rows // rows))
    tasks = [
        BuildBucket(
            index,
            inventory,
            run.job.data,
            run.job.features,
            run.job.holds_out,
            ranges,
            slice_rows,
            folder,
        )
        for index in range(scans.buckets)
    ]
    run.tasks("examples", build_bucket, tasks)
    total = sum(np.load(counts_file(folder, index)) for index in range(scans.buckets))
    sizes = len(SPLITS) * ranges, ranges, len(_REASONS) * len(scans.tasks)
    counts, sequences, rejected, weightless = np.split(total, np.cumsum(sizes))
    by_reason = zip(_REASONS, np.split(rejected, len(_REASONS)), strict=True)
    return Examples(
        scans.buckets,
        counts.reshape(len(SPLITS), ranges),
        sequences,
        int(weightless[0]),
        {reason: by_piece for reason, by_piece in by_reason if by_piece.any()},
    )


def _write_inventory(
    run: Run, scans: Scans, items: Vocabulary, queries: Vocabulary, path: Path
) -> None:
    """Writes what all buckets' tasks read: the inventory, and the indices of items and queries."""
    inventory = Inventory(
        scans=tuple(task.events for task in scans.tasks),
        buckets=scans.buckets,
        items=run.directory / "vocabulary" / "item_id.parquet",
        current=current_file(run.folder("item")),
        item_index=run.folder("item"),
        queries=run.folder("examples") / "queries.arrow",
        vocabulary=run.directory / "vocabulary",
    )
    write_item_index(inventory.item_index, items)
    indices = pa.table({"id": queries.tokens, "index": pa.array(np.arange(len(queries)))})
    indices = indices.filter(pa.array(queries.tokens.is_valid()))
    bucket_of = crc32(indices["id"].combine_chunks()) % scans.buckets
    write_partitions(inventory.queries, [(indices, bucket_of)], scans.buckets)
    write_text(path, TypeAdapter(Inventory).dump_json(inventory).decode())


def build_bucket(task: BuildBucket) -> None:
    """Makes the examples of a bucket."""
    inventory = load_inventory(task.inventory)
    bucket = read_bucket(inventory, task.index, task.features)
    unknown = bucket.items.index[bucket.rows.item] < 0
    known = bucket.rows.take(np.flatnonzero(~unknown))
    kept, duplicates = without_duplicates(known, bucket.context)
    strangers = bucket.rows.take(np.flatnonzero(unknown))
    split: Ints = np.full(len(kept), TRAIN, np.int8)
    if task.holds_out:
        split = assign_splits(
            task.data.split,
            query=kept.query,
            query_ids=bucket.queries.ids,
            item=kept.item,
            item_ids=bucket.items.ids,
            time=kept.time,
            given=kept.split,
        )
    events = _events(kept, split, task.data, bucket)
    document = task.features.model_dump_json()
    encoder = load_encoder(inventory.vocabulary, document, "context")
    context = Context(encoder, bucket.context, task.data.repeats)
    counts = np.zeros(len(SPLITS) * task.ranges, np.int64)

    def slices() -> Iterator[Partitioned]:
        for index, encoded in enumerate(context.of_events(events, task.slice_rows)):
            chosen = slice(index * task.slice_rows, (index + 1) * task.slice_rows)
            examples = _examples(events, chosen, task.data)
            for feature in task.features.context:
                lists = context_lists(encoded[feature.name])
                examples = examples.append_column(qualified("context", feature), lists)
            high = examples["key"].to_numpy() >> np.uint64(32)
            ranges = (high * np.uint64(task.ranges) >> np.uint64(32)).astype(np.int64)
            partition = events.split[chosen] * task.ranges + ranges
            np.add(counts, np.bincount(partition, minlength=len(counts)), out=counts)
            yield examples, partition

    write_partitions(examples_file(task.directory, task.index), slices(), len(counts))
    sequences: Ints = np.zeros(task.ranges, np.int64)
    if has_sequences(task.data, task.features):
        path = sequences_file(task.directory, task.index)
        sequences = write_sequences(path, events, task.data, task.ranges)
    name = f"{task.index:05d}"
    state = query_state(events, task.data.history, task.data.repeats)
    _write_state(task.directory / f"state-{name}.arrow", *state)
    _write_context(task, events, context)
    keys, n = np.unique(events.item * len(SPLITS) + events.split, return_counts=True)
    write_array(task.directory / f"frequency-{name}.npy", np.stack([keys, n]))
    rejected = _write_rejected(task, (strangers, duplicates), len(inventory.scans))
    weightless = np.count_nonzero((events.split == TRAIN) & (events.weight == 0))
    parts = counts, sequences, rejected, np.array([weightless])
    write_array(counts_file(task.directory, task.index), np.concatenate(parts))


def _write_rejected(task: BuildBucket, rejected: tuple[Rows, ...], pieces: int) -> Ints:
    """Writes rejected rows by piece.

    Args:
        task: The task.
        rejected: Rows of each of `_REASONS`.
        pieces: Number of pieces of the events.

    Returns:
        Number of rows of each piece, one reason after the other.
    """
    parts: list[Partitioned] = []
    for reason, rows in zip(_REASONS, rejected, strict=True):
        if not len(rows):
            continue
        table = pa.table({"row": pa.array(rows.row), "reason": [reason] * len(rows.row)})
        parts.append((table, rows.piece))
    if parts:
        write_partitions(task.directory / f"rejected-{task.index:05d}.arrow", parts, pieces)
    return np.concatenate([np.bincount(rows.piece, minlength=pieces) for rows in rejected])


def _events(rows: Rows, split: Ints, data: DataConfig, bucket: BucketRows) -> Events:
    """Returns the events of sorted rows.

    Args:
        rows: Rows sorted by (query, time, item).
        split: Split of each row, [rows].
        data: The configuration; its fraction of labels is used.
        bucket: Bucket that they are of.
    """
    items, queries = bucket.items, bucket.queries
    if data.label_fraction < 1:
        keys = queries.keys[rows.query], items.keys[rows.item]
        uniform = hash64(_LABELS, *keys) / np.float64(2**64)
        is_label = (split != TRAIN) | (uniform < data.label_fraction)
        rows, split = rows.take(np.flatnonzero(is_label)), split[is_label]
    return Events(
        query=queries.index[rows.query].astype(np.int64),
        item=items.index[rows.item],
        time=rows.time,
        time_rank=np.unique(rows.time, return_inverse=True)[1],
        weight=rows.weight,
        split=split.astype(np.int64),
        query_key=queries.keys[rows.query],
        item_key=items.keys[rows.item],
        context_row=rows.position,
    )


def _examples(events: Events, rows: slice, data: DataConfig) -> pa.Table:
    """Returns the rows' examples: the columns of `EXAMPLE_SCHEMA`, and `key`, the shuffle's."""
    query, item, time = events.query[rows], events.item[rows], events.time[rows]
    history = example_history(events, rows, data.history, data.repeats)
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
    key = hash64(_SHUFFLE, events.query_key[rows], events.item_key[rows], time)
    return table.append_column("key", pa.array(key))


def _write_state(path: Path, queries: Ints, state: QueryState) -> None:
    columns: dict[str, Column] = {field.name: getattr(state, field.name) for field in fields(state)}
    columns["query"] = Jagged(queries, np.arange(len(queries) + 1))
    write_columns(path, columns)


def _write_context(task: BuildBucket, events: Events, context: Context) -> None:
    """Writes `context-<split>-*`, and `latest-*`: each query's index and latest event's time."""
    if not task.features.context:
        return
    queries = np.unique(events.query)
    for split, encoded in context.of_requests(events).items():
        columns = {qualified("context", f): encoded[f.name] for f in task.features.context}
        columns["query"] = Jagged(queries, np.arange(len(queries) + 1))
        write_columns(task.directory / f"context-{split}-{task.index:05d}.arrow", columns)
    if context.has_recency:
        latest = np.stack([queries, requests(events, TEST, task.data.repeats).previous])
        write_array(task.directory / f"latest-{task.index:05d}.npy", latest)
