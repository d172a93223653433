"""Tasks in the workers of Ray Data, on this machine or a cluster."""

import pickle
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pipelines.executor.executor import Result, Task
from pipelines.executor.session import ensure_ray

# Ray starts at most this many tasks; each then works through several of ours.
_MAX_BLOCKS = 2000


class RayExecutor:
    """Executor on all cores of this machine or of a cluster; see `Executor`."""

    def start(self, say: Callable[[str], None]) -> None:
        """Connects to Ray, or starts it on this machine, which takes seconds."""
        import ray

        if not ray.is_initialized():
            say("starting Ray")
            ensure_ray()

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """Applies a function to each task, in any order."""
        import ray.data

        def run_row(row: dict[str, Any]) -> dict[str, Any]:
            result = function(pickle.loads(row["task"]))
            return {"index": row["index"], "result": pickle.dumps(result)}

        ensure_ray()
        rows = [{"index": index, "task": pickle.dumps(task)} for index, task in enumerate(tasks)]
        dataset = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MAX_BLOCKS))
        dataset.context.enable_progress_bars = False
        for row in dataset.map(run_row).iter_rows():
            yield row["index"], pickle.loads(row["result"])
