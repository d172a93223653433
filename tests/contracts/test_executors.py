"""Executors: whichever runs the tasks, the prepared data is the same to the byte."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from feature_store.schema import FeatureSchema
from pipelines.executor import Executor, LocalExecutor, RayExecutor
from pipelines.prepare import job
from pipelines.prepare.prepare import prepare
from pipelines.prepared.reader import SEQUENCES
from pipelines.settings import DataConfig
from tests.support.planted import planted_config, write_planted_log
from tests.support.prepare_logs import (
    FEATURES,
    files_below,
    items_table,
    queries_table,
    random_events,
    write_log,
)

AS_OF = datetime(2020, 1, 1, tzinfo=UTC)
ENGINES = {"ray": RayExecutor, "local": LocalExecutor}


def prepared(data: DataConfig, features: FeatureSchema, output: Path, executor: Executor) -> None:
    prepare(data, features, output, executor=executor, as_of=AS_OF, console=Console(quiet=True))


def growing_log(directory: Path) -> tuple[DataConfig, Callable[[], None]]:
    """Every kind of feature, histories, rejected rows; and a call that adds events and items."""
    tables = write_log(directory / "log", items=items_table(), queries=queries_table())
    faulty = pa.table(
        {
            "query_id": ["q1", None, "q2", "q3"],
            "item_id": ["i1", "i2", "unknown", "i3"],
            "timestamp": [None, 1_500_000_001, 1_500_000_002, 1_900_000_000],
            "weight": pa.array([1, 1, 1, 1], pa.float32()),
        }
    )

    def add(day: int, *, items: int) -> None:
        path = directory / "events" / f"date=2017-07-{day:02}" / "part.parquet"
        path.parent.mkdir(parents=True)
        events = [random_events(day, rows=300, items=items), faulty.cast(random_events(0).schema)]
        pq.write_table(pa.concat_tables(events), path)

    add(1, items=60)
    add(2, items=60)

    def grow() -> None:
        add(3, items=70)
        pq.write_table(items_table(70), directory / "log" / "items.parquet")

    columns = {"weight": "weight"}
    return DataConfig(events=str(directory / "events"), columns=columns, **tables), grow


def test_the_planted_log(tmp_path: Path, ray_session: None) -> None:
    write_planted_log(tmp_path / "log")
    config = planted_config(tmp_path / "log", tmp_path)
    for name, engine in ENGINES.items():
        prepared(config.data, config.features, tmp_path / name / "prepared", engine())
    assert files_below(tmp_path / "ray") == files_below(tmp_path / "local")


def test_a_log_of_all_kinds_that_grows(
    tmp_path: Path, ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_TASK_ROWS", 150)
    data, grow = growing_log(tmp_path)
    for is_second in (False, True):
        if is_second:
            grow()
        for name, engine in ENGINES.items():
            prepared(data, FEATURES, tmp_path / name / "prepared", engine())
        files = files_below(tmp_path / "local")
        assert files == files_below(tmp_path / "ray")
        assert {path.split("/")[1] for path in files if path.startswith("prepared/")} >= {
            *("train", "validation", "test", "rejected", "vocabulary", "statistics", SEQUENCES)
        }
    assert len(list((tmp_path / "local" / "prepared" / "train").iterdir())) > 1


class Killed(BaseException):
    """Stands for the death of a process between two tasks."""


class DyingExecutor:
    """An executor that ends once a number of tasks have run.

    Args:
        executor: Executor that runs them.
        tasks: Number of tasks that run.
    """

    def __init__(self, executor: Executor, tasks: int) -> None:
        self._executor = executor
        self.left = tasks

    def start(self, say: Callable[[str], None]) -> None:
        self._executor.start(say)

    def run(self, function: Any, tasks: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        for result in self._executor.run(function, tasks):
            if not self.left:
                raise Killed
            self.left -= 1
            yield result


@pytest.mark.parametrize("tasks", [1, 5, 14])
@pytest.mark.parametrize(("dies", "resumes"), [("local", "ray"), ("ray", "local")])
def test_one_resumes_where_the_other_was_killed(
    tmp_path: Path, ray_session: None, dies: str, resumes: str, tasks: int
) -> None:
    data, _ = growing_log(tmp_path)
    whole, killed = tmp_path / "whole" / "prepared", tmp_path / "killed" / "prepared"
    prepared(data, FEATURES, whole, LocalExecutor())
    with pytest.raises(Killed):
        prepared(data, FEATURES, killed, DyingExecutor(ENGINES[dies](), tasks))
    assert not killed.exists()
    counted = DyingExecutor(ENGINES[resumes](), 1000)
    prepared(data, FEATURES, killed, counted)
    assert files_below(killed.parent) == files_below(whole.parent)
    fresh = DyingExecutor(LocalExecutor(), 1000)
    prepared(data, FEATURES, tmp_path / "fresh" / "prepared", fresh)
    assert counted.left - fresh.left >= tasks  # Finished tasks were not run again.


def test_local_imports_no_engine(tmp_path: Path) -> None:
    """A laptop's `prepare` on a small log costs no start of Ray."""
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
