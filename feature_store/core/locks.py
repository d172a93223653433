"""Locks of outputs: one process writes each of them, and none while others read it for long.

A lock is the kernel's (flock) on a hidden file beside the output, `.NAME.lock`, which says who
holds it. It ends with the process, however that ends: a file that a killed one left locks nothing.
"""

import errno
import fcntl
import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from feature_store.core.errors import UserError
from feature_store.core.temporary import remove_siblings

# Answers of file systems that have no locks, such as some network mounts.
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
# Beginning of the note that errors get while an output is locked.
WRITING = "while writing "
# Most bytes of a lock's file that are read.
_NOTE_BYTES = 1000

Say = Callable[[str], None]
_waiting: ContextVar[Say | None] = ContextVar("waiting", default=None)


class BusyError(UserError):
    """An output that another process is writing or reading."""


@dataclass
class _Held:
    """A lock of a thread: its descriptor, and whether it keeps readers out, too."""

    descriptor: int
    is_exclusive: bool


_held: dict[tuple[Path, int], _Held] = {}


@contextmanager
def waiting(say: Say | None = lambda text: None) -> Iterator[None]:
    """Makes locks, in the block, wait for other processes where they would refuse.

    Args:
        say: Function called with a line that tells who is waited for; None: locks refuse again.
    """
    token = _waiting.set(say)
    try:
        yield
    finally:
        _waiting.reset(token)


@contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keeps others from writing or reading a file or directory while the block runs.

    Blocks of one thread may lie within each other. Other threads, and processes that this one
    forks, do not have its lock. On a file system without locks there is a warning, and no lock.
    Temporary files and directories that killed writers of the output left beside it are removed.
    Directories that are made for the lock's file go again if nothing is written.

    Args:
        output: File or directory that is written; it need not exist.

    Raises:
        UserError: Another process holds the lock, and `waiting` is not in force.
    """
    made = [directory for directory in output.parents if not directory.exists()]
    try:
        with _held_lock(output, is_exclusive=True):
            yield
    except Exception as error:  # Many errors of writing name no file.
        error.add_note(f"{WRITING}{output}")
        raise
    finally:
        with suppress(OSError):  # They hold something now.
            for directory in made:
                directory.rmdir()


@contextmanager
def reading(*outputs: Path) -> Iterator[None]:
    """Keeps others from replacing files or directories that the block reads bit by bit.

    Where no lock's file can be written, there is no lock, for nobody can replace them either.

    Args:
        outputs: Files or directories.

    Raises:
        UserError: Another process writes one, and `waiting` is not in force.
    """
    with ExitStack() as stack:
        for output in outputs:
            if output.exists():
                stack.enter_context(_held_lock(output, is_exclusive=False))
        yield


@contextmanager
def _held_lock(output: Path, *, is_exclusive: bool) -> Iterator[None]:
    place = output.resolve()
    if not place.name:  # The root of all files, which nobody replaces.
        yield
        return
    path = place.with_name(f".{place.name}.lock")
    key = path, threading.get_ident()
    if key in _held:
        assert _held[key].is_exclusive or not is_exclusive
        yield
        return
    descriptor = _acquired(path, output, is_exclusive=is_exclusive)
    if is_exclusive:
        remove_siblings(place)
    if descriptor is None:
        yield
        return
    _close_in_children()
    _held[key] = _Held(descriptor, is_exclusive)
    try:
        with suppress(OSError):  # On a full disk nobody learns who holds it; the lock is as good.
            _sign(descriptor, is_exclusive=is_exclusive)
        yield
    finally:
        del _held[key]
        with suppress(OSError):  # Other readers hold it still.
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_file_of(path, descriptor):
                path.unlink()
        os.close(descriptor)


def _acquired(path: Path, output: Path, *, is_exclusive: bool) -> int | None:
    """Returns a descriptor that holds the lock; None where there can be none."""
    while True:
        if is_exclusive:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Not inherited by programs that this process starts (PEP 446).
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            if not is_exclusive:
                return None
            if not path.parent.exists():  # Its last holder has removed that, too.
                continue
            raise
        try:
            _take(descriptor, output, is_exclusive=is_exclusive)
            # Its last holder may have removed the file between the two calls.
            if _is_file_of(path, descriptor):
                return descriptor
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, OSError) and error.errno in _UNSUPPORTED:
                _warn(output, error)
                return None
            raise
        os.close(descriptor)


def _take(descriptor: int, output: Path, *, is_exclusive: bool) -> None:
    """Takes the lock of a descriptor; waits for it or refuses while others have it."""
    kind = fcntl.LOCK_EX if is_exclusive else fcntl.LOCK_SH
    with suppress(BlockingIOError):
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        return
    holder = _holder(descriptor)
    say = _waiting.get()
    if say is None:
        raise BusyError(
            f"{output} is being {holder}; wait for it, give --wait, or choose another output."
        )
    say(f"waiting for {output}, which is being {holder}")
    fcntl.flock(descriptor, kind)


def _is_file_of(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _sign(descriptor: int, *, is_exclusive: bool) -> None:
    """Writes into the lock's file who holds it."""
    note = {
        "act": "written" if is_exclusive else "read",
        "command": _invocation(),
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(note).encode(), 0)


def _holder(descriptor: int) -> str:
    """Describes who holds a lock, by what is in its file."""
    try:
        note = json.loads(os.pread(descriptor, _NOTE_BYTES, 0))
        if note["host"] == socket.gethostname():
            with suppress(PermissionError):
                os.kill(note["process"], 0)  # One that has ended was one of several readers.
        return "{act} by `{command}` (process {process} on {host}, since {since})".format_map(note)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return "used by another process"  # It is about to sign, or could not.


def _invocation() -> str:
    """Returns program and command, but no options, for these may hold secrets."""
    program = Path(sys.argv[0]).name or "python"
    if program == "cli.py":  # python -m recsys.cli
        program = "recsys"
    return " ".join([program, *sys.argv[1:2]]) if program == "recsys" else program


def _warn(output: Path, error: OSError) -> None:
    print(
        f"warning: the file system of {output} has no locks ({error.strerror}): nothing keeps "
        "another command from writing it; run one at a time",
        file=sys.stderr,
    )


@cache
def _close_in_children() -> None:
    """Has forked children close the descriptors that they inherit, or they would keep the locks."""

    def close() -> None:
        for held in _held.values():
            with suppress(OSError):
                os.close(held.descriptor)
        _held.clear()

    os.register_at_fork(after_in_child=close)
