"""The end of a process' Ray, however that process ends: nothing runs on, and no file is left.

Of a driver that is killed, Ray leaves two agents for a minute, which wait for a server that died
with it; and of every driver, the directory of its session. So each driver starts this file as a
small process, which outlives it for that moment. It needs the standard library alone: it starts
quickly and holds little memory.
"""

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Variable in the environment of all of Ray's processes: the directory that they belong to.
VARIABLE = "RECSYS_RAY_DIRECTORY"
# Times that this is tried: a process that is being killed may still write a file.
_ROUNDS, _PAUSE_SECONDS = 50, 0.1


def end_session(directory: Path) -> None:
    """Kills the processes that belong to a directory, and removes it."""
    for _ in range(_ROUNDS):
        for process in _processes_of(directory):
            with suppress(OSError):  # It has ended meanwhile.
                os.kill(process, signal.SIGKILL)
        shutil.rmtree(directory, ignore_errors=True)
        if not directory.exists():
            return
        time.sleep(_PAUSE_SECONDS)


def _processes_of(directory: Path) -> Iterator[int]:
    mark = os.fsencode(f"{VARIABLE}={directory}")
    for path in Path("/proc").glob("[0-9]*/environ"):
        process = int(path.parent.name)
        with suppress(OSError):  # It has ended, or is another user's.
            if process != os.getpid() and mark in path.read_bytes().split(b"\0"):
                yield process


if __name__ == "__main__":
    sys.stdin.buffer.read()  # The other end of the pipe is closed when the driver ends.
    end_session(Path(sys.argv[1]))
