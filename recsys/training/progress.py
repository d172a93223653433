"""Progress of a training as it is shown: a bar on a terminal, plain lines in a log."""

import json
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from recsys.evaluation.selection import score_of
from recsys.training.estimate import Estimate

_POLL_SECONDS = 0.5
# Seconds between two plain lines.
_LINE_SECONDS = 5.0
_BAR_WIDTH = 8
# Keys of a line of losses that are no losses.
_NO_LOSSES = ("step", "examples_per_second", "loader_wait")

Line = dict[str, float]


class Watcher:
    """Thread that follows the metrics file of a training, whatever process writes it.

    An error of a receiver stops the thread, and is raised when the block ends.

    Args:
        path: Path of the file, which need not exist yet.
        receivers: Functions that are called with lines: first those of earlier processes.
    """

    def __init__(self, path: Path, receivers: list[Callable[[list[Line]], None]]) -> None:
        self._path = path
        self._receivers = receivers
        self._offset = 0
        self._inode: int | None = None
        self._seen: set[tuple[int, frozenset[str]]] = set()
        self._error: Exception | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="watcher", daemon=True)

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()
        if kind is None and self._error is not None:
            raise self._error

    def _follow(self) -> None:
        try:
            self._receive_until_stopped()
        except Exception as failure:
            self._error = failure

    def _receive_until_stopped(self) -> None:
        while True:
            is_last = self._stopped.wait(_POLL_SECONDS)
            if lines := self._new_lines():
                for receiver in self._receivers:
                    receiver(lines)
            if is_last:
                return

    def _new_lines(self) -> list[Line]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            if inode != self._inode:  # Workers that were restarted have cut it back.
                self._inode, self._offset = inode, 0
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if self._is_new(line)]

    def _is_new(self, line: Line) -> bool:
        """Returns whether a line is new: steps that were lost with a worker are logged again."""
        key = (int(line["step"]), frozenset(line))
        is_new = key not in self._seen
        self._seen.add(key)
        return is_new


class TrainingProgress:
    """Display of steps, the time that is left, the last validation, the speed and the losses.

    Args:
        console: Console to show it on: a bar on a terminal, else a line now and then.
        step: Number of steps that are already done.
        total: Number of steps of all epochs.
        steps_per_epoch: Number of steps of an epoch.
        metric: Validation metric to show, by which checkpoints are selected.
        estimate: Estimate of the time that is left.
    """

    def __init__(
        self,
        console: Console,
        step: int,
        total: int,
        steps_per_epoch: int,
        metric: str,
        estimate: Estimate,
    ) -> None:
        self._console = console
        self._begun_at = step
        self._total = total
        self._steps_per_epoch = steps_per_epoch
        self._metric = metric
        self._estimate = estimate
        self._validation = ""
        self._losses = "starting"
        self._last_line = time.monotonic()
        self._bar = Progress(
            TextColumn("training"),
            BarColumn(bar_width=_BAR_WIDTH),
            # The losses are at the end, which is cut where the terminal is narrow.
            TextColumn("{task.fields[text]}", table_column=Column(no_wrap=True, ratio=1)),
            expand=True,
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(
            "", total=total, completed=step, text=f"{self._place(step)}, {self._losses}"
        )

    def __enter__(self) -> "TrainingProgress":
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def show(self, lines: list[Line]) -> None:
        """Shows lines of metrics, but for those of an earlier process."""
        lines = [line for line in lines if line["step"] > self._begun_at]
        if not lines:
            return
        for line in lines:
            self._take(line)
        step = int(lines[-1]["step"])
        self._estimate.reached(step)
        known = (self._place(step), self._estimate.text(), self._validation, self._losses)
        text = ", ".join(part for part in known if part)
        self._bar.update(self._task, completed=step, text=text)
        is_due = time.monotonic() - self._last_line >= _LINE_SECONDS
        if not self._console.is_terminal and is_due:
            self._last_line = time.monotonic()
            self._console.print(f"training {text}", soft_wrap=True)

    def _take(self, line: Line) -> None:
        prefix = "validation."
        if "examples_per_second" in line:
            losses = {k: v for k, v in line.items() if k not in _NO_LOSSES}
            text = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
            self._losses = f"{line['examples_per_second']:,.0f} examples/s, {text}"
        elif f"{prefix}{self._metric}" in line:
            found = {k.removeprefix(prefix): v for k, v in line.items() if k.startswith(prefix)}
            score = score_of(found, self._metric)
            self._estimate.validated(int(line["step"]), score)
            self._validation = "" if score is None else f"{self._metric} {score.value:.4f}"

    def _place(self, step: int) -> str:
        return f"{self._epoch(step)}, step {step}/{self._total}"

    def _epoch(self, step: int) -> str:
        epochs = self._total // self._steps_per_epoch
        return f"epoch {min(epochs, step // self._steps_per_epoch + 1)}/{epochs}"
