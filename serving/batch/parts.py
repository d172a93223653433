"""Work that is cut into numbered parts, done by actors of Ray Data."""

import json
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from feature_store.core.errors import UserError
from pipelines.executor.session import ensure_ray

# Ray starts so many tasks at most; each then works through several parts.
_MAX_BLOCKS = 2000


Counts = dict[str, int]


class Worker(Protocol):
    """What an actor keeps from part to part, such as a model that takes long to load."""

    def __call__(self, part: int) -> Counts:
        """Does a part, writes its file, and says what it counted."""


def run_parts(
    make: Callable[..., Worker], arguments: tuple[Any, ...], parts: int, actors: int | None
) -> Iterator[Counts]:
    """What workers counted in each part, in any order, as they are done.

    Each actor has one CPU, and one thread of torch and of FAISS.

    Args:
        make: Makes a worker, once in each actor.
        arguments: Of `make`; small and picklable.
        parts: How many; they are numbered from 0.
        actors: Of Ray; None: one for each CPU of the cluster.

    Raises:
        UserError: The first that a worker raised.
    """
    if not parts:
        return
    ensure_ray()
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    actors = min(parts, actors or max(1, int(ray.cluster_resources().get("CPU", 1))))
    dataset = ray.data.from_items(list(range(parts)), override_num_blocks=min(parts, _MAX_BLOCKS))
    done = dataset.map(
        _Actor, fn_constructor_args=(make, arguments), concurrency=actors, num_cpus=1
    )
    for row in done.iter_rows():
        if row["fault"]:
            raise UserError(row["fault"])
        yield json.loads(row["counts"])


class _Actor:
    """Says as a row what a user did wrong: Ray would show a traceback and try again."""

    def __init__(self, make: Callable[..., Worker], arguments: tuple[Any, ...]) -> None:
        import faiss
        import torch

        torch.set_num_threads(1)
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
