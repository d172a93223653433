"""Processes that die at a chosen moment.

Others see a process by the names it changes: it fills files under temporary names, renames them,
and removes what is old. So a process that dies before each rename and each removal in turn has, as
far as anybody can see, died at every moment.
"""

import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.support.processes import CONTEXT

# Audit events of Python, each raised before the act. What C++ libraries write is not among them:
# they only fill files whose names nobody knows yet.
_CHANGES = frozenset(("os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "sqlite3.connect"))

_DIED = 77
_SECONDS = 120


def dies_before(
    change: int, function: Callable[..., object], *arguments: Any, is_light: bool = False
) -> bool:
    """Calls a function in a process that ends before a change of names, without any cleaning up.

    Args:
        change: Number of changes, from 0, that the process makes before it dies.
        function: Picklable function.
        arguments: Picklable arguments.
        is_light: Whether the function uses no engine, so that this process itself can be forked.

    Returns:
        Whether the process died; it does not where the function makes fewer changes.
    """
    context = multiprocessing.get_context("fork") if is_light else CONTEXT
    code = _ended(context.Process(target=_die, args=(change, function, arguments)))
    assert code in (0, _DIED), f"the process that should die ended with {code}"
    return code == _DIED


def left_by_the_dead(
    directory: Path, copies: Path, function: Callable[..., object], *arguments: Any
) -> Iterator[int]:
    """Yields once for each change of names, with the directory as a death before it leaves it.

    The function is called once, in a process that copies the directory before each change. So each
    state costs a copy, and not a call that ends at it.

    Args:
        directory: Directory of all that the function writes; at the end it is as the whole call
            leaves it.
        copies: Directory for the copies, on the same file system; it must not exist.
        function: Picklable function.
        arguments: Picklable arguments.

    Yields:
        Numbers of changes made, from 0; the last one is that of the whole call.
    """
    copies.mkdir()
    code = _ended(CONTEXT.Process(target=_copy, args=(directory, copies, function, arguments)))
    assert code == 0, f"the process that writes ended with {code}"
    whole = copies / str(len(list(copies.iterdir())))
    directory.rename(whole)
    for change in range(int(whole.name) + 1):
        shutil.rmtree(directory, ignore_errors=True)
        (copies / str(change)).rename(directory)
        yield change


def _ended(process: multiprocessing.process.BaseProcess) -> int | None:
    """Starts a process, and returns how it ended; None where it did not in time."""
    process.start()
    process.join(_SECONDS)
    code = process.exitcode
    if code is None:
        process.kill()
    return code


def _die(change: int, function: Callable[..., object], arguments: Sequence[Any]) -> None:
    left = change

    def die_in_time() -> None:
        nonlocal left
        if not left:
            os._exit(_DIED)
        left -= 1

    _run(die_in_time, function, arguments)


def _copy(
    directory: Path, copies: Path, function: Callable[..., object], arguments: Sequence[Any]
) -> None:
    count = 0

    def copy() -> None:
        nonlocal count
        shutil.copytree(directory, copies / str(count))
        count += 1

    _run(copy, function, arguments)


def _run(
    before_change: Callable[[], None], function: Callable[..., object], arguments: Sequence[Any]
) -> None:
    def hook(event: str, details: tuple[Any, ...]) -> None:
        # Files within a directory that is being removed, by descriptor, are not counted each.
        if event == "os.remove" and (details[1] != -1 or not os.path.lexists(details[0])):
            return
        if event in _CHANGES:
            before_change()

    os.fsync = lambda _: None  # The process dies, the machine does not.
    sys.addaudithook(hook)
    function(*arguments)
    os._exit(0)  # The end of the interpreter is not part of the test.
