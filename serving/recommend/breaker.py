"""A circuit breaker: calls to something that may hang, of which no caller waits for long."""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

_T = TypeVar("_T")

_logger = logging.getLogger(__name__)


class UnavailableError(Exception):
    """The store does not answer.

    Attributes:
        retry_seconds: Seconds after which it is worth while to ask again.
    """

    def __init__(self, text: str, retry_seconds: float = 1.0) -> None:
        super().__init__(text)
        self.retry_seconds = retry_seconds


class CircuitBreaker:
    """Runs calls one after the other in a thread of its own, which may hang without any harm.

    After a call that fails, or takes longer than a caller's patience, the circuit is open: whoever
    waits, and everybody who comes within the pause, is refused at once. So is everybody while the
    late call is still running. After the pause one call is tried, and closes the circuit if it
    succeeds in time; others are refused meanwhile. Source: Nygard, Release It!, 2018, chapter 5.

    Args:
        name: Name of what is called, for the log and the errors.
        patience: Seconds that a caller waits.
        pause: Seconds until an open circuit is tried.
        clock: Clock in seconds.

    Attributes:
        failures: Number of calls that failed or were late.
    """

    def __init__(
        self,
        name: str,
        *,
        patience: float,
        pause: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.failures = 0
        self._name = name
        self._patience = patience
        self._pause = pause
        self._clock = clock
        self._lock = Lock()
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._running: Future[Any] | None = None
        self._trial: Future[Any] | None = None
        self._open_until: float | None = None
        # A daemon: a call that hangs must not keep the process from ending.
        self._thread = Thread(target=self._run, name=f"{name} calls", daemon=True)
        self._thread.start()

    @property
    def is_closed(self) -> bool:
        """Whether the last call succeeded in time."""
        return self._open_until is None

    def call(self, work: Callable[[], _T]) -> _T:
        """Runs a function in the breaker's thread, and returns its result.

        Raises:
            UnavailableError: It failed, is late, or was not tried.
        """
        future: Future[_T] = Future()
        with self._lock:
            if self._open_until is not None:
                if self._running is not None or self._trial is not None:
                    raise self._refusal()
                if self._clock() < self._open_until:
                    raise self._refusal()
                self._trial = future
            self._calls.put((future, work))
        try:
            return future.result(self._patience)
        except UnavailableError:
            raise
        except Exception as error:
            if not future.done():
                self._late(future)
            raise self._refusal() from error

    def close(self) -> None:
        """Ends the thread as soon as its call ends."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            future, work = call
            if not future.set_running_or_notify_cancel():
                continue
            self._running, began = future, self._clock()
            try:
                result = work()
            except Exception as error:  # Whatever befalls a store.
                self._failed(future, str(error))
                future.set_exception(error)
            else:
                self._succeeded(future, self._clock() - began)
                future.set_result(result)

    def _succeeded(self, future: Future[Any], seconds: float) -> None:
        with self._lock:
            self._running = None
            if self._trial is not future or seconds > self._patience:
                return
            self._trial = self._open_until = None
        _logger.warning("%s answers again", self._name)

    def _failed(self, future: Future[Any], reason: str) -> None:
        with self._lock:
            self._running = None
            self._open(future, reason)

    def _late(self, future: Future[Any]) -> None:
        """Opens the circuit after a caller has lost patience."""
        with self._lock:
            if self._open_until is None or self._trial is future:
                future.cancel()
                self._open(future, f"it took longer than {self._patience:g} seconds")

    def _open(self, future: Future[Any], reason: str) -> None:
        """Opens the circuit and refuses all that wait; the lock is held."""
        if self._open_until is None:
            _logger.warning("%s does not answer: %s", self._name, reason)
        self.failures += 1
        self._open_until = self._clock() + self._pause
        if self._trial is future:
            self._trial = None
        while True:
            try:
                waiting = self._calls.get_nowait()
            except Empty:
                return
            if waiting is None:
                self._calls.put(None)
                return
            if waiting[0].set_running_or_notify_cancel():
                waiting[0].set_exception(self._refusal())

    def _refusal(self) -> UnavailableError:
        return UnavailableError(f"{self._name} does not answer", max(1.0, self._pause))
