"""Training examples in sequences: those of a query that can share one history.

An example sees the first `seen` items of its sequence's history:

    events, in time     a  b  c  c'  d        c and c' at the same time
    history             a  b  c  c'
    items               a  b  c  c'  d
    seen                0  1  2  2   4

A history has `max_length` items at most. A longer query has several sequences, each of which begins
half a window after the one before; so all of their examples see at least half a window. An example
that would see its own item though it must not (`data.repeats: exclude`), or a repetition where
histories are distinct, is a sequence of its own.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from feature_store.core.columns import Ints, Jagged
from feature_store.core.hashing import hash64
from feature_store.core.sorting import stable_order
from feature_store.history import seen_before, windows
from pipelines.executor.shuffle import write_partitions
from pipelines.prepare.examples.histories import Events, example_history
from pipelines.prepare.examples.splits import TRAIN
from pipelines.prepared.examples import SEQUENCE_SCHEMA
from pipelines.settings import DataConfig, History, Repeats

# Seed of the shuffle's hash.
_SHUFFLE = 6


def sequences_file(directory: Path, bucket: int) -> Path:
    """Returns the file of a bucket's sequences, partitioned by range of the shuffle's hash."""
    return directory / f"sequences-{bucket:05d}.arrow"


def write_sequences(path: Path, events: Events, data: DataConfig, ranges: int) -> Ints:
    """Writes a bucket's sequences, and returns the number of sequences in each range."""
    table = training_sequences(events, data.history, data.repeats)
    high = table["key"].to_numpy() >> np.uint64(32)
    partition = (high * np.uint64(ranges) >> np.uint64(32)).astype(np.int64)
    write_partitions(path, [(table, partition)], ranges)
    return np.bincount(partition, minlength=ranges)


def training_sequences(events: Events, settings: History, repeats: Repeats = "exclude") -> pa.Table:
    """Returns the sequences with the columns of `SEQUENCE_SCHEMA` and `key`, the shuffle's.

    Args:
        events: Events of whole queries; those of training are used.
        settings: Settings of a history of kind `past`.
        repeats: Whether an example may see earlier events of its own item.
    """
    train = np.flatnonzero(events.split == TRAIN)
    query, time_rank, item = events.query[train], events.time_rank[train], events.item[train]
    first, end = seen_before(query, time_rank, query, time_rank)
    start = first + _window(end - first, settings.max_length)
    alone = np.zeros(len(train), bool)
    previous = _previous_of_item(query, item)
    if repeats == "exclude":
        alone |= previous >= start
    if settings.distinct:
        latest = np.concatenate([[-1], np.maximum.accumulate(previous)])
        alone |= latest[end] >= start
    shared = np.flatnonzero(~alone)
    sequence = _sequence(start[shared], settings.max_length)
    shared_sizes = np.bincount(sequence)
    closes = np.cumsum(shared_sizes) - 1
    begin = start[shared][closes]
    history = windows(begin, end[shared][closes] - begin)
    own = np.zeros(len(events), bool)
    own[train[alone]] = True
    history_of_own = example_history(events, own, settings, repeats)
    seen = np.concatenate([end[shared] - start[shared], history_of_own.lengths])
    example = np.concatenate([train[shared], train[alone]])
    sizes = np.concatenate([shared_sizes, np.ones(len(history_of_own), np.int64)])
    histories = Jagged.concatenate([Jagged(item[history.values], history.offsets), history_of_own])
    return _table(events, example, seen, sizes, histories)


def _table(events: Events, example: Ints, seen: Ints, sizes: Ints, histories: Jagged) -> pa.Table:
    """Builds the table of sequences from their examples, one after the other, and their sizes."""
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    first = example[offsets[:-1]]

    def lists(values: npt.NDArray[Any], offsets: Ints = offsets) -> pa.Array:
        return pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values))

    table = pa.table(
        {
            "query": pa.array(events.query[first]),
            "history": lists(histories.values, histories.offsets),
            "items": lists(events.item[example]),
            "seen": lists(seen),
            "weights": lists(events.weight[example]),
        }
    ).cast(SEQUENCE_SCHEMA)
    key = hash64(_SHUFFLE, events.query_key[first], events.item_key[first], events.time[first])
    return table.append_column("key", pa.array(key))


def _previous_of_item(query: Ints, item: Ints) -> Ints:
    """Returns the position of the query's previous event of the same item, -1 for none."""
    order = stable_order(query, item)
    is_same = (query[order[1:]] == query[order[:-1]]) & (item[order[1:]] == item[order[:-1]])
    previous = np.full(len(item), -1)
    previous[order[1:][is_same]] = order[:-1][is_same]
    return previous


def _window(seen: Ints, max_length: int) -> Ints:
    """Returns the number of an example's earlier events that its sequence's history leaves out."""
    stride = max(1, max_length // 2)
    return stride * np.maximum(0, -(-(seen - max_length) // stride))


def _sequence(start: Ints, max_length: int) -> Ints:
    """Numbers the sequence of each example: one window, and not more examples than a full one."""
    opens = np.flatnonzero(np.diff(start, prepend=-1))
    sizes = np.diff(np.append(opens, len(start)))
    position = np.arange(len(start)) - np.repeat(opens, sizes)
    is_first = position % (max_length + 1) == 0
    return np.cumsum(is_first) - 1
