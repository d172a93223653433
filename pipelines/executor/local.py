"""Tasks in this process, one after the other: nothing to start, nothing to install."""

from collections.abc import Callable, Iterator, Sequence

from pipelines.executor.executor import Result, Task


class LocalExecutor:
    """Executor for small data and for tests; see `Executor`."""

    def start(self, say: Callable[[str], None]) -> None:
        """Does nothing: this process runs already."""

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """Applies a function to each task, in order."""
        for index, task in enumerate(tasks):
            yield index, function(task)
