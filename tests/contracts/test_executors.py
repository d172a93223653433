"""Executors: whichever runs the tasks, the prepared data is the same to the byte."""

import io
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pipelines.executor import Executor, LocalExecutor, RayExecutor
from pipelines.prepare.prepare import prepare
from pipelines.prepared.examples import SEQUENCES
from tests.support.planted import planted_config, write_planted_log
from tests.support.prepare_logs import (
    AS_OF,
    CountingExecutor,
    files_below,
    growing_log,
    run_in_small_tasks,
)

ENGINES: dict[str, type[RayExecutor | LocalExecutor]] = {
    "ray": RayExecutor,
    "local": LocalExecutor,
}


def test_the_planted_log(tmp_path: Path, ray_session: None) -> None:
    write_planted_log(tmp_path / "log")
    config = planted_config(tmp_path / "log", tmp_path)
    for name, engine in ENGINES.items():
        output = tmp_path / name / "prepared"
        prepare(config.data, config.features, output, executor=engine(), as_of=AS_OF)
    assert files_below(tmp_path / "ray") == files_below(tmp_path / "local")


def test_a_log_of_all_kinds_that_grows(tmp_path: Path, ray_session: None) -> None:
    data, grow = growing_log(tmp_path)
    for is_second in (False, True):
        if is_second:
            grow()
        for name, engine in ENGINES.items():
            run_in_small_tasks(data, tmp_path / name / "prepared", engine())
        files = files_below(tmp_path / "local")
        assert files == files_below(tmp_path / "ray")
        assert {path.split("/")[1] for path in files if path.startswith("prepared/")} >= {
            *("train", "validation", "test", "rejected", "vocabulary", "statistics", SEQUENCES)
        }
    assert len(list((tmp_path / "local" / "prepared" / "train").iterdir())) > 1


class Killed(BaseException):
    """Stands for the death of a process between two tasks."""


class DyingExecutor(CountingExecutor):
    """An executor whose process dies once some tasks have run."""

    def __init__(self, executor: Executor, tasks: int) -> None:
        super().__init__(executor)
        self._tasks = tasks

    def run(self, function: Any, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for result in super().run(function, tasks):
            if self.tasks > self._tasks:
                raise Killed
            yield result


@pytest.mark.parametrize("tasks", [1, 5, 14])
@pytest.mark.parametrize(("dies", "resumes"), [("local", "ray"), ("ray", "local")])
def test_one_resumes_where_the_other_was_killed(
    tmp_path: Path, ray_session: None, dies: str, resumes: str, tasks: int
) -> None:
    data, _ = growing_log(tmp_path)
    whole, killed = tmp_path / "whole" / "prepared", tmp_path / "killed" / "prepared"
    unkilled = CountingExecutor()
    run_in_small_tasks(data, whole, unkilled)
    with pytest.raises(Killed):
        run_in_small_tasks(data, killed, DyingExecutor(ENGINES[dies](), tasks))
    assert not killed.exists()
    resumed = CountingExecutor(ENGINES[resumes]())
    run_in_small_tasks(data, killed, resumed)
    assert files_below(killed.parent) == files_below(whole.parent)
    assert resumed.tasks <= unkilled.tasks - tasks  # Finished tasks were not run again.


def test_local_imports_no_engine(tmp_path: Path) -> None:
    write_planted_log(tmp_path / "log")
    config = planted_config(tmp_path / "log", tmp_path / "out")
    assert config.executor == "local"
    code = (
        "import json, sys; from recsys.config.load import parse_config\n"
        "from recsys.stages.prepare import prepare\n"
        "prepare(parse_config(json.loads(sys.stdin.read())))\n"
        "assert 'ray' not in sys.modules\n"
    )
    document = json.dumps(config.model_dump(mode="json"))
    subprocess.run([sys.executable, "-c", code], input=document, text=True, check=True)


def test_the_executor_is_in_no_fingerprint(tmp_path: Path, ray_session: None) -> None:
    from recsys.stages.prepare import prepare as prepare_stage

    write_planted_log(tmp_path / "log")
    config = planted_config(tmp_path / "log", tmp_path / "out")
    first = prepare_stage(config)
    lines = Console(record=True, file=io.StringIO())
    assert prepare_stage(config.model_copy(update={"executor": "ray"}), console=lines) == first
    assert "is up to date" in lines.export_text()
