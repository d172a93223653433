"""Forgetting everywhere: after it, no file of log, output or MLflow holds the id, and all works."""

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

import serving
from feature_store.core.errors import UserError
from recsys.config.config import Config
from recsys.tracking import existing_store, tracking_uri
from serving.forgetting import everywhere
from serving.forgetting.everywhere import forget_everywhere
from serving.forgetting.remake import stages_of
from serving.nightly.days import Days
from serving.nightly.job import run_day
from serving.registry.registry import resolve
from tests.contracts.files.test_forgetting import files_with
from tests.support.hostile.held_locks import held_by_another
from tests.support.nightly.daily_log import (
    daily_config,
    events_of,
    midnight,
    partition,
    write_day,
    write_days,
)

QUIET = Console(quiet=True)
ALICE = "alice-7f3a@example.org"
NEEDLES = [ALICE.encode()]


def with_alice(day: int) -> pa.Table:
    """Returns the events of a day, of which some are Alice's; ids are dictionaries."""
    events = events_of(day)
    ids = [ALICE if n % 10 == 0 else each for n, each in enumerate(events["query_id"].to_pylist())]
    return events.set_column(0, "query_id", pa.array(ids).dictionary_encode())


@pytest.fixture(scope="module")
def forgotten(tmp_path_factory: pytest.TempPathFactory, new_store: Path) -> Any:
    """Runs a day with Alice; forgets her, killed in between, and again."""
    directory = tmp_path_factory.mktemp("forgotten")
    events, output = directory / "log", directory / "runs"
    output.mkdir()
    shutil.copy(new_store, output / "mlflow.db")
    config = daily_config(
        events,
        output,
        tracking={"experiment": "nightly"},
        features={
            "item": [{"name": "item_id", "kind": "id", "dim": 8}],
            "query": [{"name": "query_id", "kind": "id", "dim": 8}],
        },
        model={"query_tower": []},
        training={"epochs": 1},
        ranking={"channels": []},
    )
    found = SimpleNamespace(config=config, directory=directory, output=output, events=events)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
        write_days(events, 1, 9)
        write_day(events, 10, with_alice(10))
        assert run_day(config, midnight(10), console=QUIET).outcome == "promoted"
        uri = tracking_uri(config)
        resolve("models:/nightly@champion", tracking_uri=uri)
        (output / "study" / "thesis").mkdir(parents=True)
        (output / "mine.txt").write_text("mine")
        found.before = files_with(directory, NEEDLES)
        found.dry = forget_everywhere(config, query_ids=[ALICE], dry_run=True, console=QUIET)
        found.after_dry = files_with(directory, NEEDLES)
        stats = partition(events, 10).stat().st_mtime_ns
        with pytest.MonkeyPatch.context() as killed:
            killed.setattr(everywhere, "remake", _killed)
            with pytest.raises(RuntimeError, match="killed"):
                forget_everywhere(config, query_ids=[ALICE], console=QUIET)
        found.served = resolve("models:/nightly@champion", tracking_uri=uri)
        found.report = forget_everywhere(config, query_ids=[ALICE], console=QUIET)
        found.times = (stats, partition(events, 10).stat().st_mtime_ns)
        found.after = files_with(directory, NEEDLES)
        found.again = forget_everywhere(config, query_ids=[ALICE], console=QUIET)
        resolve("models:/nightly@champion", tracking_uri=uri)
        yield found


def _killed(*_: Any) -> None:
    raise RuntimeError("killed")


def test_nothing_holds_the_id_any_more(forgotten: Any) -> None:
    parts = {name.split("/")[0] for name in forgotten.before}
    assert parts == {"log", "runs", "cache"}
    for name in ("runs/prepared", "runs/bundle", "runs/2026-11-11/bundle", "runs/mlartifacts"):
        assert any(each.startswith(name) for each in forgotten.before), name
    assert forgotten.after == set()


def test_a_dry_run_lists_and_changes_nothing(forgotten: Any) -> None:
    assert forgotten.after_dry == forgotten.before
    lines = "\n".join(forgotten.dry.done)
    assert f"events: 15 of 150 rows of {partition(forgotten.events, 10)}" in lines
    assert "run again without them: prepare, train, evaluate, export" in lines
    assert f"removed: {forgotten.output}/2026-11-11/bundle" in lines
    assert "removed: version 1 of nightly" in lines
    assert "removed: the downloaded bundle" in lines


def test_the_log_has_all_other_rows_in_their_form(forgotten: Any) -> None:
    table = pq.read_table(partition(forgotten.events, 10))
    expected = with_alice(10)
    kept = [n for n in range(len(expected)) if expected["query_id"][n].as_py() != ALICE]
    plain = expected.take(kept)
    for name in expected.column_names:
        assert table[name].to_pylist() == plain[name].to_pylist()
    assert forgotten.times[0] == forgotten.times[1]
    assert len(pq.read_table(partition(forgotten.events, 9))) == 150


def test_a_new_model_is_served_and_the_earlier_ones_are_gone(forgotten: Any) -> None:
    config, output = forgotten.config, forgotten.output
    with existing_store(tracking_uri(config), "test") as client:
        versions = client.search_model_versions("name='nightly'")
        aliases = client.get_registered_model("nightly").aliases
    assert [str(each.version) for each in versions] == ["2"]
    assert {name: str(version) for name, version in aliases.items()} == {
        "champion": "2",
        "challenger": "2",
    }
    assert os.readlink(output / "latest") == "adopted"
    assert serving.load(output / "latest" / "bundle").recommend("q1", 5).items
    answer = serving.load(output / "latest" / "bundle").recommend(ALICE, 5)
    assert answer.fallback
    with pytest.raises(UserError, match="nothing to roll back to"):
        serving.registry.registry.rollback("nightly", tracking_uri=tracking_uri(config))


def test_what_is_not_reached_is_said(forgotten: Any) -> None:
    places = "\n".join(forgotten.report.unreached)
    assert f"{forgotten.output}/study, which no command of recsys has written" in places
    assert f"{forgotten.output}/mine.txt" in places
    assert (forgotten.output / "study" / "thesis").is_dir()
    for words in ("backups", "other MLflow stores", "servers on other machines", "serve --log"):
        assert words in places


def test_stages_that_have_run_run_again(tmp_path: Path) -> None:
    config = daily_config(tmp_path / "log", tmp_path / "out")
    for name, stages in (
        ("none", []),
        ("prepared", ["prepare"]),
        ("feature_store", ["prepare", "materialize"]),
        ("train", ["prepare", "materialize", "train"]),
        ("evaluation", ["prepare", "materialize", "train", "evaluate"]),
        ("bundle", ["prepare", "materialize", "train", "evaluate", "export"]),
    ):
        (tmp_path / "out" / name).mkdir(parents=True)
        assert stages_of(config) == stages


def test_the_job_and_the_forgetting_wait_for_each_other(forgotten: Any) -> None:
    with (
        held_by_another(forgotten.output / "job"),
        pytest.raises(UserError, match="wait for it, give --wait"),
    ):
        forget_everywhere(forgotten.config, query_ids=["q1"], dry_run=True, console=QUIET)


def test_a_second_call_finds_nothing(forgotten: Any) -> None:
    assert forgotten.again.done == ["run again without them: prepare, train, evaluate, export"]


def test_the_next_day_works_alone_and_knows_its_files(forgotten: Any) -> None:
    config: Config = forgotten.config
    idle = run_day(config, midnight(11), console=QUIET)
    assert (idle.outcome, idle.champion) == ("nothing new", "2")
    write_day(forgotten.events, 11, with_alice(11))
    found = run_day(config, midnight(11), console=QUIET)
    assert found.is_final, found.reason
    assert found.new_files == 1
    assert "cannot be compared" not in found.reason
    below = {name for name in files_with(forgotten.output, NEEDLES)}
    assert below == set()
    assert Days(config).outcome("2026-11-12") is not None
