"""docs/operations.md: its Python runs with stand-ins for the schedulers; its units can be read."""

import configparser
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import recsys
import serving
from serving.nightly.outcome import Outcome

PAGE = (Path(__file__).parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n# (\w+)\n(.*?)```", PAGE, re.S)


def outcome(kind: Any, days: int = 0) -> Outcome:
    """Returns the outcome of a day."""
    return Outcome(
        date="2026-11-23",
        as_of="2026-11-23T00:00:00+00:00",
        outcome=kind,
        reason="why",
        model="mine",
        metric="recall@50",
        uncompared=days,
    )


class Task:
    """A decorator of a scheduler, which keeps the functions that it is given."""

    def __init__(self) -> None:
        self.found: list[Any] = []

    def __call__(self, *functions: Any, **_: Any) -> Any:
        def keep(function: Any) -> Any:
            self.found.append(function)
            return lambda: None

        return keep(*functions) if functions else keep


def airflow(as_of: datetime) -> tuple[dict[str, Any], Any]:
    """Returns Airflow's modules and a function that runs the task for a day."""
    task = Task()
    sdk = SimpleNamespace(dag=lambda **_: lambda function: function, task=task)
    late = as_of.replace(hour=2, minute=15)
    return {"airflow": SimpleNamespace(), "airflow.sdk": sdk}, lambda: task.found[0](late)


def dagster(as_of: datetime) -> tuple[dict[str, Any], Any]:
    """Returns Dagster's module and a function that runs the asset for a day."""
    asset = Task()
    module = SimpleNamespace(
        asset=asset,
        DailyPartitionsDefinition=lambda start_date: start_date,
        AssetExecutionContext=Any,
        MaterializeResult=lambda metadata: metadata,
        Failure=RuntimeError,
    )
    context = SimpleNamespace(partition_time_window=SimpleNamespace(end=as_of))
    return {"dagster": module}, lambda: asset.found[0](context)


@pytest.mark.parametrize(("name", "code"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_a_scheduler_runs_the_day_and_fails_where_somebody_is_needed(
    name: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_of = datetime(2026, 11, 23, tzinfo=UTC)
    modules, run = {"airflow": airflow, "dagster": dagster}[name](as_of)
    for module, stand_in in modules.items():
        monkeypatch.setitem(sys.modules, module, stand_in)
    days: list[tuple[str, datetime]] = []
    monkeypatch.setattr(recsys, "load_config", lambda path: path, raising=False)
    exec(compile(code, "operations.md", "exec"), {})
    for found in (outcome("promoted"), outcome("kept", 1), outcome("nothing new")):

        def run_day(config: str, as_of: datetime, result: Outcome = found) -> Outcome:
            days.append((config, as_of))
            return result

        monkeypatch.setattr(serving, "run_day", run_day, raising=False)
        assert run()["outcome"] == found.outcome
    assert days == [("/srv/recsys/config.yaml", as_of)] * 3
    for bad in (outcome("failed"), outcome("refused"), outcome("kept", 2)):
        monkeypatch.setattr(serving, "run_day", lambda *_, result=bad: result, raising=False)
        with pytest.raises(RuntimeError, match="why"):
            run()


def test_both_schedulers_are_there() -> None:
    assert [name for name, _ in BLOCKS] == ["airflow", "dagster"]


def test_units_of_systemd_can_be_read() -> None:
    units = []
    for text in re.findall(r"```ini\n(.*?)```", PAGE, re.S):
        unit = configparser.RawConfigParser()
        unit.read_string(text)
        units.append(unit)
    service, timer = units
    assert "--as-of $(date -u +%%F) --wait" in service["Service"]["ExecStart"]
    assert timer["Timer"]["OnCalendar"] == "*-*-* 02:15 UTC"
