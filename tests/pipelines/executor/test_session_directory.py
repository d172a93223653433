"""The directory of Ray's sessions: it ends with its process, and so does what runs in it."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.executor import keeper
from pipelines.executor.session_directory import _remove_if_abandoned

# Starts a process in a session's directory, says so, and waits for its own end.
_DRIVER = """
import subprocess, sys
from pipelines.executor.session_directory import session_directory
with session_directory() as directory:
    child = subprocess.Popen(["sleep", "600"])
print(directory, child.pid, flush=True)
sys.stdin.read()
"""


def is_running(process: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_a_session_ends_with_its_driver(end):
    driver = subprocess.Popen(
        [sys.executable, "-c", _DRIVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    name, child = driver.stdout.readline().split()
    directory = Path(name).parent
    assert is_running(int(child))
    with (directory / "lock").open() as lock:
        if end == "kill":
            driver.kill()
        driver.communicate()
        fcntl.flock(lock, fcntl.LOCK_EX)  # Waits for the keeper, too.
    assert not directory.exists()
    assert not is_running(int(child))


def test_the_next_start_removes_what_is_abandoned_and_nothing_else(tmp_path):
    abandoned, used, other, link = (tmp_path / name for name in ("a", "used", "other", "link"))
    for directory in (abandoned, used, other):
        directory.mkdir()
    for directory in (abandoned, used):
        (directory / "lock").touch()
    link.symlink_to(abandoned)
    environment = {**os.environ, keeper.VARIABLE: str(abandoned)}
    # Its environment can be read for sure once it has answered.
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(["cat"], env=environment, text=True, **pipes) as left:
        assert left.stdin is not None
        assert left.stdout is not None
        print("started", file=left.stdin, flush=True)
        assert left.stdout.readline() == "started\n"
        with (used / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for directory in (link, other, used):
                _remove_if_abandoned(directory)
        assert all(directory.exists() for directory in (abandoned, used, other))
        _remove_if_abandoned(abandoned)
        assert not abandoned.exists()
        assert left.wait(timeout=60) < 0


def test_ray_runs_in_a_directory_of_its_own(ray_session):
    from ray._private.worker import global_worker

    directory = Path(global_worker.node.get_session_dir_path()).parents[1]
    assert directory.name.startswith("recsys-ray-")
    assert directory.stat().st_mode & 0o777 == 0o700
    assert keeper.VARIABLE not in os.environ
