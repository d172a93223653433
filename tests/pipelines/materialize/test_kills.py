"""`materialize` after its process died: readers see the old rows or the new ones, no mixture."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from feature_store.offline import snapshots as offline
from pipelines.materialize import histories, job
from pipelines.materialize import materialize as stage
from recsys.config.config import Config
from recsys.stages.materialize import materialize
from recsys.stages.prepare import prepare
from tests.support.kills import left_by_the_dead
from tests.support.materialized import QUIET, configure, fresh_answers, run, write_tables
from tests.support.prepare_logs import files_below, items_table, random_events


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return configure(tmp_path, write_tables(tmp_path))


@pytest.mark.parametrize("executor", ["local", "ray"])
def test_many_parts_and_finished_tasks_are_not_redone(
    config: Config, monkeypatch: pytest.MonkeyPatch, ray_session: None, executor: str
):
    run(config)
    expected = fresh_answers(config)
    shutil.rmtree(config.feature_store_dir)
    config = config.model_copy(update={"executor": executor})
    monkeypatch.setattr(job, "_EXECUTOR_FROM_ROWS", 0)
    monkeypatch.setattr(histories, "_PART_EVENTS", 100)
    monkeypatch.setattr(offline, "_PART_IDS", 7)
    written: list[dict[str, int]] = []
    load = stage.load

    def interrupted(store: Any, contents: Any, waiting: list[Any]) -> None:
        files = [file for part in waiting for file in part.files]
        assert len(files) == 9 + 3 + 6
        written.append({file.name: file.stat().st_mtime_ns for file in files})
        if len(written) == 1:
            raise InterruptedError
        load(store, contents, waiting)

    monkeypatch.setattr(stage, "load", interrupted)
    with pytest.raises(InterruptedError):
        materialize(config, console=QUIET)
    materialize(config, console=QUIET)
    assert written[0] == written[1]
    assert fresh_answers(config) == expected


def change_tables(directory: Path) -> None:
    """Writes other prices, one item less, and new events."""
    items = items_table(59)
    prices = pa.array([float(i) for i in range(59)])
    items = items.set_column(items.schema.get_field_index("price"), "price", prices)
    events = pa.concat_tables([random_events(0), random_events(1, rows=100)])
    write_tables(directory, items=items, events=events)


@pytest.mark.slow
@pytest.mark.parametrize("run_before", [False, True], ids=["first", "second"])
def test_killed_at_any_moment_readers_see_all_or_nothing_and_the_next_call_finishes(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch, run_before: bool
):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # Processes die here, the machine does not.
    old = None
    if run_before:
        run(config)
        old = fresh_answers(config)
        change_tables(tmp_path)
    prepare(config, console=QUIET)
    output, before = Path(config.output), tmp_path / "before"
    shutil.copytree(output, before)
    materialize(config, console=QUIET)
    new = fresh_answers(config)
    assert new != old
    snapshots = files_below(config.feature_store_dir / "offline")
    names = files_below(config.feature_store_dir).keys()
    seen, change = set(), 0
    shutil.rmtree(output)
    before.rename(output)
    for change in left_by_the_dead(output, tmp_path / "copies", materialize, config):
        if run_before or (config.feature_store_dir / "online" / "current").exists():
            answers = fresh_answers(config)
            assert answers in (old, new), f"killed before change {change}"
            seen.add(answers == new)
        materialize(config, console=QUIET)
        assert fresh_answers(config) == new, f"killed before change {change}"
        assert files_below(config.feature_store_dir / "offline") == snapshots
        assert len(files_below(config.feature_store_dir)) == len(names), "something is left over"
    assert change > 30
    assert seen == ({False, True} if run_before else {True})


_MATERIALIZE = """
import json, sys
from recsys.config.load import parse_config
from recsys.stages.materialize import materialize

config = parse_config(json.loads(sys.stdin.read()))
print("begin", flush=True)
materialize(config)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.05, 0.2])
def test_a_process_that_is_killed_in_the_middle(config: Config, seconds: float):
    run(config)
    expected = fresh_answers(config)
    os.utime(config.data.events)
    prepare(config, console=QUIET)
    process = subprocess.Popen(
        [sys.executable, "-c", _MATERIALIZE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(config.model_dump_json().encode())
    process.stdin.close()
    assert process.stdout.readline() == b"begin\n"
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert fresh_answers(config) == expected
    materialize(config, console=QUIET)
    assert fresh_answers(config) == expected
