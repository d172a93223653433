"""`prepare` after its process died: whatever was written by then, the result is the same."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from feature_store.core.manifests import read_manifest
from pipelines.executor import RayExecutor
from pipelines.prepare.workspace import Workspace
from pipelines.prepared.manifest import PreparedManifest
from pipelines.settings import DataConfig
from tests.support.kills import dies_before, left_by_the_dead
from tests.support.prepare_logs import (
    CountingExecutor,
    files_below,
    finished_tasks,
    growing_log,
    run_in_small_tasks,
)


@pytest.mark.slow
@pytest.mark.parametrize("run", ["first", "second"])
def test_killed_at_any_moment_the_next_run_finishes_with_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # Processes die here, the machine does not.
    data, grow = growing_log(tmp_path)
    before = tmp_path / "before"
    before.mkdir()
    if run == "second":
        run_in_small_tasks(data, before / "prepared")
        grow()
    whole, killed = (shutil.copytree(before, tmp_path / name) for name in ("whole", "killed"))
    unkilled = CountingExecutor()
    run_in_small_tasks(data, whole / "prepared", unkilled)
    expected = files_below(whole)
    kept = {path.name for path in finished_tasks(whole / "prepared")}

    def finished(directory: Path) -> int:
        """Counts the finished tasks that a run which is not finished itself can use."""
        paths = finished_tasks(directory / "prepared")
        return sum(path.parent.name == "done" or path.name in kept for path in paths)

    all_tasks = unkilled.tasks + finished(before)
    manifest = read_manifest(whole / "prepared", PreparedManifest)
    output, change = killed / "prepared", 0
    for change in left_by_the_dead(killed, tmp_path / "copies", run_in_small_tasks, data, output):
        is_published = read_manifest(output, PreparedManifest) == manifest
        left = 0 if is_published else all_tasks - finished(killed)
        resumed = CountingExecutor()
        run_in_small_tasks(data, output, resumed)
        assert files_below(killed) == expected, f"killed before change {change}"
        assert resumed.tasks == left, f"killed before change {change}: a finished task was redone"
    assert change > 90  # Each step writes, the last one too.


@pytest.mark.slow
def test_killed_again_and_again_each_run_goes_further(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    data, _ = growing_log(tmp_path)
    run_in_small_tasks(data, tmp_path / "whole" / "prepared")
    output, times = tmp_path / "killed" / "prepared", dict[Path, int]()
    for change in itertools.count(1):
        has_died = dies_before(change, run_in_small_tasks, data, output)
        if not has_died:
            break
        now = {path: path.stat().st_mtime_ns for path in finished_tasks(output)}
        if not output.exists():
            assert {path: now.get(path) for path in times} == times, "a finished task was redone"
        times = now
    assert change > 5
    assert files_below(output.parent) == files_below(tmp_path / "whole")


_PREPARE = """
import sys
from pathlib import Path
from pipelines.executor import RayExecutor
from pipelines.settings import DataConfig
from tests.support.prepare_logs import run_in_small_tasks

data = DataConfig.model_validate_json(sys.argv[1])
run_in_small_tasks(data, Path(sys.argv[2]), RayExecutor())
"""


def kill_when_finished(data: DataConfig, output: Path, tasks: int, **environment: str) -> None:
    """Prepares in a process that is killed as soon as a number of tasks are finished."""
    command = [sys.executable, "-c", _PREPARE, data.model_dump_json(), str(output)]
    process = subprocess.Popen(command, env={**os.environ, **environment})
    deadline = time.monotonic() + 120
    while len(finished_tasks(output)) < tasks:
        assert process.poll() is None, "the process ended before it was killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_driver_of_ray_that_is_killed_twice(tmp_path: Path, ray_session: None) -> None:
    import ray

    data, _ = growing_log(tmp_path)
    run_in_small_tasks(data, tmp_path / "whole" / "prepared")
    output = tmp_path / "killed" / "prepared"
    kill_when_finished(data, output, 2)  # Its Ray dies with it.
    kill_when_finished(data, output, 9, RAY_ADDRESS=ray.get_runtime_context().gcs_address)
    assert not output.exists()
    run_in_small_tasks(data, output, RayExecutor())
    assert files_below(output.parent) == files_below(tmp_path / "whole")
    assert not list(Workspace(output).root.glob("build/*"))
