"""Running a step's tasks as Ray Data tasks, and the shuffles between steps.

A shuffle goes through files, so that its size is bounded by the disk and not by memory: each task
of one step writes one file that is cut into partitions, and each task of the next step reads its
own partition of all of them.
"""

import pickle
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from feature_store.columns import Ints
from feature_store.errors import UserError
from pipelines.ray_session import ensure_ray

Task = TypeVar("Task")
Summary = TypeVar("Summary")

# Ray starts so many tasks at most; each then works through several of ours.
_MAX_BLOCKS = 2000


def run_tasks(
    function: Callable[[Task], Summary],
    tasks: Sequence[Task],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Summary]:
    """Applies `function` to each task in Ray's workers.

    Args:
        function: Of a module; what it returns should be small.
        tasks: Small, picklable values.
        progress: Is told how many of the tasks are done.

    Returns:
        What it returned, in the order of the tasks.

    Raises:
        UserError: The first that a task raised.
    """
    if not tasks:
        return []
    ensure_ray()
    import ray.data

    def run(row: dict[str, Any]) -> dict[str, Any]:
        try:
            result: Any = function(pickle.loads(row["task"]))
        except UserError as error:
            result = error
        return {"index": row["index"], "result": pickle.dumps(result)}

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    rows = [{"index": index, "task": pickle.dumps(task)} for index, task in enumerate(tasks)]
    dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MAX_BLOCKS))
    results: dict[int, Any] = {}
    for row in dataset.map(run).iter_rows():
        results[row["index"]] = pickle.loads(row["result"])
        progress(len(results), len(tasks))
    ordered = [results[index] for index in range(len(tasks))]
    for result in ordered:
        if isinstance(result, UserError):
            raise result
    return ordered


def write_partitions(path: Path, table: pa.Table, partition: Ints, count: int) -> None:
    """Writes an Arrow IPC file whose record batch i holds the rows of partition i.

    Args:
        path: Of the file.
        table: [rows].
        partition: [rows] from 0 to `count` - 1; rows of one keep their order.
        count: Number of partitions.
    """
    order = np.argsort(partition, kind="stable")
    table = table.take(pa.array(order)).combine_chunks()
    bounds = np.searchsorted(partition[order], np.arange(count + 1))
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        pa.OSFile(str(path), "wb") as sink,
        pa.ipc.new_file(sink, table.schema, options=options) as writer,
    ):
        for start, end in pairwise(bounds):
            batches = table.slice(start, end - start).to_batches()
            writer.write_batch(batches[0] if batches else _no_rows(table.schema))


def read_partitions(paths: Iterable[Path], partitions: Iterable[int]) -> pa.Table:
    """The rows of some partitions, in the order of the files and then of the partitions."""
    wanted = list(partitions)
    batches: list[pa.RecordBatch] = []
    for path in paths:
        with pa.memory_map(str(path)) as source:
            reader = pa.ipc.open_file(source)
            schema = reader.schema
            batches.extend(reader.get_batch(partition) for partition in wanted)
    return pa.Table.from_batches(batches, schema).combine_chunks()


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([pa.array([], field.type) for field in schema], schema)
