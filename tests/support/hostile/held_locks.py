"""Locks that somebody else holds."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from feature_store.core.locks import locked, reading


@contextmanager
def held_by_another(output: Path, *, is_read: bool = False) -> Iterator[threading.Event]:
    """Holds the lock of an output in another thread, which has locks of its own like a process.

    Yields:
        An event that ends it before the block does.
    """
    is_taken, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with reading(output) if is_read else locked(output):
            is_taken.set()
            is_over.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    is_taken.wait()
    try:
        yield is_over
    finally:
        is_over.set()
        holder.join()
