"""Running a step's tasks as Ray Data tasks, and the shuffles between steps.

A shuffle goes through files, so that its size is bounded by the disk and not by memory: each task
of one step writes one file that is cut into partitions, and each task of the next step reads its
own partition of all of them.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np
import pyarrow as pa
from pydantic import TypeAdapter

from feature_store.core.columns import Ints
from feature_store.core.errors import UserError
from feature_store.core.files import write_atomically
from pipelines.executor.session import ensure_ray

Task = TypeVar("Task")
Summary = TypeVar("Summary")

# Ray starts so many tasks at most; each then works through several of ours.
_MAX_BLOCKS = 2000


def run_tasks(
    function: Callable[[Task], Summary],
    tasks: Sequence[Task],
    progress: Callable[[int, int], None] = lambda done, total: None,
    summaries: Sequence[Path] | None = None,
) -> list[Summary]:
    """Applies `function` to each task in Ray's workers.

    Args:
        function: Of a module, with a return annotation; what it returns should be small.
        tasks: Small, picklable values.
        progress: Is told how many of the tasks are done.
        summaries: For each task a JSON file of what it returned, written when all that the task
            wrote is in its place. A task whose file is there is not run again.

    Returns:
        What it returned, in the order of the tasks.

    Raises:
        UserError: The first that a task raised.
    """
    results: dict[int, Summary] = {}
    if summaries is not None:
        adapter = _adapter(function)
        for index, path in enumerate(summaries):
            if path.exists():
                results[index] = adapter.validate_json(path.read_bytes())
    missing = [index for index in range(len(tasks)) if index not in results]
    for index, result in _run(function, tasks, missing, summaries):
        results[index] = result
        progress(len(results), len(tasks))
    ordered = [results[index] for index in range(len(tasks))]
    for result in ordered:
        if isinstance(result, UserError):
            raise result
    return ordered


def _run(
    function: Callable[[Task], Summary],
    tasks: Sequence[Task],
    indices: list[int],
    summaries: Sequence[Path] | None,
) -> Iterator[tuple[int, Any]]:
    """The results of some tasks, or their errors, as they come."""
    if not indices:
        return
    ensure_ray()
    import ray.data

    def run(row: dict[str, Any]) -> dict[str, Any]:
        task, path = pickle.loads(row["task"])
        try:
            result: Any = function(task)
            if path is not None:
                _write_summary(function, path, result)
        except UserError as error:
            result = error
        return {"index": row["index"], "result": pickle.dumps(result)}

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    rows = [
        {
            "index": index,
            "task": pickle.dumps((tasks[index], summaries[index] if summaries else None)),
        }
        for index in indices
    ]
    dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MAX_BLOCKS))
    for row in dataset.map(run).iter_rows():
        yield row["index"], pickle.loads(row["result"])


def _write_summary(function: Callable[..., Any], path: Path, summary: Any) -> None:
    content = _adapter(function).dump_json(summary)
    write_atomically(path, lambda temporary: _write_bytes(temporary, content))


def _write_bytes(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _adapter(function: Callable[..., Any]) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(function)["return"])


Partitioned = tuple[pa.Table, Ints]


def write_partitions(path: Path, parts: Iterable[Partitioned], count: int) -> None:
    """Writes an Arrow IPC file that `read_partitions` reads, atomically.

    Each part becomes `count` record batches, of which batch i holds the part's rows of partition i.

    Args:
        path: Of the file.
        parts: At least one table, [rows], and the partition of each of its rows, from 0 to `count`
            - 1. Rows of one partition keep their order.
        count: Number of partitions.
    """
    write_atomically(path, partial(_write_partitions, parts=parts, count=count))


def _write_partitions(path: Path, parts: Iterable[Partitioned], count: int) -> None:
    options = pa.ipc.IpcWriteOptions(compression="lz4")
    writer: pa.RecordBatchFileWriter | None = None
    with pa.OSFile(str(path), "wb") as sink:
        for table, partition in parts:
            if writer is None:
                writer = pa.ipc.new_file(sink, table.schema, options=options)
            order = np.argsort(partition, kind="stable")
            ordered = table.take(pa.array(order)).combine_chunks()
            bounds = np.searchsorted(partition[order], np.arange(count + 1))
            for start, end in pairwise(bounds):
                batches = ordered.slice(start, end - start).to_batches()
                writer.write_batch(batches[0] if batches else _no_rows(table.schema))
        assert writer is not None
        writer.close()


def read_partitions(path: Path, partitions: Sequence[int], count: int) -> list[pa.RecordBatch]:
    """The rows of some partitions of a file, in the order of its parts and then of the partitions.

    Args:
        path: Of `write_partitions`.
        partitions: From 0 to `count` - 1.
        count: As it was written.

    Returns:
        At least one batch, so that there is a schema.
    """
    with pa.memory_map(str(path)) as source:
        reader = pa.ipc.open_file(source)
        return [
            reader.get_batch(part + partition)
            for part in range(0, reader.num_record_batches, count)
            for partition in partitions
        ]


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([pa.array([], field.type) for field in schema], schema)
