"""The interface of what runs the tasks of a step."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


class Executor(Protocol):
    """An engine that applies a function to independent tasks."""

    def start(self, say: Callable[[str], None]) -> None:
        """Starts the engine where it is not running yet, and says so where that takes seconds."""

    def run(
        self, function: Callable[[Task], Result], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """Applies a function to each task.

        Args:
            function: Picklable function whose results are small and picklable.
            tasks: Small, picklable values.

        Yields:
            Index of a task and its result, in the order in which the tasks finish.
        """
