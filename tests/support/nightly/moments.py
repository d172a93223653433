"""Moments of a nightly job: where it is, what it changes, and its death there.

A process changes files by calls that Python reports before the act (audit events), and MLflow's
store by transactions, which SQLAlchemy reports. What C++ libraries write, and computations, lie
between two changes: there a timer kills.
"""

import importlib
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from functools import wraps
from typing import Any, NamedTuple

from sqlalchemy import event
from sqlalchemy.engine import Engine

# Functions of the job, by the stage that they are.
STAGES = {
    "serving.nightly.news.prepare": "prepare",
    "serving.nightly.day.begin": "begin",
    "serving.nightly.day.train": "train",
    "serving.nightly.day.evaluate": "evaluate",
    "serving.nightly.day.evaluate_champion": "champion's evaluation",
    "serving.nightly.day.judge": "comparison",
    "recsys.stages.refit.refit": "refit",
    "serving.nightly.day.export": "export",
    "serving.exporting.export.register": "register",
    "serving.nightly.day.promote_if_passed": "promote",
    "serving.nightly.day.Day.write": "the day's page",
    "serving.nightly.job._finish": "latest and notices",
}
# `ctypes.dlopen` comes before the exchange of two directories.
_CHANGES = frozenset(
    (
        "ctypes.dlopen",
        "os.link",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.symlink",
        "shutil.rmtree",
    )
)


class Change(NamedTuple):
    """A change that the job is about to make.

    Attributes:
        stage: Stage that the job is in.
        number: Number of the change in the stage, from 0.
        seconds: Seconds since the job began.
        what: Name of the call, and its first argument.
    """

    stage: str
    number: int
    seconds: float
    what: str


class Moment(NamedTuple):
    """A moment of a job: some time after a change, or before it, but before the next one.

    Attributes:
        stage: Stage that the job is in.
        number: Number of the change in the stage.
        delay: Seconds after it; 0: before it.
        what: The change.
    """

    stage: str
    number: int
    delay: float
    what: str


def watch(tell: Callable[[Change], None]) -> None:
    """Calls a function before each change that this process makes from now on."""
    stages, counts, started = ["job"], Counter[str](), time.monotonic()
    lock = threading.RLock()

    def note(what: str) -> None:
        with lock:
            change = Change(stages[-1], counts[stages[-1]], time.monotonic() - started, what)
            counts[change.stage] += 1
            tell(change)

    for path, stage in STAGES.items():
        _mark(path, stage, stages)

    def audit(name: str, arguments: tuple[Any, ...]) -> None:
        is_write = name == "open" and isinstance(arguments[2], int) and arguments[2] & 3
        if is_write or name in _CHANGES:
            note(f"{name} {arguments[0]}")

    @event.listens_for(Engine, "commit")
    def commit(_: object) -> None:
        note("commit")

    sys.addaudithook(audit)


def kill_at(moment: Moment) -> None:
    """Kills this process at a moment, by SIGKILL."""

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    is_due = False

    def tell(change: Change) -> None:
        nonlocal is_due
        if is_due or (not moment.delay and change[:2] == moment[:2]):
            die()
        if change[:2] == moment[:2]:
            is_due = True
            threading.Timer(moment.delay, die).start()

    watch(tell)


def spread(changes: list[Change], seconds: float, each: int) -> list[Moment]:
    """Chooses moments of each stage: in turn before a change, and in the middle of a long wait.

    Args:
        changes: Changes of a job that was not killed.
        seconds: Duration of the job.
        each: Number of moments of a stage, as far as it has so many.
    """
    chosen: list[Moment] = []
    following = [*(change.seconds for change in changes[1:]), seconds]
    for stage in STAGES.values():
        own = [
            (change, end - change.seconds)
            for change, end in zip(changes, following, strict=True)
            if change.stage == stage
        ]
        waits = sorted(own, key=lambda pair: pair[1], reverse=True)[: each // 2]
        before = each - len(waits)
        picked = [own[(2 * n + 1) * len(own) // (2 * before)] for n in range(before)] if own else []
        found = {Moment(c.stage, c.number, 0.0, c.what): None for c, _ in picked}
        found |= {Moment(c.stage, c.number, wait / 2, c.what): None for c, wait in waits}
        chosen += sorted(found)
    return chosen


def _mark(path: str, stage: str, stages: list[str]) -> None:
    """Wraps a function so that the stage is known while it runs."""
    place, name = path.rsplit(".", 1)
    owner: Any = None
    try:
        owner = importlib.import_module(place)
    except ModuleNotFoundError:  # A method.
        module, kind = place.rsplit(".", 1)
        owner = getattr(importlib.import_module(module), kind)
    function = getattr(owner, name)

    @wraps(function)
    def marked(*arguments: Any, **named: Any) -> Any:
        stages.append(stage)
        try:
            return function(*arguments, **named)
        finally:
            stages.pop()

    setattr(owner, name, marked)
