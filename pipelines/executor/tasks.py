"""Running a step's tasks as Ray Data tasks, and the shuffles between steps.

A shuffle goes through files, so that its size is bounded by the disk and not by memory: each task
of one step writes one file that is cut into partitions, and each task of the next step reads its
own partition of all of them.
"""

import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter

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
