"""What every step of `prepare` works on, and what it shows the user."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.markup import escape

from feature_store.schema import FeatureSchema
from pipelines.settings import DataConfig
from pipelines.sources import Sources

# Items of history that a task which builds or merges examples holds, and its rows at most.
_TASK_HISTORY = 16_000_000
_TASK_ROWS = 250_000


def print_line(console: Console, text: str) -> None:
    """Prints one line as it is, however narrow the console and whatever a path holds."""
    console.print(f"prepare: {text}", markup=False, highlight=False, soft_wrap=True)


class Progress:
    """A line for each step; on a terminal also how far it is."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("prepare")
        self._text = ""

    def __enter__(self) -> "Progress":
        self._status.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._status.stop()

    def begin(self, text: str) -> None:
        """Prints what begins."""
        self._text = text
        print_line(self._console, text)
        self._status.update(escape(f"prepare: {text}"))

    def advance(self, done: int, total: int) -> None:
        """Shows how many tasks are done."""
        self._status.update(escape(f"prepare: {self._text} ({done}/{total})"))


@dataclass(frozen=True)
class Job:
    """What every step works on.

    Attributes:
        data: The configuration.
        features: Of both sides.
        sources: The log.
        as_of: Later events are of the future.
        directory: The prepared directory, while it is written.
        progress: For the user.
    """

    data: DataConfig
    features: FeatureSchema
    sources: Sources
    as_of: datetime
    directory: Path
    progress: Progress

    @property
    def scratch(self) -> Path:
        """For what steps hand each other; removed at the end."""
        return self.directory / ".scratch"

    @property
    def rows_of_task(self) -> int:
        """Examples that a task holds in memory."""
        return max(1, min(_TASK_ROWS, _TASK_HISTORY // self.data.history.max_length))

    def folder(self, name: str) -> Path:
        """A folder of the scratch directory."""
        path = self.scratch / name
        path.mkdir(parents=True, exist_ok=True)
        return path
