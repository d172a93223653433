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
from recsys.channels.matrix_files import read_matrix, stack, transpose, write_matrix
from recsys.channels.neighbours import Neighbours
from recsys.channels.product import Product, ranges

# Multiplications of a task, about two seconds; and those that a neighbour of a list counts for, so
# that a task's lists fit in a tenth of a gigabyte.
_COST_OF_TASK, _COST_OF_NEIGHBOUR = 100_000_000, 50


@dataclass(frozen=True)
class _Range:
    """A task: the lists of some candidates.

    Attributes:
        product: Directory of the product.
        part: Directory of the task's result.
        start: First candidate.
        stop: Candidate after the last one.
        count: Sources that a candidate keeps.
    """

    product: str
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
    lists, steps = work_dir / "lists", (work_dir / "first", work_dir / "second")
    if not lists.exists():
        parts = _first_hop(channel, data, neighbours, steps[0], executor, say)
        if channel.second_hop:
            of_first = partial(_write_second_hop, parts, channel.second_hop)
            parts = _run_step(of_first, steps[1], neighbours, executor, say)
        with directory_written_atomically(lists, never) as directory:
            transpose(parts, directory)
    for step in steps:
        shutil.rmtree(step, ignore_errors=True)
    return Neighbours.read(lists)


def _first_hop(
    channel: type[Channel],
    data: ChannelData,
    neighbours: int,
    work_dir: Path,
    executor: Executor,
    say: Callable[[str], None],
) -> list[Path]:
    """Returns directories of the lists of ranges of candidates, without neighbours' neighbours."""
    if channel.keeps_all:
        whole = work_dir / "part-00000"
        write_matrix(whole, channel.product(data).left)
        return [whole]

    def write(directory: Path) -> None:
        _write_product(channel.product(data), directory)

    return _run_step(write, work_dir, neighbours, executor, say)


def _run_step(
    write: Callable[[Path], None],
    work_dir: Path,
    count: int,
    executor: Executor,
    say: Callable[[str], None],
) -> list[Path]:
    """Finds the highest scores of each candidate of a product, in parts.

    Args:
        write: Function that writes the product.
        work_dir: Directory of the step.
        count: Sources that a candidate keeps.
        executor: Engine of the tasks.
        say: Callback for a line of text.

    Returns:
        Directories of matrices, [candidates, sources] float32, whose rows together are all.
    """
    plan, product = work_dir / "tasks.json", work_dir / "product"
    if not plan.exists():
        write(product)
        costs = _read_product(product).costs() + _COST_OF_NEIGHBOUR * count
        write_json(plan, ranges(costs, _COST_OF_TASK))
    tasks = [
        _Range(str(product), str(work_dir / f"part-{number:05d}"), start, stop, count)
        for number, (start, stop) in enumerate(read_json(plan))
    ]
    parts = [Path(task.part) for task in tasks]
    summaries = [part / "summary.json" for part in parts]
    run_tasks(executor, _fit_range, tasks, summaries=summaries, say=say)
    return parts


def _fit_range(task: _Range) -> int:
    """Writes the lists of a range of candidates, and returns the number of their entries."""
    found = _read_product(Path(task.product)).highest(task.start, task.stop, task.count)
    write_matrix(Path(task.part), found)
    return int(found.nnz)


def _write_second_hop(parts: list[Path], weight: float, directory: Path) -> None:
    """Writes the scores of neighbours and, by a weight, of their neighbours, as a product."""
    stack(parts, directory / "left")
    stack(parts, directory / "right", itself=weight)


def _write_product(product: Product, directory: Path) -> None:
    write_matrix(directory / "left", product.left)
    write_matrix(directory / "right", product.right)
    if product.rows is not None:
        write_matrix(directory / "rows", product.rows)


def _read_product(directory: Path) -> Product:
    left, right = (read_matrix(directory / name) for name in ("left", "right"))
    rows = directory / "rows"
    return Product(left, right, read_matrix(rows) if rows.exists() else None)
