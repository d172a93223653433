"""A model that is better overall and worse in a slice: it is said how often, and what to do."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from feature_store.core.errors import UserError
from recsys.cli import app
from serving.nightly.notify import notify
from serving.nightly.outcome import Outcome
from serving.nightly.page import day_page
from serving.nightly.worse import better_but_kept, why_worse
from tests.support.nightly.daily_log import daily_config


def kept(champion: str = "2", **keys: Any) -> Outcome:
    """Returns the outcome of a day whose champion stays."""
    day: dict[str, Any] = {"date": "2026-11-12", "as_of": "2026-11-12T00:00:00+00:00"}
    named = {"reason": "", "model": "shop", "metric": "recall@50", "champion": champion}
    return Outcome(outcome="kept", **day, **named, **keys)


class Compared:
    """Stands for a judgement."""

    def __init__(self, verdict: str) -> None:
        self.comparison = type("Comparison", (), {"verdict": verdict})

    def sentence(self) -> str:
        return "B is better than A: ...; but B is worse in tail"


@pytest.mark.parametrize(
    ("verdict", "days", "expected"),
    [
        ("worse", 4, None),
        ("better", 1, "in tail; for the first time this champion stays although the new model is"),
        ("better", 19, "in tail; on 19 days so far this champion stays although the new model is"),
    ],
)
def test_what_to_do_is_said_where_the_model_is_better_overall(
    verdict: Any, days: int, expected: str | None
) -> None:
    judgement: Any = Compared(verdict)
    found = why_worse(judgement, days, "shop")
    assert found.startswith("worse than the champion (A): B is better than A")
    assert (expected is None) == ("recsys promote shop" not in found)
    assert (expected or "") in found


@pytest.mark.parametrize("options", [[], ["--may-be-worse"]])
def test_the_command_exports_a_worse_model_only_where_it_is_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    asked: list[bool] = []

    def export(_: Any, *, may_be_worse: bool, console: Any) -> Any:
        asked.append(may_be_worse)
        raise UserError("enough")

    monkeypatch.setattr("serving.exporting.export.export", export)
    path = tmp_path / "config.yaml"
    path.write_text(daily_config(tmp_path, tmp_path / "out").model_dump_json())
    CliRunner().invoke(app, ["export", str(path), *options])
    assert asked == [bool(options)]


def test_days_are_counted_until_there_is_another_champion() -> None:
    assert better_but_kept([], "2") == 0
    assert better_but_kept([kept(better_but_kept=3)], "2") == 3
    assert better_but_kept([kept(better_but_kept=3)], "3") == 0


def test_the_age_of_the_champion_is_on_the_page_and_among_the_gauges(tmp_path: Path) -> None:
    path = tmp_path / "recsys.prom"
    job = {"notify": {"textfile": str(path)}}
    outcome = kept(champion_age_days=19, better_but_kept=17)
    notify(daily_config(tmp_path, tmp_path / "out", job=job), outcome, tmp_path, print)
    gauges = path.read_text()
    assert 'recsys_job_champion_age_days{model="shop"} 19.0' in gauges
    assert 'recsys_job_better_but_kept_days{model="shop"} 17.0' in gauges
    page = day_page(outcome, None, None)
    facts = str(page.sections[0].parts)
    assert "('Age of the champion in days', '19')" in facts
    assert "a new model was better overall', '17'" in facts
    assert json.loads(outcome.model_dump_json())["better_but_kept"] == 17
