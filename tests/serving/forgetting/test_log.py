"""The log that is written again, and the days, which know its files by their marks."""

from pathlib import Path
from typing import Any

import pytest

from feature_store.core.files import write_json
from feature_store.forgotten import Forgotten
from pipelines.logs.tables import file_marks, list_files
from pipelines.prepare.cleaning.forgotten_rows import forgotten_rows
from serving.forgetting import log
from serving.nightly.days import Days
from tests.serving.nightly.test_notify import OUTCOME
from tests.support.nightly.daily_log import daily_config, partition, write_days


def test_days_know_the_files_again_after_a_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_days(tmp_path / "log", 1, 3)
    config = daily_config(tmp_path / "log", tmp_path / "out")
    days, day = Days(config), tmp_path / "out" / "2026-11-23"
    day.mkdir(parents=True)

    def marks() -> dict[str, str]:
        return file_marks(list_files(config.data))["events"]

    before = marks()
    suspect, *read = (before[str(partition(tmp_path / "log", n))] for n in (3, 1, 2))
    write_json(day / "outcome.json", OUTCOME.model_dump(mode="json"))
    write_json(day / "sources.json", sorted(read))
    days.suspect({suspect: "2026-11-23"})
    forgotten = Forgotten().adding("query", ["q1"])
    found = list(forgotten_rows(config.data, list_files(config.data), forgotten))
    assert len(found) == 3
    written: list[Any] = []

    def killed(*arguments: Any) -> None:
        if written:
            raise RuntimeError("killed")
        written.append(without(*arguments))

    without = log.without_rows
    with monkeypatch.context() as patch:
        patch.setattr(log, "without_rows", killed)
        with pytest.raises(RuntimeError, match="killed"):
            log.rewrite(config, days, found, forgotten)
    left = list(forgotten_rows(config.data, list_files(config.data), forgotten))
    assert len(left) == 2
    log.rewrite(config, days, left, forgotten)
    now = marks()
    assert not set(now.values()) & set(before.values())
    assert days.sources("2026-11-23") == {now[str(partition(tmp_path / "log", n))] for n in (1, 2)}
    assert days.suspects() == {now[str(partition(tmp_path / "log", 3))]: "2026-11-23"}
    assert not (tmp_path / "out" / "forgetting.json").exists()
