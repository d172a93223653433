"""The job that every step of `prepare` works on, and its progress as the user sees it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.markup import escape

from feature_store.forgotten import Forgotten
from feature_store.kinds import VectorFeature
from feature_store.schema import FeatureSchema
from pipelines.executor import Executor
from pipelines.executor.tasks import run_tasks
from pipelines.logs.tables import Sources
from pipelines.prepare.workspace import Build
from pipelines.quality.news import Known
from pipelines.reports.words import reworded
from pipelines.settings import DataConfig

Task = TypeVar("Task")
Summary = TypeVar("Summary")

# Limits of a task that builds or merges examples: numbers of its histories, and rows.
_TASK_HISTORY = 16_000_000
_TASK_ROWS = 250_000


def print_line(console: Console, text: str) -> None:
    """Prints one line as it is, however narrow the console and whatever a path holds."""
    console.print(f"prepare: {text}", markup=False, highlight=False, soft_wrap=True)


def count_of(number: int, noun: str) -> str:
    """Formats a number and its noun, such as `1,234 events`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class Progress:
    """Lines for the user, one for each step; on a terminal also the number of finished tasks.

    Args:
        console: Console that shows them.
        query: Word of the log for a query.
    """

    def __init__(self, console: Console, query: str) -> None:
        self._console, self._query = console, query
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
        """Prints the step that begins."""
        self._text = reworded(text, self._query)
        print_line(self._console, self._text)
        self._status.update(escape(f"prepare: {self._text}"))

    def note(self, text: str) -> None:
        """Prints a line within a step."""
        print_line(self._console, text)

    def advance(self, done: int, total: int) -> None:
        """Shows how many of the step's tasks are finished."""
        self._status.update(escape(f"prepare: {self._text} ({done}/{total})"))


@dataclass(frozen=True)
class Job:
    """The input of every step.

    Attributes:
        data: Configuration of the log and of how it becomes examples.
        features: Features of both sides and of the context.
        sources: The log.
        as_of: Time after which events are rejected as future ones.
        split_end: Time from which windows of the split count back; None: the last event's.
        forgotten: Ids whose rows are dropped.
        progress: Lines for the user.
        executor: Engine that runs the tasks.
        holds_out: Whether events are held out; otherwise all are training events.
        passed_over: Marks of the files of the events that are not read.
        known: Files that an earlier run has read, beside which new ones are judged; None: they are
            not.
    """

    data: DataConfig
    features: FeatureSchema
    sources: Sources
    as_of: datetime
    split_end: datetime | None
    forgotten: Forgotten
    progress: Progress
    executor: Executor
    holds_out: bool
    passed_over: tuple[str, ...] = ()
    known: Known | None = None

    @property
    def rows_of_task(self) -> int:
        """Number of examples that a task holds in memory."""
        vectors = [f.length for f in self.features.context if isinstance(f, VectorFeature)]
        numbers = self.data.history.max_length + 2 * sum(vectors)  # Raw and encoded ones.
        return max(1, min(_TASK_ROWS, _TASK_HISTORY // numbers))

    def run_tasks(
        self, function: Callable[[Task], Summary], tasks: Sequence[Task], summaries: Sequence[Path]
    ) -> list[Summary]:
        """Runs tasks whose summary does not exist yet, see `run_tasks`, and shows the progress."""
        return run_tasks(
            self.executor,
            function,
            tasks,
            summaries=summaries,
            progress=self.progress.advance,
            say=self.progress.note,
        )


@dataclass(frozen=True)
class Run:
    """A job whose events are scanned: its steps resume what a killed run has begun.

    Attributes:
        job: Input of every step.
        build: Directories of the run.
    """

    job: Job
    build: Build

    @property
    def directory(self) -> Path:
        """The prepared directory, while it is written."""
        return self.build.prepared

    def folder(self, name: str) -> Path:
        """Returns a folder of the scratch directory, which exists."""
        path = self.build.scratch / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def tasks(
        self, step: str, function: Callable[[Task], Summary], tasks: Sequence[Task]
    ) -> list[Summary]:
        """Runs a step's tasks, each once, however often the run is killed; see `run_tasks`."""
        summaries = [self.build.done / f"{step}-{i:05d}.json" for i in range(len(tasks))]
        return self.job.run_tasks(function, tasks, summaries)
