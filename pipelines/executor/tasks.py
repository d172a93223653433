"""A step's tasks: each runs once, however often the process is killed in between.

The shuffles between steps go through files, so that their size is bounded by the disk and not by
memory: each task of one step writes one file that is cut into partitions, and each task of the next
step reads its own partition of all of them. Nothing here depends on which executor runs the tasks.
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter

from feature_store.core.errors import UserError
from feature_store.core.files import write_text
from pipelines.executor.executor import Executor

Task = TypeVar("Task")
Summary = TypeVar("Summary")


def run_tasks(
    executor: Executor,
    function: Callable[[Task], Summary],
    tasks: Sequence[Task],
    *,
    summaries: Sequence[Path] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    say: Callable[[str], None] = lambda text: None,
) -> list[Summary]:
    """Applies `function` to each task.

    Args:
        executor: Engine that runs the tasks; not started where no task is left.
        function: Function of a module, with a return annotation; its results should be small.
        tasks: Small, picklable values.
        summaries: JSON file of each task's result, written after all else that the task writes. A
            task whose file exists is not run again.
        progress: Callback for the number of finished tasks and of all.
        say: Callback for a line of text, if the executor has to be started.

    Returns:
        Results in the order of the tasks.

    Raises:
        UserError: The first one that a task raised, in the order of the tasks, after all have run.
    """
    results: dict[int, Summary | UserError] = {}
    if summaries is not None:
        adapter = _adapter(function)
        for index, path in enumerate(summaries):
            if path.exists():
                results[index] = adapter.validate_json(path.read_bytes())
    missing = [index for index in range(len(tasks)) if index not in results]
    if missing:
        executor.start(say)
        calls = [(tasks[index], summaries[index] if summaries else None) for index in missing]
        for position, result in executor.run(partial(_run_task, function), calls):
            results[missing[position]] = result
            progress(len(results), len(tasks))
    ordered: list[Summary] = []
    for index in range(len(tasks)):
        result = results[index]
        if isinstance(result, UserError):
            raise result
        ordered.append(result)
    return ordered


def _run_task(
    function: Callable[[Task], Summary], call: tuple[Task, Path | None]
) -> Summary | UserError:
    """Runs a task and writes its summary; an engine must not wrap the user's errors in its own."""
    task, path = call
    try:
        result = function(task)
        if path is not None:
            write_text(path, _adapter(function).dump_json(result).decode())
    except UserError as error:
        return error
    return result


@cache
def _adapter(function: Callable[..., Any]) -> TypeAdapter[Any]:
    return TypeAdapter(get_type_hints(function)["return"])
