"""Where a rank's batches come from: a Ray Data pipeline, or a thread of this process."""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from functools import lru_cache
from typing import Any

from pipelines.prepared import Prepared
from recsys.batch import Arrays
from recsys.collate import BatchBuilder
from recsys.config import Config
from recsys.plan import Chunk, TrainingPlan, read_chunk

# Yields a rank's arrays, from a step on: (plan, config, rank, world_size, from_step).
ArraySource = Callable[[TrainingPlan, Config, int, int, int], Generator[Arrays, None, None]]

# Batches that are built ahead of training.
_PREFETCH = 4


def local_arrays(
    plan: TrainingPlan, config: Config, rank: int, world_size: int, from_step: int
) -> Generator[Arrays, None, None]:
    """One rank's arrays from `from_step` on, built ahead by a thread.

    An error of the thread is raised here.
    """
    builder = BatchBuilder(Prepared(config.prepared_dir), config)
    ready: queue.Queue[Arrays | BaseException | None] = queue.Queue(_PREFETCH)
    stopped = threading.Event()

    def put(entry: Arrays | BaseException | None) -> None:
        while not stopped.is_set():
            try:
                return ready.put(entry, timeout=0.1)
            except queue.Full:
                continue

    def build() -> None:
        try:
            for chunk in plan.chunks(from_step):
                for window in read_chunk(chunk):
                    put(builder.training(window, rank, world_size))
                    if stopped.is_set():
                        return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=build, name="loader", daemon=True)
    thread.start()
    try:
        while (entry := ready.get()) is not None:
            if isinstance(entry, BaseException):
                raise entry
            yield entry
    finally:
        stopped.set()
        thread.join()


def ray_arrays(
    plan: TrainingPlan, config: Config, rank: int, world_size: int, from_step: int
) -> Generator[Arrays, None, None]:
    """As `local_arrays`, built by Ray Data tasks that stream from Parquet.

    One execution serves the whole training, for starting one costs seconds. Ray Data keeps the
    order and cannot resume in the middle, so the position is the plan's.
    """
    import ray.data

    document = config.model_dump_json()

    def build(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        builder = _builder(document)
        for window in read_chunk(row["item"]):
            yield dict(builder.training(window, rank, world_size))

    chunks: list[Chunk] = list(plan.chunks(from_step))
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    # Small blocks: training begins when the first one is ready.
    context.target_max_block_size = 8 * 2**20
    dataset = ray.data.from_items(chunks, override_num_blocks=len(chunks)).flat_map(build)
    yield from dataset.iter_rows()


@lru_cache(maxsize=1)
def _builder(document: str) -> BatchBuilder:
    """A worker process keeps its tables mapped between tasks."""
    config = Config.model_validate_json(document)
    return BatchBuilder(Prepared(config.prepared_dir), config)
