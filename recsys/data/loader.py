"""A rank's source of batches: a Ray Data pipeline, or this process itself."""

import pickle
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.data.builder import BatchBuilder
from recsys.data.host_batch import HostBatch
from recsys.data.plan import TrainingPlan
from recsys.data.reader import read_steps

# Batches that are built ahead of training: enough to fill all lanes when an epoch begins.
PREFETCH = 8
# Executions, each with one task at a time, that build a rank's batches in turn.
_STREAMS = 2
# Row groups of each lane that a task reads.
_TASK_WINDOWS = 2
# Most tasks of an execution: Ray takes 1 ms to plan each, before the first one starts.
_MAX_TASKS = 1_000
# Bound on all blocks that wait to be read; without it a task would build all batches early.
_WAITING_BYTES = 256 * 2**20
# Size of a block that a task hands over; training begins when the first one is there. Ray Data
# hands on few blocks in a step of its control loop, so that smaller ones would be waited for.
_BLOCK_BYTES = 32 * 2**20
# Pause between two steps of that loop.
_STEP_SECONDS = 0.02

T = TypeVar("T")


@dataclass(frozen=True)
class _End:
    """The end of a source, and the error that ended it, if any."""

    error: BaseException | None


class Prefetched(Iterator[T], Generic[T]):
    """Runs a source ahead in a thread, from the moment it is made; its errors are raised here.

    Args:
        source: Generator that is run, and closed, in the thread alone.
    """

    def __init__(self, source: Generator[T, None, None]) -> None:
        self._ready: queue.Queue[T | _End] = queue.Queue(PREFETCH)
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(source,), name="loader", daemon=True
        )
        self._thread.start()

    def __next__(self) -> T:
        if self._stopped.is_set():
            raise StopIteration
        entry = self._ready.get()
        if not isinstance(entry, _End):
            return entry
        self._stopped.set()
        raise StopIteration if entry.error is None else entry.error

    def close(self) -> None:
        """Ends the thread; what it has built is dropped."""
        self._stopped.set()
        self._thread.join()

    def _run(self, source: Generator[T, None, None]) -> None:
        try:
            for batch in source:
                self._put(batch)
                if self._stopped.is_set():
                    break
            source.close()
            self._put(_End(None))
        except BaseException as error:
            self._put(_End(error))

    def _put(self, entry: T | _End) -> None:
        while not self._stopped.is_set():
            try:
                return self._ready.put(entry, timeout=0.1)
            except queue.Full:
                continue


class TimedIterator(Iterator[T], Generic[T]):
    """The same entries, and the time spent waiting for them.

    Attributes:
        seconds: Time spent waiting; the reader may set it back.
    """

    def __init__(self, entries: Iterable[T]) -> None:
        self._entries = iter(entries)
        self.seconds = 0.0

    def __next__(self) -> T:
        started = time.perf_counter()
        try:
            return next(self._entries)
        finally:
            self.seconds += time.perf_counter() - started


# Yields a rank's batches, from a step on: (plan, config, rank, world_size, from_step).
BatchSource = Callable[[TrainingPlan, Config, int, int, int], Prefetched[HostBatch]]


def in_process_batches(
    plan: TrainingPlan, config: Config, rank: int, world_size: int, from_step: int
) -> Prefetched[HostBatch]:
    """Yields one rank's batches from `from_step` on, built in a thread of this process."""

    def build() -> Generator[HostBatch, None, None]:
        prepared = Prepared(config.prepared_dir)
        builder = BatchBuilder(prepared, config, plan.selection, plan.neighbours)
        for local in read_steps(plan, from_step, plan.total_steps, rank, world_size):
            yield builder.training(local, rank, world_size)

    return Prefetched(build())


def ray_batches(
    plan: TrainingPlan,
    config: Config,
    rank: int,
    world_size: int,
    from_step: int,
    *,
    task_windows: int = _TASK_WINDOWS,
) -> Prefetched[HostBatch]:
    """Yields the batches of `in_process_batches`, built by Ray Data tasks that read Parquet.

    One execution serves the whole training, because starting one costs seconds. Ray Data keeps the
    order and cannot resume in the middle, so the position is the plan's. To keep the order it also
    has tasks wait for the ones before; so there are several executions that build the steps in
    turn, each with one task at a time. All of them read everything, which is the smaller part.

    Args:
        plan: Order of the examples.
        config: Configuration of the batches.
        rank: Rank that the batches are for.
        world_size: Number of ranks.
        from_step: First step.
        task_windows: Row groups of each lane that a task reads; 0 for a task for each step.
    """
    document = config.model_dump_json()
    data = Prepared(config.prepared_dir).manifest.fingerprint
    stop = plan.total_steps
    # A task reads again what the one before has read of a row group.
    steps = task_windows * plan.window_rows * plan.lanes // plan.batch_size
    steps = max(1, steps, (stop - from_step) // _MAX_TASKS)

    def build(row: dict[str, Any], turn: int) -> Iterator[dict[str, Any]]:
        builder = _builder(document, data, plan.selection, plan.neighbours)
        first = row["item"]
        for local in read_steps(plan, first, min(first + steps, stop), rank, world_size):
            if local.step % _STREAMS == turn:
                # As bytes: Ray takes longer over a column for each array than over the copy.
                batch = builder.training(local, rank, world_size)
                yield {"batch": pickle.dumps(batch, pickle.HIGHEST_PROTOCOL)}

    def rows(turn: int) -> Iterator[dict[str, Any]]:
        import ray.data

        firsts = list(range(from_step, stop, steps))
        dataset = ray.data.from_items(firsts, override_num_blocks=len(firsts))
        context = dataset.context
        context.execution_options.preserve_order = True
        context.execution_options.resource_limits = ray.data.ExecutionResources(
            object_store_memory=_WAITING_BYTES // _STREAMS
        )
        context.enable_progress_bars = False
        context.target_max_block_size = _BLOCK_BYTES
        context.custom_execution_callback_classes = [pacing()]
        # Tasks that asked for CPUs could deadlock: where one rank's task holds the last of them and
        # waits until its batches are read, the other ranks' cannot start, and that rank waits for
        # theirs.
        built = dataset.flat_map(build, fn_kwargs={"turn": turn}, num_cpus=0, concurrency=1)
        return iter(built.iter_rows())

    def stream() -> Generator[HostBatch, None, None]:
        streams = [rows(turn) for turn in range(_STREAMS)]
        for step in range(from_step, stop):
            yield pickle.loads(next(streams[step % _STREAMS])["batch"])

    return Prefetched(stream())


def pacing() -> type:
    """Returns a callback that slows Ray Data's control loop down to a few steps a second.

    While finished blocks wait to be read, as they do wherever loading is faster than training, the
    loop of Ray 2.60 spins without a pause and keeps the interpreter from the thread that trains.
    The hook into the loop is private; seen in Ray 2.60.
    """
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    class Pacing(ExecutionCallback):
        def on_execution_step(self, executor: Any) -> None:
            time.sleep(_STEP_SECONDS)

    return Pacing


@lru_cache(maxsize=1)
def _builder(
    document: str, data: str, selection: Path | None, neighbours: Path | None
) -> BatchBuilder:
    """Builds a builder, or reuses it: a worker keeps its tables mapped until the data change."""
    config = Config.model_validate_json(document)
    return BatchBuilder(Prepared(config.prepared_dir), config, selection, neighbours)
