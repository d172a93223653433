"""Where a rank's batches come from: a Ray Data pipeline, or this process itself."""

import pickle
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import lru_cache
from typing import Any

from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.data.builder import Arrays, BatchBuilder
from recsys.data.plan import TrainingPlan
from recsys.data.reader import read_steps

# Batches that are built ahead of training: time enough to fill all lanes when an epoch begins.
_PREFETCH = 8
# Executions, each with one task at a time, that build a rank's batches in turn.
_STREAMS = 2
# Row groups of each lane that a task reads.
_TASK_WINDOWS = 2
# Ray takes 1 ms to plan each, before the first one starts.
_MAX_TASKS = 1_000
# Of all blocks that wait to be read; without it a task would build all batches before their turn.
_WAITING_BYTES = 256 * 2**20
# Of a block that they hand over; training begins when the first one is there. Ray Data hands on few
# blocks in a step of its control loop, so that smaller ones would be waited for.
_BLOCK_BYTES = 32 * 2**20
# Between two steps of that loop.
_STEP_SECONDS = 0.02


class Prefetched(Iterator[Arrays]):
    """Runs a source ahead in a thread, from the moment it is made; its errors are raised here.

    Args:
        source: Is run, and closed, in the thread alone.
    """

    def __init__(self, source: Generator[Arrays, None, None]) -> None:
        self._ready: queue.Queue[Arrays | BaseException | None] = queue.Queue(_PREFETCH)
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(source,), name="loader", daemon=True
        )
        self._thread.start()

    def __next__(self) -> Arrays:
        if self._stopped.is_set():
            raise StopIteration
        entry = self._ready.get()
        if isinstance(entry, dict):
            return entry
        self._stopped.set()
        raise StopIteration if entry is None else entry

    def close(self) -> None:
        """Ends the thread; what it has built is dropped."""
        self._stopped.set()
        self._thread.join()

    def _run(self, source: Generator[Arrays, None, None]) -> None:
        try:
            for arrays in source:
                self._put(arrays)
                if self._stopped.is_set():
                    break
            source.close()
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, entry: Arrays | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                return self._ready.put(entry, timeout=0.1)
            except queue.Full:
                continue


class TimedIterator(Iterator[Arrays]):
    """Iterator over batches that measures how long its reader waits for them.

    Args:
        batches: Batches to pass on.

    Attributes:
        seconds: Seconds spent waiting; the reader may reset it.
    """

    def __init__(self, batches: Iterable[Arrays]) -> None:
        self._batches = iter(batches)
        self.seconds = 0.0

    def __next__(self) -> Arrays:
        started = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.seconds += time.perf_counter() - started


# Yields a rank's arrays, from a step on: (plan, config, rank, world_size, from_step).
ArraySource = Callable[[TrainingPlan, Config, int, int, int], Prefetched]


def local_arrays(
    plan: TrainingPlan, config: Config, rank: int, world_size: int, from_step: int
) -> Prefetched:
    """One rank's arrays from `from_step` on, built in this process."""

    def build() -> Generator[Arrays, None, None]:
        builder = BatchBuilder(Prepared(config.prepared_dir), config)
        for share in read_steps(plan, from_step, plan.total_steps, rank, world_size):
            yield builder.training(share, rank, world_size)

    return Prefetched(build())


def ray_arrays(
    plan: TrainingPlan, config: Config, rank: int, world_size: int, from_step: int
) -> Prefetched:
    """As `local_arrays`, built by Ray Data tasks that stream from Parquet.

    One execution serves the whole training, for starting one costs seconds. Ray Data keeps the
    order and cannot resume in the middle, so the position is the plan's. To keep the order it also
    has tasks wait for the ones before; so there are several executions that build the steps in
    turn, each with one task at a time. All of them read everything, which is the smaller part.
    """
    document = config.model_dump_json()
    data = Prepared(config.prepared_dir).manifest.fingerprint
    stop = plan.total_steps
    # A task reads again what the one before has read of a row group.
    steps = _TASK_WINDOWS * plan.window_rows * plan.lanes // plan.batch_size
    steps = max(1, steps, (stop - from_step) // _MAX_TASKS)

    def build(row: dict[str, Any], turn: int) -> Iterator[dict[str, Any]]:
        builder = _builder(document, data)
        first = row["item"]
        for share in read_steps(plan, first, min(first + steps, stop), rank, world_size):
            if share.step % _STREAMS == turn:
                # As bytes: Ray takes longer over a column for each array than over the copy.
                arrays = builder.training(share, rank, world_size)
                yield {"arrays": pickle.dumps(arrays, pickle.HIGHEST_PROTOCOL)}

    def rows(turn: int) -> Iterator[dict[str, Any]]:
        import ray.data

        firsts = list(range(from_step, stop, steps))
        dataset = ray.data.from_items(firsts, override_num_blocks=len(firsts))
        # Tasks that asked for CPUs could deadlock: where one rank's task holds the last of them and
        # waits until its batches are read, the other ranks' cannot start, and that rank waits for
        # theirs.
        built = dataset.flat_map(build, fn_kwargs={"turn": turn}, num_cpus=0, concurrency=1)
        return iter(built.iter_rows())

    def stream() -> Generator[Arrays, None, None]:
        import ray.data

        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.execution_options.resource_limits = ray.data.ExecutionResources(
            object_store_memory=_WAITING_BYTES // _STREAMS
        )
        context.enable_progress_bars = False
        context.target_max_block_size = _BLOCK_BYTES
        context.custom_execution_callback_classes = [_pacing()]
        streams = [rows(turn) for turn in range(_STREAMS)]
        for step in range(from_step, stop):
            yield pickle.loads(next(streams[step % _STREAMS])["arrays"])

    return Prefetched(stream())


def _pacing() -> type:
    """Slows Ray Data's control loop down to a few steps a second.

    While finished blocks wait to be read, as they do wherever loading is faster than training, the
    loop of Ray 2.60 spins without a pause and keeps the interpreter from the thread that trains.
    """
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    class Pacing(ExecutionCallback):
        def on_execution_step(self, executor: Any) -> None:
            time.sleep(_STEP_SECONDS)

    return Pacing


@lru_cache(maxsize=1)
def _builder(document: str, data: str) -> BatchBuilder:
    """A worker process keeps its tables mapped between tasks, until there are other data."""
    config = Config.model_validate_json(document)
    return BatchBuilder(Prepared(config.prepared_dir), config)
