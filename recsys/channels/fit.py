"""Fitting of channels: tasks of a step, each of which finds the lists of a range of candidates."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import sparse

from feature_store.core.columns import Jagged
from feature_store.core.documents import read_json
from feature_store.core.files import write_array, write_json
from pipelines.executor.executor import Executor
from pipelines.executor.tasks import run_tasks
from recsys.channels.channel import Channel, ChannelData, second_hop
from recsys.channels.neighbours import Neighbours
from recsys.channels.product import Product, ranges

# Multiplications of a task: about two seconds, and a gigabyte at most.
_COST_OF_TASK = 100_000_000
_ARRAYS = ("data", "indices", "indptr")


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
        work_dir: Directory for what is between the steps, of this data and this channel alone.
        executor: Engine of the tasks.
        say: Callback for a line of text, if the executor has to be started.
    """
    if channel.keeps_all:
        lists = channel.product(data).left
    else:
        first = partial(channel.product, data)
        lists = _lists(first, work_dir / "first", neighbours, executor, say)
    if channel.second_hop:
        second = partial(second_hop, lists, channel.second_hop)
        lists = _lists(second, work_dir / "second", neighbours, executor, say)
    by_source = lists.T.tocsr()
    by_source.sort_indices()
    offsets = by_source.indptr.astype(np.int64)
    return Neighbours(Jagged(by_source.indices.astype(np.int32), offsets), by_source.data)


def _lists(
    build: Callable[[], Product],
    work_dir: Path,
    count: int,
    executor: Executor,
    say: Callable[[str], None],
) -> sparse.csr_matrix:
    """Returns the highest scores of each candidate, [candidates, sources] float32."""
    plan = work_dir / "tasks.json"
    if not plan.exists():
        product = build()
        _write_matrix(work_dir / "product" / "left", product.left)
        _write_matrix(work_dir / "product" / "right", product.right)
        write_json(plan, ranges(product.costs(), _COST_OF_TASK))
    tasks = [
        _Range(str(work_dir / "product"), str(work_dir / f"part-{number:05d}"), start, stop, count)
        for number, (start, stop) in enumerate(read_json(plan))
    ]
    summaries = [Path(task.part) / "summary.json" for task in tasks]
    run_tasks(executor, _fit_range, tasks, summaries=summaries, say=say)
    return sparse.vstack([_read_matrix(Path(task.part)) for task in tasks], format="csr")


def _fit_range(task: _Range) -> int:
    """Writes the lists of a range of candidates, and returns the number of their entries."""
    directory = Path(task.product)
    left, right = (_read_matrix(directory / name) for name in ("left", "right"))
    found = Product(left, right).highest(task.start, task.stop, task.count)
    _write_matrix(Path(task.part), found)
    return int(found.nnz)


def _write_matrix(directory: Path, matrix: sparse.csr_matrix) -> None:
    arrays = {name: getattr(matrix, name) for name in _ARRAYS}
    for name, array in (*arrays.items(), ("shape", np.array(matrix.shape))):
        write_array(directory / f"{name}.npy", array)


def _read_matrix(directory: Path) -> sparse.csr_matrix:
    """Maps a matrix into memory."""
    # The library takes writable arrays alone, so pages are mapped copy-on-write.
    *arrays, shape = (
        np.asarray(np.load(directory / f"{name}.npy", mmap_mode="c"))
        for name in (*_ARRAYS, "shape")
    )
    return sparse.csr_matrix(tuple(arrays), shape.tolist(), copy=False)
