"""The directory of this process' Ray sessions, which is gone when the process is.

The process removes it when it exits; if it is killed, its keeper does (see `keeper`); and where
that was killed as well, such as with the whole machine, the next process that starts Ray. A lock in
the directory says that it is in use. The driver and its keeper share the lock, and the operating
system releases it with the last of them.
"""

import atexit
import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from pipelines.executor import keeper

_PREFIX, _LOCK = "recsys-ray-", "lock"
# Longest path that the sockets of a session have room below: a socket's has at most 107 bytes.
_MOST_BYTES = 21
# Keepers of this process: a `Popen` that is collected would wait for them.
_KEEPERS: list[subprocess.Popen[bytes]] = []


@contextmanager
def session_directory() -> Iterator[Path]:
    """Yields the directory; processes that the block starts end with this one.

    Ray opens it to everybody, but nobody else can enter the directory that holds it.
    """
    directory = _directory()
    os.environ[keeper.VARIABLE] = str(directory)
    try:
        yield directory / "ray"
    finally:
        del os.environ[keeper.VARIABLE]


@cache
def _directory() -> Path:
    base = _base()
    for other in base.glob(f"{_PREFIX}*"):
        _remove_if_abandoned(other)
    directory, lock = _new_directory(base)
    waited, held = os.pipe()  # `held` is open for as long as this process runs.
    command = [sys.executable, "-I", "-S", keeper.__file__, str(directory)]
    _KEEPERS.append(
        subprocess.Popen(
            command,
            stdin=waited,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[lock],
            cwd="/",
            start_new_session=True,  # Ctrl-C is not for the keeper.
        )
    )
    os.close(waited)
    atexit.register(_end, directory, os.getpid(), held)
    return directory


def _base() -> Path:
    """Returns the directory of temporary files that Ray would take, unless its path is too long."""
    base = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp").absolute()
    if len(os.fsencode(base)) > _MOST_BYTES:
        return Path("/tmp")
    base.mkdir(parents=True, exist_ok=True)
    return base


def _new_directory(base: Path) -> tuple[Path, int]:
    """Returns a new directory, which no other user can enter, and its lock."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
        lock = os.open(directory / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (directory / _LOCK).exists():
            return directory, lock
        os.close(lock)  # Before it was locked, another process took it for an abandoned one.


def _remove_if_abandoned(directory: Path) -> None:
    """Removes a directory of this user's whose driver and keeper are gone."""
    try:
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
    except OSError:  # It is another user's, or being made or removed.
        return
    try:
        if os.lstat(directory).st_uid == os.geteuid() and not directory.is_symlink():
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            keeper.end_session(directory)
    except OSError:  # It is in use, or has just been removed.
        pass
    finally:
        os.close(lock)


def _end(directory: Path, process: int, held: int) -> None:
    """Ends this process' Ray, and removes its directory; a fork of the process leaves it alone."""
    if os.getpid() != process:
        return
    if "ray" in sys.modules:
        sys.modules["ray"].shutdown()
    keeper.end_session(directory)
    os.close(held)
