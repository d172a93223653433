"""Fitting of channels: tasks of a step, each of which finds the lists of a range of candidates.

Between the steps matrices are files that are mapped into memory, so that what a process holds is a
range of candidates, and not their number times the length of a list.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from feature_store.core.documents import read_json
from feature_store.core.files import directory_written_atomically, never, write_json
from pipelines.executor.executor import Executor
from pipelines.executor.tasks import run_tasks
from recsys.channels.channel import Channel, ChannelData
from recsys.channels.matrix_files import transpose, write_matrix
from recsys.channels.neighbours import Neighbours
from recsys.channels.product import Product, ranges
from recsys.channels.step import Step

# Multiplications of a task, about two seconds; and those that a neighbour of a list counts for, so
# that a task's lists fit in a tenth of a gigabyte.
_COST_OF_TASK, _COST_OF_NEIGHBOUR = 100_000_000, 50
# Folder of what is fitted; it is there when it is complete.
_LISTS = "lists"


@dataclass(frozen=True)
class _Range:
    """A task: the lists of some candidates.

    Attributes:
        kind: Kind of the step.
        step: Directory of what its tasks read.
        part: Directory of the task's result.
        start: First candidate.
        stop: Candidate after the last one.
        count: Most sources of a candidate.
    """

    kind: type[Step]
    step: str
    part: str
    start: int
    stop: int
    count: int


def fit_channel(
    channel: type[Channel],
    data: ChannelData,
    *,
    neighbours: int,
    work_dir: Path,
    executor: Executor,
    say: Callable[[str], None] = lambda text: None,
) -> Neighbours:
    """Fits a channel; a fit that was killed goes on with the tasks that are left.

    Args:
        channel: Kind of the channel.
        data: Training events and features that it is fitted to.
        neighbours: Sources that each candidate keeps.
        work_dir: Directory for what is between the steps, of this data and this channel alone. The
            lists that are returned are mapped from it.
        executor: Engine of the tasks.
        say: Callback for a line of text, if the executor has to be started.
    """
    lists, steps = work_dir / _LISTS, (work_dir / "first", work_dir / "second")
    count = min(neighbours, channel.most_neighbours)
    if not is_fitted(work_dir):
        if channel.keeps_all(data):
            parts = [steps[0] / "part-00000"]
            write_matrix(parts[0], channel.product(data).left)
        else:
            parts = _run_step(
                Product,
                lambda directory: channel.product(data).write(directory),
                steps[0],
                count,
                executor,
                say,
            )
        kind = channel.second_step(data)
        if kind is not None:
            of_first = partial(channel.write_second_step, data, parts)
            parts = _run_step(kind, of_first, steps[1], count, executor, say)
        with directory_written_atomically(lists, never) as directory:
            transpose(parts, directory)
    for step in steps:
        shutil.rmtree(step, ignore_errors=True)
    return Neighbours.read(lists)


def is_fitted(work_dir: Path) -> bool:
    """Tells whether the lists of a channel are complete in a directory of `fit_channel`."""
    return (work_dir / _LISTS).exists()


def _run_step(
    kind: type[Step],
    write: Callable[[Path], None],
    work_dir: Path,
    count: int,
    executor: Executor,
    say: Callable[[str], None],
) -> list[Path]:
    """Finds the sources of each candidate, in parts.

    Args:
        kind: Kind of the step.
        write: Function that writes it to a directory.
        work_dir: Directory of all that the step needs.
        count: Most sources of a candidate.
        executor: Engine of the tasks.
        say: Callback for a line of text.

    Returns:
        Directories of matrices, [candidates, sources] float32, whose rows together are all.
    """
    plan, step = work_dir / "tasks.json", work_dir / "step"
    if not plan.exists():
        write(step)
        costs = kind.read(step).costs() + _COST_OF_NEIGHBOUR * count
        write_json(plan, ranges(costs, _COST_OF_TASK))
    tasks = [
        _Range(kind, str(step), str(work_dir / f"part-{number:05d}"), start, stop, count)
        for number, (start, stop) in enumerate(read_json(plan))
    ]
    parts = [Path(task.part) for task in tasks]
    summaries = [part / "summary.json" for part in parts]
    run_tasks(executor, _fit_range, tasks, summaries=summaries, say=say)
    return parts


def _fit_range(task: _Range) -> int:
    """Writes the lists of a range of candidates, and returns the number of their entries."""
    found = task.kind.read(Path(task.step)).highest(task.start, task.stop, task.count)
    write_matrix(Path(task.part), found)
    return int(found.nnz)
