"""A nightly job killed by SIGKILL at moments of all its stages, and what is left in the end.

python tests/benchmarks/bench_kills.py OUTPUT [--kills 2] [--ways WAY ...] [--stages STAGE ...]

A first day is done, and a second one without a kill. Then, for each of `--kills` moments of each
stage, the second day is done again from the first: killed there, and called again until it ends.
Files and MLflow's store must be those of the day that was not killed; the differences are printed,
and the exit code is 1 where there are any.
"""

import argparse
import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Callable, Collection
from importlib import import_module
from pathlib import Path
from typing import Any

from rich.console import Console

sys.path.insert(0, str(Path(__file__).parents[2]))

from pipelines.process import quiet_engines
from recsys.config.config import Config
from recsys.sqlite_store import make_ready
from serving.nightly.job import run_day
from tests.support.nightly.daily_log import daily_config, midnight, write_days
from tests.support.nightly.moments import STAGES, Change, Moment, kill_at, spread, watch
from tests.support.nightly.traces import left_by, repeatably

FIRST, SECOND = 10, 11
# Modules that stages import when they need them, and that take seconds.
ENGINES = ("recsys.stages.fit", "recsys.stages.measure", "serving.exporting.bundling")
# Sections of the configuration in which the days differ.
WAYS: dict[str, dict[str, Any]] = {
    "scratch": {},
    "previous": {
        "training": {
            "start": "previous",
            "replay": 0.5,
            "checkpoint_every": 2,
            "schedule": {"kind": "infinite", "warmup": 2, "cooldown_steps": 4},
        },
        "features": {
            "item": [
                {
                    "name": "item_id",
                    "kind": "id",
                    "dim": 8,
                    "min_count": 2,
                    "max_idle_days": 3,
                }
            ],
            "query": [],
        },
    },
}


def main() -> None:
    """Kills the second day at all moments of all ways, and prints what differs."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("--kills", type=int, default=2, help="moments of each stage")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--stages", nargs="+", choices=list(STAGES.values()), default=[])
    options = parser.parse_args()
    quiet_engines()
    for module in ENGINES:
        import_module(module)
    stages = options.stages or STAGES.values()
    faults = 0
    for way in options.ways:
        faults += _try(options.output.absolute() / way, way, stages, options.kills)
    sys.exit(1 if faults else 0)


def _try(directory: Path, way: str, stages: Collection[str], each: int) -> int:
    """Kills the second day at its moments; returns the number of those after which it differs."""
    shutil.rmtree(directory, ignore_errors=True)
    runs, before = directory / "runs", directory / "before"
    config = daily_config(
        directory / "events", runs, tracking={"experiment": "nightly"}, **WAYS[way]
    )
    write_days(directory / "events", 1, FIRST)
    make_ready(runs / "mlflow.db")
    _in_child(lambda: _day(config, FIRST))
    write_days(directory / "events", SECOND, SECOND)
    shutil.copytree(runs, before, symlinks=True)
    changes, seconds = _in_child(lambda: _recorded(config))
    expected = _in_child(lambda: left_by(config))
    _put_back(before, runs)
    _in_child(lambda: _day(config, SECOND))
    faults = _report(way, None, expected, _in_child(lambda: left_by(config)))
    for moment in spread([Change(*change) for change in changes], seconds, each):
        if moment.stage not in stages:
            continue
        _put_back(before, runs)
        _in_child(lambda at=moment: _killed(config, at), may_die=True)
        _in_child(lambda: _day(config, SECOND))
        faults += _report(way, moment, expected, _in_child(lambda: left_by(config)))
    return faults


def _day(config: Config, day: int) -> None:
    repeatably()
    run_day(config, midnight(day), console=Console(quiet=True))


def _recorded(config: Config) -> tuple[list[Change], float]:
    """Does the second day; returns its changes, and its duration."""
    changes: list[Change] = []
    watch(changes.append)
    started = time.monotonic()
    _day(config, SECOND)
    return list(changes), time.monotonic() - started


def _killed(config: Config, moment: Moment) -> None:
    kill_at(moment)
    _day(config, SECOND)


def _put_back(before: Path, runs: Path) -> None:
    shutil.rmtree(runs)
    shutil.copytree(before, runs, symlinks=True)


def _in_child(work: Callable[[], Any], *, may_die: bool = False) -> Any:
    """Returns what a function returns in a process of its own; it is forked, without imports."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.close(receive)
        status = 1
        try:
            with os.fdopen(send, "w") as file:
                json.dump(work(), file)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(send)
    with os.fdopen(receive) as file:
        text = file.read()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) if may_die else not status, f"a process ended with {status}"
    return json.loads(text) if text else None


def _report(
    way: str, moment: Moment | None, expected: dict[str, str], found: dict[str, str]
) -> bool:
    """Prints whether what was left is what was expected, and what is not; returns that."""
    names = sorted(expected.keys() | found.keys())
    differ = [name for name in names if expected.get(name) != found.get(name)]
    at = "not killed"
    if moment is not None:
        at = f"{moment.stage}, change {moment.number}"
        at += f" and {moment.delay:.2f} s" if moment.delay else f" ({moment.what})"
    print(f"{way}: {at}: {f'{len(differ)} differ' if differ else 'equal'}", flush=True)
    for name in differ:
        print(f"  {name}")
        for text in (expected.get(name), found.get(name)):
            print(f"    {text if text is None else text[:300]}", flush=True)
    return bool(differ)


if __name__ == "__main__":
    main()
