"""The nightly job, day by day: promoted, kept, nothing new, failed, killed, done twice."""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console
from typer.testing import CliRunner

import serving
from feature_store.core.errors import UserError
from feature_store.core.files import write_json
from feature_store.core.locks import locked
from feature_store.core.manifests import read_manifest
from pipelines.prepared.manifest import PreparedManifest
from recsys.checkpoint.manifest import read_checkpoint
from recsys.checkpoint.training_manifest import TrainManifest, continued_checkpoint
from recsys.cli import app
from recsys.config.config import Config
from recsys.dashboard.run_store import RunStore
from recsys.dashboard.runs import runs_table
from recsys.stages.refit import refit_config
from recsys.tracking import existing_store, tracking_uri
from serving.bundle.manifest import read_manifest as read_bundle
from serving.bundle.manifest import verify
from serving.nightly.day import may_have_later
from serving.nightly.days import Days
from serving.nightly.job import run_day, run_days
from serving.nightly.news import AheadError, News, require_past
from serving.nightly.outcome import Outcome
from serving.nightly.start import begin
from serving.registry.registry import champion_manifest, promote, rollback
from serving.server.build import build
from tests.support.hostile.held_locks import held_by_another
from tests.support.nightly.asked import asked_all_the_time
from tests.support.nightly.daily_log import (
    EVENTS_OF_DAY,
    daily_config,
    events_of,
    midnight,
    partition,
    without_day,
    write_day,
    write_days,
)

QUIET = Console(quiet=True)
# Changes of names, of about a thousand of a day, before which the job is killed.
KILLS = ("300", "400", "250")


def tree(directory: Path) -> dict[str, int]:
    """Returns the inode of each file below a directory."""
    return {str(p.relative_to(directory)): p.stat().st_ino for p in directory.rglob("*")}


def outcome_of(day: int, started_from: Any) -> Outcome:
    """Returns the outcome of a day with a new champion."""
    as_of = midnight(day)
    return Outcome(
        date=f"{as_of:%Y-%m-%d}",
        as_of=as_of.isoformat(),
        outcome="promoted",
        reason="",
        model="nightly",
        metric="ndcg@10",
        started_from=started_from,
    )


def worse(config: Config) -> Config:
    """Returns the configuration of a model that does not learn."""
    changes = {"sparse_learning_rate": 1e-9, "dense_learning_rate": 1e-9, "epochs": 1}
    training = config.training.model_copy(update=changes)
    ranking = config.ranking.model_copy(update={"channels": ()})
    return config.model_copy(update={"training": training, "ranking": ranking})


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory, new_store: Path) -> Any:
    """Runs four days: the first model, a better one, one that does not learn, and no news."""
    directory = tmp_path_factory.mktemp("nightly")
    events, output = directory / "events", directory / "runs"
    output.mkdir()
    shutil.copy(new_store, output / "mlflow.db")
    config = daily_config(events, output, tracking={"experiment": "nightly"}, job={"retention": 3})
    found: dict[str, Outcome] = {}
    write_days(events, 1, 11)
    filled_in = run_days(config, midnight(10), midnight(11), console=QUIET)
    found["first"] = next(filled_in)
    copy = Path(shutil.copytree(directory, directory.with_name("copy of nightly"), symlinks=True))
    found["second"] = next(filled_in)
    served = (output / "latest" / "bundle").resolve()
    learnt = [np.load(output / f"2026-11-{day}" / "learnt.npy") for day in (11, 12)]
    write_days(events, 12, 12)
    found["worse"] = run_day(worse(config), midnight(12), console=QUIET)
    found["idle"] = run_day(config, midnight(13), console=QUIET)
    return SimpleNamespace(
        config=config,
        output=output,
        events=events,
        served=served,
        learnt=learnt,
        copy=copy,
        **found,
    )


def test_the_first_model_and_a_better_one_are_promoted(week: Any) -> None:
    first, second = week.first, week.second
    assert (first.outcome, first.version, first.champion) == ("promoted", "1", "1")
    assert first.reason == "the first model"
    assert (second.outcome, second.version, second.champion) == ("promoted", "2", "2")
    assert second.reason.startswith("not worse: ")
    assert (second.new_files, second.date, second.started_from) == (0, "2026-11-12", "scratch")
    assert first.last_event.startswith("2026-11-10")  # Later events are those of later days.
    assert second.value is not None
    assert second.champion_value is not None
    assert second.events == first.events + EVENTS_OF_DAY
    day = week.output / second.date
    assert week.served == (day / "bundle").resolve()
    assert verify(day / "bundle").seal == second.seal
    assert (day / "comparison" / "comparison.html").is_file()
    assert json.loads((day / "outcome.json").read_text()) == second.model_dump(mode="json")
    page = (day / "day.html").read_text()
    assert "not worse: " in page
    assert "The new model is the champion now." in page.partition("<nav")[0]


def test_a_worse_model_is_kept_out_and_leaves_its_table_and_the_reason(week: Any) -> None:
    found = week.worse
    assert (found.outcome, found.version, found.champion) == ("kept", None, "2")
    assert found.reason.startswith("worse than the champion (A): B is worse than A")
    assert found.value < found.champion_value
    assert (found.champion_age_days, found.better_but_kept) == (1, 0)
    day = week.output / found.date
    assert (day / "evaluation" / "metrics.json").is_file()
    assert "B is worse than A" in (day / "comparison" / "comparison.html").read_text()
    assert not (day / "bundle").exists()
    champion = champion_manifest(week.config)
    assert champion is not None
    assert champion.seal == week.second.seal
    assert os.readlink(week.output / "latest") == week.second.date
    assert serving.load(week.output / "latest" / "bundle").recommend("q1", 5).items


def test_both_models_are_measured_on_the_same_held_out_items(week: Any) -> None:
    comparison = json.loads(
        (week.output / week.second.date / "comparison" / "comparison.json").read_text()
    )
    assert comparison["left_out"] == 0
    # A champion that is evaluated anew knows nothing of the items that came since.
    assert len(week.learnt[0]) < len(week.learnt[1])


def test_a_day_without_events_does_nothing(week: Any) -> None:
    assert (week.idle.outcome, week.idle.champion) == ("nothing new", "2")
    assert (week.idle.champion_age_days, week.second.champion_age_days) == (2, 0)
    assert week.idle.reason == "no event came since 2026-11-13"
    assert (week.idle.events, week.idle.last_event) == (week.worse.events, week.worse.last_event)


def test_a_finished_day_is_not_done_again(week: Any) -> None:
    before = tree(week.output)
    for outcome in (week.second, week.worse):
        as_of = midnight(11 if outcome is week.second else 12)
        again = run_day(week.config, as_of, console=QUIET)
        assert again == outcome.model_copy(update={"is_repeated": True})
    assert tree(week.output) == before


def test_days_are_done_in_order(week: Any) -> None:
    found = run_day(week.config, midnight(9), console=QUIET)
    assert found.outcome == "nothing new"
    assert "the later day 2026-11-13 is finished already" in found.reason
    with pytest.raises(UserError, match="--from 2026-11-13 is after --to 2026-11-12; swap them"):
        list(run_days(week.config, midnight(12), midnight(11), console=QUIET))


def test_a_second_job_leaves_with_a_sentence(week: Any) -> None:
    with (
        held_by_another(week.output / "job"),
        pytest.raises(UserError, match="wait for it, give --wait"),
    ):
        run_day(week.config, midnight(12), console=QUIET)


def test_a_plain_run_waits_for_the_job(week: Any) -> None:
    with held_by_another(week.output / "job"), pytest.raises(UserError, match="give --wait"):
        serving.run(week.config, as_of=midnight(13), console=QUIET)


def test_no_other_command_changes_model_or_data_while_the_day_is_at_work(
    week: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tries in another thread, whose locks are its own; then with data that has changed."""
    config, asked = week.config, []
    before = read_manifest(config.prepared_dir, PreparedManifest)

    def evaluate(*_: Any, **__: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            asked.append(pool.submit(_takes, config.train_dir).result())
        raise UserError("enough")

    monkeypatch.setattr("serving.nightly.day.evaluate", evaluate)
    write_days(week.events, 13, 13)
    found = run_day(config, midnight(13), console=QUIET)
    assert (found.outcome, found.reason, asked) == ("failed", "enough", [False])
    assert _takes(config.train_dir)
    assert before is not None
    last_event = midnight(13).isoformat()
    other = before.model_copy(update={"last_event": last_event})
    monkeypatch.setattr(News, "prepare", lambda *_: other)
    found = run_day(config, midnight(13), console=QUIET)
    assert found.outcome == "failed"
    assert "another command has prepared" in found.reason
    without_day(week.events, 13)
    monkeypatch.undo()
    assert run_day(config, midnight(13), console=QUIET).outcome == "nothing new"


def _takes(output: Path) -> bool:
    """Returns whether this thread can lock an output."""
    try:
        with locked(output):
            return True
    except UserError:
        return False


def test_what_another_command_has_prepared_does_not_hide_later_events() -> None:
    day = outcome_of(10, "scratch")
    counts = SimpleNamespace(rejected={})
    same: Any = SimpleNamespace(as_of=day.as_of, counts=counts)
    other: Any = SimpleNamespace(as_of=midnight(20).isoformat(), counts=counts)
    assert [may_have_later(each, day) for each in (same, other, None)] == [False, True, True]
    counts.rejected["events: future timestamp"] = 3
    assert may_have_later(same, day)


def test_old_days_go_but_not_the_champions(week: Any) -> None:
    assert not (week.output / week.first.date).exists()
    assert (week.output / week.second.date / "train").is_dir()


def test_a_model_without_channels_is_kept_without_those_of_an_earlier_one(
    week: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = read_bundle(week.config.bundle_dir)
    for fusion in (bundle.fusion, None):
        changed = bundle.model_copy(update={"fusion": fusion})
        monkeypatch.setattr("serving.nightly.days.read_bundle", lambda _, found=changed: found)
        Days(week.config).adopt(week.second.model_copy(update={"date": "adopted"}))
        assert (week.output / "adopted" / "fusion").is_dir() == (fusion is not None)
        assert (week.output / "adopted" / "train").is_dir()
    shutil.rmtree(week.output / "adopted")


def test_what_is_no_day_is_neither_removed_nor_replaced(week: Any) -> None:
    other = week.output / "2026-01-01"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    run_day(week.config, midnight(12), console=QUIET)
    assert (other / "notes.txt").read_text() == "mine"
    with pytest.raises(UserError, match="2026-01-01"):
        run_day(week.config, datetime(2026, 1, 1, tzinfo=UTC), console=QUIET)
    shutil.rmtree(other)


def test_a_day_that_cannot_be_kept_is_told_nevertheless(
    week: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError("no space left")

    told: list[Outcome] = []
    monkeypatch.setattr(
        "serving.nightly.job.notify", lambda config, outcome, *_: told.append(outcome)
    )
    monkeypatch.setattr(Days, "write", full)
    with pytest.raises(OSError, match="no space left"):
        run_day(week.config, midnight(8), console=QUIET)
    assert [(each.outcome, each.reason) for each in told] == [("failed", "OSError: no space left")]


def test_latest_is_the_champions_day_before_anybody_is_told(
    week: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    latest = week.output / "latest"
    (week.output / week.second.date / ".told").unlink()
    latest.unlink()
    served: list[str] = []
    monkeypatch.setattr("serving.nightly.job.notify", lambda *_: served.append(os.readlink(latest)))
    run_day(week.config, midnight(11), console=QUIET)
    assert served == [week.second.date]


def test_a_day_ahead_of_the_clock_and_of_the_log_is_refused_and_left_out(week: Any) -> None:
    as_of = datetime(2962, 11, 13, tzinfo=UTC)
    with pytest.raises(UserError, match=r"ahead of the clock and of the log; .* one up to 20"):
        run_day(week.config, as_of, console=QUIET)
    write_days(week.events, 13, 13)
    with pytest.raises(UserError, match="2962-11-13 is ahead"):
        run_day(week.config, as_of, console=QUIET)
    assert not (week.output / "2962-11-13").exists()
    without_day(week.events, 13)
    assert run_day(week.config, midnight(13), console=QUIET).outcome == "nothing new"


def test_a_log_ahead_of_the_clock_has_its_days() -> None:
    """Checks a simulated log, whose dates may be any."""
    last, late = "2962-11-12T23:00:00+00:00", datetime(2962, 11, 13, tzinfo=UTC)
    require_past(late, last)
    for past_events in (last, "2026-11-13T00:00:00+00:00", None):
        with pytest.raises(AheadError):
            require_past(late + timedelta(days=1), past_events)


def test_an_error_of_the_configuration_fails_the_day_and_blames_no_file(week: Any) -> None:
    wanted = {"name": "brand", "kind": "categorical", "dim": 4}
    item = [*week.config.features.model_dump(mode="json")["item"], wanted]
    broken = daily_config(week.events, week.output, features={"item": item, "query": []})
    write_days(week.events, 13, 13)
    found = run_day(broken, midnight(13), console=QUIET)
    assert (found.outcome, found.exit_code(with_outcomes=False)) == ("failed", 1)
    assert "there is no table of items" in found.reason
    assert not (week.output / "suspects.json").exists()
    with pytest.raises(UserError, match="does not exist"):
        News(daily_config(week.events / "absent", week.output), Days(broken), "2026-11-14", None)
    without_day(week.events, 13)
    assert run_day(week.config, midnight(13), console=QUIET).outcome == "nothing new"


@pytest.fixture(scope="module")
def killed(week: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Kills the job of the second day in its stages and while the day is kept; then finishes it."""
    tracking = {"experiment": "nightly"}
    config = daily_config(week.copy / "events", week.copy / "runs", tracking=tracking)
    path = tmp_path_factory.mktemp("killed") / "config.json"
    path.write_text(config.model_dump_json())
    command = [sys.executable, "-m", "tests.support.nightly.killed", str(path)]
    command += [midnight(11).isoformat(), *KILLS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    outcome = run_day(config, midnight(11), console=QUIET)
    return SimpleNamespace(config=config, deaths=done.stdout.split("\n"), outcome=outcome)


def test_a_job_that_was_killed_is_finished_by_the_next_call(week: Any, killed: Any) -> None:
    assert killed.deaths[: len(KILLS)] == [f"{change} killed" for change in KILLS]
    found, runs = killed.outcome, week.copy / "runs"
    for name in ("outcome", "reason", "champion", "value", "champion_value", "events"):
        assert getattr(found, name) == getattr(week.second, name)
    assert os.readlink(runs / "latest") == found.date
    assert verify(runs / "latest" / "bundle").seal == found.seal


def test_training_goes_on_from_the_champion_and_not_from_a_refused_model(killed: Any) -> None:
    config, runs = killed.config, Path(killed.config.output)
    config = daily_config(
        Path(config.data.events),
        runs,
        tracking={"experiment": "nightly"},
        training={
            "start": "previous",
            "replay": 0.5,
            "schedule": {"kind": "infinite", "warmup": 2, "cooldown_steps": 4},
        },
    )
    champion = read_manifest(runs / killed.outcome.date / "train", TrainManifest)
    write_days(Path(config.data.events), 12, 12)
    assert run_day(worse(killed.config), midnight(12), console=QUIET).outcome == "kept"
    write_days(Path(config.data.events), 13, 13)
    said = StringIO()
    found = run_day(config, midnight(13), console=Console(file=said))
    assert (found.started_from, found.is_final) == ("champion", True)
    trained = read_manifest(config.train_dir, TrainManifest)
    assert champion is not None
    assert trained is not None
    assert trained.started_from == champion.fingerprint
    # Two days are new to each of both models, of which one is trained to the last day.
    assert said.getvalue().count(f"{2 * EVENTS_OF_DAY} new examples, and ") == 2
    assert_goes_on_from_before_annealing(config, runs / found.date)


def assert_goes_on_from_before_annealing(config: Config, day: Path) -> None:
    """Puts a day's models where the next day goes on from them, after others were there."""
    for section in (config, refit_config(config)):
        shutil.rmtree(section.train_dir)
    begin(config, day, [], midnight(14), print)
    for section in (config, refit_config(config)):
        trained = read_manifest(section.train_dir, TrainManifest)
        _, checkpoint = read_checkpoint(continued_checkpoint(section.train_dir))
        assert trained is not None
        assert checkpoint.progress.step == checkpoint.progress.annealing_from < trained.best_step


def test_training_begins_from_scratch_where_it_must(tmp_path: Path) -> None:
    training, job = {"start": "previous"}, {"scratch_days": 3}
    config = daily_config(tmp_path, tmp_path / "out", training=training, job=job)
    earlier = [outcome_of(day, "scratch" if day == 10 else "champion") for day in (10, 11, 12)]
    for champion, day, sentence in (
        (None, 11, "training from scratch: there is no champion's checkpoint"),
        (tmp_path, 13, "training from scratch: the last day from scratch is 3 days ago or more"),
    ):
        said: list[str] = []
        begun = begin(config, champion, earlier, midnight(day), said.append)
        assert begun.training.start == "scratch"
        assert said == [sentence]
    scratch = daily_config(tmp_path, tmp_path / "out")
    assert begin(scratch, tmp_path, earlier, midnight(13), said.append) == scratch


@pytest.mark.parametrize(
    ("day", "options", "status"),
    [(11, [], 0), (11, ["--outcome-codes"], 0), (12, [], 0), (12, ["--outcome-codes"], 10)],
)
def test_the_command_prints_a_line_of_json(
    week: Any, tmp_path: Path, day: int, options: list[str], status: int
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(week.config.model_dump_json())
    command = ["run", str(path), "--as-of", f"{midnight(day):%Y-%m-%d}", *options]
    found = CliRunner().invoke(app, command)
    assert found.exit_code == status
    line = json.loads(found.stdout)
    assert (line["outcome"], line["is_repeated"]) == ("promoted" if day == 11 else "kept", True)
    assert found.stdout.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--from", "2026-11-12"], "both --from and --to"),
        (["--as-of", "2026-11-12", "--from", "2026-11-12", "--to", "2026-11-13"], "either --as-of"),
        (["--outcome-codes"], "give --as-of, too"),
    ],
)
def test_options_that_do_not_go_together(
    week: Any, tmp_path: Path, options: list[str], sentence: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(week.config.model_dump_json())
    found = CliRunner().invoke(app, ["run", str(path), *options])
    assert isinstance(found.exception, UserError)
    assert sentence in str(found.exception)


def test_a_bad_day_is_refused_and_the_next_good_one_works_alone(killed: Any) -> None:
    """Refuses a corrupt day, twice; then one of bots; then goes on with two good ones at once."""
    config = killed.config
    events, runs = Path(config.data.events), Path(config.output)
    champion = champion_manifest(config)
    write_days(events, 14, 14)
    path = partition(events, 15)
    path.parent.mkdir()
    path.write_bytes(b"PAR1 but no more")
    for _ in range(2):
        found = run_day(config, midnight(15), console=QUIET)
        assert (found.outcome, found.exit_code(with_outcomes=False)) == ("refused", 3)
        assert "date=2026-11-15/part.parquet" in found.reason
        assert "\n" not in found.reason
    bots = events_of(16)
    write_day(events, 16, bots.set_column(0, "query_id", pa.array(["q1"] * len(bots))))
    found = run_day(config, midnight(16), console=QUIET)
    assert found.outcome == "refused"
    assert "one query has 100% of all events" in found.reason
    now = champion_manifest(config)
    assert champion is not None
    assert now is not None
    assert (now.seal, found.champion) == (champion.seal, found.champion)
    write_day(events, 17, events_of(17))
    found = run_day(config, midnight(17), console=QUIET)
    assert found.is_final
    assert (found.new_files, found.events) == (2, 15 * EVENTS_OF_DAY)
    assert found.passed_over == 2
    # A file that was mended is read the next time.
    write_day(events, 15, events_of(15))
    found = run_day(config, midnight(18), console=QUIET)
    assert (found.new_files, found.events) == (1, 16 * EVENTS_OF_DAY)
    assert list(json.loads((runs / "suspects.json").read_text()).values()) == ["2026-11-17"]


def test_a_champion_of_a_plain_run_is_compared_with_while_the_alias_is_served(
    killed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Serves the alias during a promotion by hand and one by the job."""
    config = killed.config
    runs, events = Path(config.output), Path(config.data.events)
    partition(events, 16).unlink()
    write_days(events, 19, 19)
    bundle = serving.run(config, as_of=midnight(19), console=QUIET).bundle
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri(config))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    settings = serving.ServerSettings("models:/nightly@champion", reload_seconds=0.05)
    with asked_all_the_time(build(settings)) as answers:
        promote("nightly", tracking_uri=tracking_uri(config))
        answers.wait_for(bundle.seal)
        write_days(events, 20, 20)
        found = run_day(config, midnight(20), console=QUIET)
        answers.wait_for(found.seal)
    assert answers.failed == []
    # It was asked before the first promotion, between the two, while the job worked, and after it.
    assert len(answers.models) == 3
    assert answers.models[bundle.fingerprint] > 10
    assert found.outcome == "promoted"
    assert found.reason.startswith("not worse: ")
    assert verify(runs / "adopted" / "bundle").seal == bundle.seal


def test_runs_and_versions_say_what_the_day_did(week: Any) -> None:
    uri = tracking_uri(week.config)
    with existing_store(uri, "test") as client:
        tags = client.get_run(week.worse.mlflow_run_id).data.tags
        version = client.get_model_version("nightly", "2")
        pages = client.list_artifacts(week.worse.mlflow_run_id, "nightly")
    assert (tags["recsys.outcome"], tags["recsys.day"]) == ("kept", "2026-11-13")
    verdict, day = tags["mlflow.note.content"].split("\n\n---\n\n")
    assert verdict.startswith("**")
    assert "Against the best baseline" in verdict
    assert day.startswith("2026-11-13: kept. worse than the champion")
    assert "B is worse than A" in day
    assert [page.path for page in pages] == ["nightly/day.html"]
    assert version.description.startswith("2026-11-12: promoted. not worse: ")
    assert version.tags["recsys.as_of"] == "2026-11-12T00:00:00+00:00"
    store = RunStore(uri)
    store.wait()
    rows = store.rows()
    assert "kept on 2026-11-13" in str(
        runs_table(rows, [], "recall@50", total=len(rows), first=0).rows
    )


def test_a_champion_of_an_earlier_version_stays_and_the_job_goes_on(
    week: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs after an upgrade, first with a trained model and then with a bundle it cannot read."""
    config, champion = week.config, week.output / week.second.date
    previous = config.training.model_copy(update={"start": "previous", "epochs": 1})
    for directory in (config.train_dir, champion / "train"):
        path = directory / "manifest.json"
        document = json.loads(path.read_text())
        document["config"]["export"]["tolerance"] = 0.1  # A key of an earlier version.
        write_json(path, document)
    write_days(week.events, 14, 14)
    found = run_day(config.model_copy(update={"training": previous}), midnight(14), console=QUIET)
    assert (found.outcome, found.started_from, found.champion) == ("kept", "scratch", "2")
    assert "it cannot be compared: " in found.reason
    assert "and then `recsys promote nightly` make a new model the champion" in found.reason
    assert (found.uncompared, found.exit_code(with_outcomes=False)) == (1, 0)
    assert f"{champion.name} holds no checkpoint that this version can read" in found.reason
    monkeypatch.setattr("serving.nightly.day.champion_manifest", lambda _: None)
    write_days(week.events, 15, 15)
    found = run_day(config, midnight(15), console=QUIET)
    assert (found.outcome, found.champion) == ("kept", "2")
    why = "its bundle is of another version's layout"
    assert f"it cannot be compared, for 2 days in a row: {why}" in found.reason
    assert (found.uncompared, found.needs_somebody) == (2, True)
    assert [found.exit_code(with_outcomes=each) for each in (False, True)] == [1, 1]


def test_a_rollback_to_a_day_that_is_gone_is_said(week: Any) -> None:
    uri = tracking_uri(week.config)
    rollback("nightly", tracking_uri=uri)
    try:
        idle = run_day(week.config, midnight(16), console=QUIET)
        assert (idle.outcome, idle.champion) == ("nothing new", "1")
        write_days(week.events, 16, 16)
        found = run_day(week.config, midnight(16), console=QUIET)
        assert found.outcome == "kept"
        assert "3 days in a row: its checkpoint is not kept below this output" in found.reason
    finally:
        promote("nightly", version="2", tracking_uri=uri)
