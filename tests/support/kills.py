"""Processes that die at a chosen moment.

Others see a process by the names it changes: it fills files under temporary names, renames them,
and removes what is old. So a process that dies before each rename and each removal in turn has, as
far as anybody can see, died at every moment.
"""

import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

# Audit events of Python, each raised before the act. What C++ libraries write is not among them:
# they only fill files whose names nobody knows yet.
_CHANGES = frozenset(("os.rename", "os.remove", "os.rmdir", "shutil.rmtree", "sqlite3.connect"))

_DIED = 77
_SECONDS = 120

# The server of forks has imported what its children need, so that each of them starts at once.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        "feast.infra.offline_stores.duckdb",
        "feast.repo_operations",
        "pipelines.materialize.materialize",
        "pipelines.prepare.prepare",
        "tests.support.prepare_logs",
    ]
)


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
    context = multiprocessing.get_context("fork") if is_light else _CONTEXT
    process = context.Process(target=_run, args=(change, function, arguments))
    process.start()
    process.join(_SECONDS)
    code = process.exitcode
    if code is None:
        process.kill()
    assert code in (0, _DIED), f"the process that should die ended with {code}"
    return code == _DIED


def _run(change: int, function: Callable[..., object], arguments: Sequence[Any]) -> None:
    left = change

    def die_in_time(event: str, details: tuple[Any, ...]) -> None:
        nonlocal left
        # Files within a directory that is being removed, by descriptor, are not counted each.
        if event == "os.remove" and (details[1] != -1 or not os.path.lexists(details[0])):
            return
        if event in _CHANGES:
            if not left:
                os._exit(_DIED)
            left -= 1

    os.fsync = lambda _: None  # The process dies, the machine does not.
    sys.addaudithook(die_in_time)
    function(*arguments)
    os._exit(0)  # The end of the interpreter is not part of the test.
