"""Directories of the days: which of them are removed."""

from pathlib import Path

from feature_store.core.files import write_json
from serving.nightly.days import OUTCOME, Days
from serving.nightly.outcome import Kind, Outcome
from tests.support.planted import planted_config


def test_the_last_finished_day_stays_however_long_nothing_comes(tmp_path: Path) -> None:
    days = Days(planted_config(tmp_path / "log", tmp_path))
    kinds: list[Kind] = ["promoted", "kept", "kept", *["nothing new"] * 3]
    for day, kind in enumerate(kinds, 1):
        date = f"2026-11-0{day}"
        seal = "seal" if kind == "promoted" else None
        outcome = Outcome(
            date=date, as_of=date, outcome=kind, reason="", model="m", metric="m", seal=seal
        )
        write_json(tmp_path / date / OUTCOME, outcome.model_dump(mode="json"))
    days.prune(2, {"seal"})
    left = sorted(path.name for path in tmp_path.glob("2026-*"))
    assert left == [f"2026-11-0{day}" for day in (1, 3, 5, 6)]
