"""Partitions: how the tasks of one step hand rows to those of the next."""

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa

from feature_store.core.columns import Ints
from feature_store.core.files import write_atomically
from feature_store.core.sorting import stable_order

Partitioned = tuple[pa.Table, Ints]

# There are as many batches as tasks of both steps multiplied, so most are small: Arrow would hand
# the few buffers of each to its threads, and handing over takes longer than to (de)compress them.
_WRITING = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_READING = pa.ipc.IpcReadOptions(use_threads=False)


def write_partitions(path: Path, parts: Iterable[Partitioned], count: int) -> None:
    """Writes an Arrow IPC file that `read_partitions` reads, atomically.

    Each part becomes `count` record batches, of which batch i holds the part's rows of partition i.

    Args:
        path: Path of the file.
        parts: Tables, one or more, and the partition of each of their rows, from 0 to `count` - 1.
            Rows of one partition keep their order.
        count: Number of partitions.
    """
    write_atomically(path, partial(_write_partitions, parts=parts, count=count))


def _write_partitions(path: Path, parts: Iterable[Partitioned], count: int) -> None:
    writer: pa.RecordBatchFileWriter | None = None
    with pa.OSFile(str(path), "wb") as sink:
        for table, partition in parts:
            if writer is None:
                writer = pa.ipc.new_file(sink, table.schema, options=_WRITING)
                nothing = _no_rows(table.schema)
            order = stable_order(partition)
            ordered = table.take(pa.array(order)).combine_chunks()
            bounds = np.searchsorted(partition[order], np.arange(count + 1))
            for start, end in pairwise(bounds):
                batches = ordered.slice(start, end - start).to_batches()
                writer.write_batch(batches[0] if batches else nothing)
        assert writer is not None
        writer.close()


def read_partitions(path: Path, partitions: Sequence[int], count: int) -> list[pa.RecordBatch]:
    """Reads the rows of some partitions of a file, in the order of its parts, then of partitions.

    Args:
        path: File that `write_partitions` wrote.
        partitions: Numbers of the partitions, from 0 to `count` - 1.
        count: Number of partitions with which the file was written.

    Returns:
        One batch or more, so that there is a schema.
    """
    with pa.OSFile(str(path)) as source:
        reader = pa.ipc.open_file(source, options=_READING)
        return [
            reader.get_batch(part + partition)
            for part in range(0, reader.num_record_batches, count)
            for partition in partitions
        ]


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([pa.array([], field.type) for field in schema], schema)
