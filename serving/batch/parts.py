"""Work that is cut into numbered parts, done by actors of Ray Data."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from feature_store.core.errors import UserError
from pipelines.executor.session import ensure_ray
from pipelines.process import use_threads

# Most tasks that Ray starts; each then works through several parts.
_MAX_BLOCKS = 2000

Counts = dict[str, int]


class Worker(Protocol):
    """The worker of an actor, with what it keeps from part to part, such as a loaded model."""

    def __call__(self, part: int) -> Counts:
        """Writes the file of a part, and returns what it counted."""


def run_parts(
    make: Callable[..., Worker], arguments: tuple[Any, ...], parts: int, actors: int | None
) -> Iterator[Counts]:
    """Yields the counts of each part as workers finish, in any order.

    Each actor has one CPU, and one thread of torch and of FAISS.

    Args:
        make: Function that makes a worker, once in each actor.
        arguments: Arguments of `make`; small and picklable.
        parts: Number of parts; they are numbered from 0.
        actors: Number of Ray actors; None: one for each CPU of the cluster.

    Raises:
        UserError: A worker raised it.
    """
    if not parts:
        return
    ensure_ray()
    import ray.data

    actors = min(parts, actors or max(1, int(ray.cluster_resources().get("CPU", 1))))
    dataset = ray.data.from_items(list(range(parts)), override_num_blocks=min(parts, _MAX_BLOCKS))
    dataset.context.enable_progress_bars = False
    results = dataset.map(
        _Actor, fn_constructor_args=(make, arguments), concurrency=actors, num_cpus=1
    )
    for row in results.iter_rows():
        if row["fault"]:
            raise UserError(row["fault"])
        yield json.loads(row["counts"])


class _Actor:
    """An actor that returns a `UserError` as a row: Ray would show a traceback and try again."""

    def __init__(self, make: Callable[..., Worker], arguments: tuple[Any, ...]) -> None:
        import faiss

        use_threads(1)
        faiss.omp_set_num_threads(1)
        self._worker: Worker | None = None
        self._make, self._arguments = make, arguments

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            if self._worker is None:
                self._worker = self._make(*self._arguments)
            return {"counts": json.dumps(self._worker(row["item"])), "fault": ""}
        except UserError as error:
            return {"counts": "", "fault": str(error)}
