"""Output of the commands: progress on standard error, results as JSON on standard output."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Annotated, Any, Self

import typer
from rich.console import Console, ConsoleRenderable, RenderHook
from rich.text import Text

from feature_store.core.locks import waiting

# Characters of a sentence that are printed; a path in it may be of any length.
_LONGEST = 2000


def _wait(context: typer.Context, is_given: bool) -> bool:
    """Makes the whole command wait where another one has its output."""
    if is_given:
        context.with_resource(waiting(lambda text: progress().print(text, markup=False)))
    return is_given


# Seconds without a line after which a command says that it is still at work.
_SILENCE_SECONDS = 8.0

_SERVERS = ("", "serve", "dashboard")
# Console of the command that runs; None where none does.
_of_command: ContextVar[Console | None] = ContextVar("of_command", default=None)

# The parameter of commands that write or read outputs; its callback does the work.
Wait = Annotated[
    bool,
    typer.Option(
        "--wait",
        callback=_wait,
        help="Wait for other commands that use the same output, in place of an error.",
    ),
]


def progress() -> Console:
    """Returns the console of progress, on standard error; of a command there is one."""
    return _of_command.get() or _on_standard_error()


@contextmanager
def never_silent(command: str = "") -> Iterator[None]:
    """Lets the console of progress speak of its own accord while a command runs.

    Args:
        command: Name of the command, which is said to be starting until it prints its first line:
            engines take seconds to load. Servers, which print nothing here, are silent.
    """
    console = _on_standard_error()
    token = _of_command.set(console)
    try:
        with Heartbeat(console, first="" if command in _SERVERS else f"{command}: starting"):
            yield
    finally:
        _of_command.reset(token)


def _on_standard_error() -> Console:
    return Console(stderr=True, soft_wrap=True, highlight=False)


class Heartbeat(RenderHook):
    """Repeats the last line, with the seconds since, whenever a console was silent for too long.

    A display that moves, such as a bar, is not silence. Where nothing was ever printed, as by a
    server, nothing is, unless there is a line to begin with.

    Args:
        console: Console to watch.
        seconds: Silence after which a line is due.
        clock: Function that returns the time in seconds.
        first: Line to repeat until there is another one.
    """

    def __init__(
        self,
        console: Console,
        seconds: float = _SILENCE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        first: str = "",
    ) -> None:
        self._console, self._seconds, self._clock = console, seconds, clock
        self._line = first
        self._printed = self._changed = clock()
        self._is_own = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)

    def __enter__(self) -> Self:
        self._console.push_render_hook(self)
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
        self._console.pop_render_hook()

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        """Notes what is printed, and when."""
        self._printed = self._clock()
        texts = [str(each).strip() for each in renderables if isinstance(each, Text)]
        lines = [line for text in texts for line in text.splitlines()]
        if lines and not self._is_own:
            self._line, self._changed = lines[-1], self._printed
        return renderables

    def beat(self) -> None:
        """Prints a line if one is due."""
        now = self._clock()
        if not self._line or now - self._printed < self._seconds:
            return
        self._is_own = True
        try:
            text = f"... {self._line} ({now - self._changed:,.0f} s)"
            self._console.print(text, markup=False, highlight=False, soft_wrap=True, style="dim")
        finally:
            self._is_own = False

    def _watch(self) -> None:
        while not self._stopped.wait(1.0):
            self.beat()


def print_json(value: Any) -> None:
    """Prints a result of `--json`."""
    print(json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False))


def one_line(text: str) -> str:
    """Formats text of any length and content as one line, which no terminal obeys."""
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} ... {text[-_LONGEST // 4 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
