"""A search finds what is planted, stops the hopeless, and resumes where it was interrupted."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from rich.console import Console

from feature_store.core.errors import UserError
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.config.load import load_config, parse_config, with_values
from recsys.tuning import tune as tune_module
from recsys.tuning.journal import Ended, Journal, Started, Trial
from recsys.tuning.search import Search
from recsys.tuning.space import default_space, leaves, own_values, search_space
from tests.support.planted import planted_config

METRIC = "recall@10"


def tuned(space: dict | None = None, **tuning) -> Config:
    """Returns a configuration whose data are never read."""
    section = {"space": space or {}, **tuning}
    return planted_config(Path("log"), Path("out"), tuning=section)


# The space.


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        ({"loss.temperatur": {"low": 0.1, "high": 1}}, "loss.temperatur; did you mean loss.temper"),
        ({"ssl.alfa": {"low": 0.1, "high": 1}}, "unknown path ssl.alfa; did you mean ssl.alpha?"),
        ({"loss.temperature": {"low": 0, "high": 1}}, "loss.temperature: Input should be greater"),
        ({"loss.id_dropout": {"low": 0, "high": 1}}, "loss.id_dropout: Input should be less than"),
        ({"training.epochs": {"low": 1.5, "high": 3}}, "training.epochs: Input should be a valid"),
        ({"training.epochs": {"low": 1, "high": 3, "step": 0.5}}, "expected a whole one"),
        ({"ssl.method": {"choices": ["none", "rmf"]}}, "'rmf'"),
        ({"ssl.method": {"low": 1, "high": 2}}, "ssl.method selects a kind; expected choices"),
        ({"data.history.max_length": {"low": 1, "high": 2}}, "all trials read one prepared"),
        ({"features.item": {"choices": [[], []]}}, "all trials read one prepared directory"),
        ({"training.seed": {"low": 1, "high": 2}}, "the best of many seeds is luck"),
        ({"training.ray.workers": {"low": 1, "high": 2}}, "how a training runs"),
        ({"evaluation.select_by": {"choices": ["map@10", METRIC]}}, "trials are compared by it"),
        ({"output": {"choices": ["a", "b"]}}, "no effect on what is learnt"),
    ],
)
def test_a_bad_space_is_refused_before_anything_starts(space, expected):
    with pytest.raises(UserError, match=r"tuning\.space") as error:
        search_space(tuned(space))
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("dimension", "expected"),
    [
        ({"low": 2, "high": 1}, "tuning.space.loss.temperature: low 2.0 is not below high 1.0"),
        ({"low": 0, "high": 1, "log": True}, "log needs low above 0"),
        ({"low": 1, "high": 2, "log": True, "step": 1}, "step has no effect with log"),
        ({"low": 1, "high": 2, "lgo": True}, "did you mean low?"),
        ({"choices": [1]}, "at least 2"),
        (3, "tuning.space.loss.temperature"),
    ],
)
def test_a_bad_range_is_refused(dimension, expected):
    with pytest.raises(UserError, match="tuning") as error:
        tuned({"loss.temperature": dimension})
    assert expected in str(error.value)


def test_paths_can_be_nested_and_set_on_the_command_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tuned().model_dump(mode="json")))
    config = load_config(path, ["tuning.space.loss.temperature={low: 0.1, high: 0.2}"])
    assert config.tuning.space.keys() == {"loss.temperature"}
    assert parse_config(config.model_dump(mode="json")) == config


def test_the_default_space_holds_the_configuration_and_leaves_out_what_has_no_effect():
    config = tuned()
    space = default_space(config)
    assert space.keys() == {
        "loss.temperature",
        "loss.logq.strength",
        "loss.history_dropout",
        "model.dropout",
        "training.sparse_learning_rate",
        "training.dense_learning_rate",
        "training.weight_decay",
        "training.batch_size",
        "ssl.alpha",
    }
    assert own_values(search_space(config), config) == {
        path: leaves(config)[path] for path in space
    }
    without = with_values(config, {"ssl.method": "none"}, source="test")
    assert default_space(without).keys() == space.keys() - {"ssl.alpha"}


# The search, without trainings.


class Untracked:
    """Tracks nothing."""

    def start(self, number, values, seed, confirms) -> str:
        return f"run-{number}"

    def validated(self, trial: Trial) -> None:
        pass

    def ended(self, trial: Trial) -> None:
        pass

    def interrupted(self) -> None:
        pass


SPACE = {
    "loss.temperature": {"low": 0.01, "high": 1, "log": True},
    "model.dropout": {"low": 0.0, "high": 0.5},
    "training.batch_size": {"low": 128, "high": 1024, "step": 128},
    "model.item_tower": {"choices": [[32], [64, 32]]},
    "ssl.method": {"choices": ["none", "cfm"]},
    "ssl.alpha": {"low": 0.01, "high": 1, "log": True},
}


def score(values: dict) -> float:
    """Computes a score that is best at temperature 0.2 without dropout."""
    return max(
        0.0, 0.9 - 0.2 * abs(math.log(values["loss.temperature"] / 0.2)) - values["model.dropout"]
    )


def search_in(path: Path, config: Config) -> Search:
    return Search(config, search_space(config), Journal(path), Untracked())


def drive(search: Search, *, killed_after: int | None = None) -> None:
    """Runs trials of three validations; some are pruned, one fails."""
    validations = 0
    while (trial := search.next_trial() or search.next_confirmation()) is not None:
        number = trial.number
        for validation in range(len(trial.validations) + 1, 4):
            value = score(trial.started.values) * (1 - 0.5**validation)
            search.validated(number, validation, 10 * validation, {METRIC: value})
            validations += 1
            if validations == killed_after:
                return
        if number == 4:
            search.ended(number, "failed", "the loss is not finite at step 30.")
        else:
            search.ended(number, "pruned" if number % 3 == 2 else "finished")


def test_a_search_finds_the_optimum_and_confirms_it(tmp_path):
    search = search_in(tmp_path / "trials.jsonl", tuned(SPACE, trials=40))
    drive(search)
    assert search.is_complete
    best = search.best_trials()
    assert score(best[0].started.values) > 0.8
    assert [t.started.seed for t in search.journal.confirming(best[0].number)] == [1, 2]
    assert len(search.journal.trials) == 40 + 3 * 2
    assert set(search.importance()) <= set(SPACE)
    failed = search.journal.trials[4]
    assert failed.value(METRIC) is None
    assert failed not in best


def test_equal_trials_are_told_apart_by_the_finer_metric(tmp_path):
    search = search_in(tmp_path / "trials.jsonl", tuned(SPACE, trials=4, confirm_seeds=0))
    finer = {0: 0.3, 1: 0.6, 2: 0.9, 3: 0.6}
    while (trial := search.next_trial()) is not None:
        value = 0.5 if trial.number == 2 else 1.0
        search.validated(trial.number, 1, 10, {METRIC: value, "ndcg@all": 0.2})
        metrics = {METRIC: value, "ndcg@all": finer[trial.number]}
        search.validated(trial.number, 2, 20, metrics)
        search.ended(trial.number, "finished")
    assert [trial.number for trial in search.best_trials()] == [1, 3, 0]
    assert search.best_trials()[0].value(METRIC) == 1.0


def test_what_has_an_effect_is_important(tmp_path):
    space = {name: SPACE[name] for name in ("loss.temperature", "training.batch_size")}
    search = search_in(tmp_path / "trials.jsonl", tuned(space, trials=20, confirm_seeds=0))
    assert search.importance() == {}
    while (trial := search.next_trial()) is not None:
        value = 0.5 + 0.2 * math.log10(trial.started.values["loss.temperature"])
        search.validated(trial.number, 1, 10, {METRIC: value})
        search.ended(trial.number, "finished")
    importance = search.importance()
    assert importance["loss.temperature"] > 0.9
    assert sum(importance.values()) == pytest.approx(1.0)


def test_only_what_exists_is_suggested(tmp_path):
    search = search_in(tmp_path / "trials.jsonl", tuned(SPACE, trials=20, confirm_seeds=0))
    drive(search)
    trials = search.journal.searched
    assert {t.started.values["ssl.method"] for t in trials} == {"none", "cfm"}
    for trial in trials:
        values = trial.started.values
        assert ("ssl.alpha" in values) == (values["ssl.method"] != "none")
        assert values["training.batch_size"] % 128 == 0
        assert values["model.item_tower"] in ([32], [64, 32])
    # The configuration as it is.
    assert trials[0].started.values == own_values(search.axes, search.config)


@pytest.mark.parametrize("killed_after", [1, 14, 50, 61])
def test_a_killed_search_equals_an_unkilled_one(tmp_path, killed_after):
    config = tuned(SPACE, trials=18)
    drive(search_in(tmp_path / "whole", config))
    drive(search_in(tmp_path / "killed", config), killed_after=killed_after)
    with (tmp_path / "killed").open("a") as file:
        file.write('{"event": "ended", "tri')  # And a line was torn.
    resumed = search_in(tmp_path / "killed", config)
    assert not resumed.is_complete
    drive(resumed)
    whole, killed = Journal(tmp_path / "whole"), Journal(tmp_path / "killed")
    assert [t.started for t in killed.trials.values()] == [t.started for t in whole.trials.values()]
    assert [t.validations for t in killed.trials.values()] == [
        t.validations for t in whole.trials.values()
    ]


def test_more_trials_extend_a_search(tmp_path):
    drive(search_in(tmp_path / "grown", tuned(SPACE, trials=12)))
    grown = search_in(tmp_path / "grown", tuned(SPACE, trials=16))
    assert not grown.is_complete
    drive(grown)
    drive(search_in(tmp_path / "whole", tuned(SPACE, trials=16)))
    # Numbers differ, for the first search's confirmations come between.
    found, expected = (
        [t.started.values for t in Journal(tmp_path / name).searched] for name in ("grown", "whole")
    )
    assert found[:12] == expected[:12]
    assert len(found) == 16


def test_a_search_whose_trials_all_failed_begins_anew(tmp_path):
    config, work_dir = tuned(), tmp_path / "tuning.partial"
    for status, begins_anew in (("failed", True), ("finished", False)):
        tune_module._open_work_dir(config, work_dir, "identity", None)
        journal = Journal(work_dir / tune_module.TRIALS)
        journal.write(Started(trial=0, values={}, seed=0, confirms=None, mlflow_run_id="r"))
        journal.write(Ended(trial=0, status=status, seconds=1.0))
        tune_module._open_work_dir(config, work_dir, "identity", None)
        assert (work_dir / tune_module.TRIALS).exists() != begins_anew


def test_no_values_are_tried_twice(tmp_path):
    space = {"loss.temperature": {"choices": [0.1, 0.2]}, "model.dropout": {"choices": [0.0, 0.1]}}
    search = search_in(tmp_path / "trials.jsonl", tuned(space, trials=9, confirm_seeds=0))
    drive(search)
    assert len(search.journal.searched) == 4
    assert search.is_complete


def test_hopeless_trials_are_stopped_whatever_process_saw_the_others(tmp_path):
    from recsys.tuning.trials import Halving

    config = tuned({"loss.temperature": {"low": 0.1, "high": 1}}, grace_validations=2)
    search = search_in(tmp_path / "trials.jsonl", config)
    for value in (0.5, 0.6, 0.7):
        trial = search.next_trial()
        for validation in (1, 2, 3):
            search.validated(trial.number, validation, validation, {METRIC: value})
        search.ended(trial.number, "finished")

    class RayTrial:
        def __init__(self, trial_id: str) -> None:
            self.trial_id = trial_id

    def decisions(halving, trial_id: str, value: float) -> list[str]:
        trial = RayTrial(trial_id)
        halving.on_trial_add(None, trial)
        return [
            halving.on_trial_result(None, trial, {"validation": v, "value": value}) for v in (1, 2)
        ]

    halving = Halving(search_in(tmp_path / "trials.jsonl", config), math.inf)
    assert decisions(halving, "good", 0.8) == ["CONTINUE", "CONTINUE"]
    assert decisions(halving, "hopeless", 0.1) == ["CONTINUE", "STOP"]
    assert halving.verdicts == {"hopeless": "pruned"}
    late = Halving(search_in(tmp_path / "trials.jsonl", config), time.monotonic())
    assert decisions(late, "good", 0.8)[0] == "STOP"
    assert late.verdicts["good"] == "stopped"


# Trials that train.

# With the dense learning rate of `tunable`, only the first of these learns anything.
RATES = {"training.sparse_learning_rate": {"choices": [0.05, 1e-9]}}


def tunable(planted: Config, directory: Path, **tuning) -> Config:
    """Returns a search over the prepared data of another output."""
    directory.mkdir(exist_ok=True)
    (directory / "prepared").symlink_to(planted.prepared_dir.resolve())
    training = {"epochs": 3, "dense_learning_rate": 1e-9}
    settings = {"space": RATES, "concurrent": 1, "confirm_seeds": 1, "grace_validations": 1}
    document = planted.model_dump(mode="json")
    document["output"] = str(directory)
    document["training"] |= training
    document["tuning"] = {**settings, **tuning}
    return parse_config(document)


@pytest.mark.slow
def test_the_planted_value_is_found_and_every_trial_is_tracked(planted, ray_session, tmp_path):
    from mlflow import MlflowClient

    from recsys.tuning.tune import tune

    space = {**RATES, "training.dense_learning_rate": {"choices": [1e-9, 1e30]}}
    config = tunable(planted, tmp_path / "out", trials=4, space=space)
    result = tune(config)
    journal = Journal(config.tuning_dir / "trials.jsonl")
    good = {"training.sparse_learning_rate": 0.05, "training.dense_learning_rate": 1e-9}
    assert result.best.values == good
    assert len(result.best.confirmed) == 1
    assert result.own_value == journal.trials[0].value(METRIC) > 0.5
    endings = {}
    for trial in journal.searched:
        values = trial.started.values
        if values["training.dense_learning_rate"] == 1e30:
            assert trial.status == "failed"
            assert "not finite" in trial.ended.error
        elif values != good:
            endings.setdefault(trial.status, []).append(len(trial.validations))
    assert result.trials["failed"] > 0
    assert set(endings["pruned"]) == {
        1
    }  # They are hopeless, and stopped after the first of three validations.

    client = MlflowClient(tracking_uri=result.mlflow_uri)
    for trial in journal.trials.values():
        run = client.get_run(trial.started.mlflow_run_id)
        assert run.data.tags["mlflow.parentRunId"] == result.mlflow_run_id
        assert run.data.tags["recsys.tuning.status"] == trial.status
        for path, value in trial.started.values.items():
            assert float(run.data.params[path]) == value
        history = client.get_metric_history(run.info.run_id, "validation/recall_at_10")
        assert len(history) == len(trial.validations)
    assert client.get_run(result.mlflow_run_id).info.status == "FINISHED"

    best = load_config(config.tuning_dir / "best.yaml")
    assert best.training.sparse_learning_rate == 0.05
    assert best.model == config.model
    assert best.prepared_dir == config.prepared_dir
    assert pq.read_table(config.tuning_dir / "trials.parquet").num_rows == len(journal.trials)
    page = (config.tuning_dir / "report.html").read_text()
    assert "training.sparse_learning_rate" in page
    assert "<script" not in page

    written = (config.tuning_dir / "manifest.json").stat().st_mtime_ns
    assert tune(config) == result
    assert (config.tuning_dir / "manifest.json").stat().st_mtime_ns == written


@pytest.mark.slow
def test_an_interrupted_search_is_resumed(planted, ray_session, tmp_path):
    from recsys.tuning.tune import tune

    class Interrupting(Console):
        """Console at which Ctrl-C is pressed when the second trial is over."""

        trials = 0

        def print(self, *objects, **options):
            self.trials += str(objects[0]).startswith("tune: trial ")
            if self.trials == 2:
                os.kill(os.getpid(), signal.SIGINT)
            super().print(*objects, **options)

    space = {"training.sparse_learning_rate": {"low": 1e-9, "high": 0.05, "log": True}}
    config = tunable(planted, tmp_path / "out", trials=4, confirm_seeds=0, space=space)
    with pytest.raises(KeyboardInterrupt):
        tune(config, console=Interrupting())
    assert not config.tuning_dir.exists()
    before = Journal(config.tuning_dir.with_name("tuning.partial") / "trials.jsonl")
    ended = {number: trial for number, trial in before.trials.items() if trial.ended is not None}
    assert len(ended) == 2
    tune(config)
    after = Journal(config.tuning_dir / "trials.jsonl")
    assert len(after.searched) == 4
    assert {number: after.trials[number] for number in ended} == ended

    longer = config.tuning.model_copy(update={"trials": 5})
    result = tune(config.model_copy(update={"tuning": longer}))
    assert sum(result.trials.values()) == 5
    extended = Journal(config.tuning_dir / "trials.jsonl")
    assert [*extended.trials.values()][:4] == [*after.trials.values()]


@pytest.mark.parametrize(
    ("method", "space", "left"),
    [
        ("neighbours", {}, ["neighbours"]),
        ("none", {"ssl.method": {"choices": ["none", "neighbours"]}}, ["neighbours"]),
        ("none", {"ssl.method": {"choices": ["none", "cfm"]}}, []),
    ],
)
def test_neighbours_are_fitted_once_for_all_trials(planted, tmp_path, method, space, left):
    config = tunable(planted, tmp_path / "out", space={**RATES, **space})
    config = with_values(config, {"ssl.method": method}, source="the test")
    axes, prepared = search_space(config), Prepared(planted.prepared_dir)
    lines = Console(record=True, file=StringIO())
    for _ in range(2):
        tune_module._fit_neighbours(config, axes, prepared, tmp_path / "work", lines)
    assert [path.name for path in (tmp_path / "work").glob("*")] == left
    assert lines.export_text().count("tune: fitting") == 2 * len(left)
    assert not config.fusion_dir.with_name("fusion.work").exists()


@pytest.mark.slow
def test_a_search_killed_within_a_trial_resumes_from_its_checkpoint(planted, tmp_path, ray_session):
    from recsys.tuning.tune import tune

    config = tunable(planted, tmp_path / "out", trials=2, confirm_seeds=0)
    config = with_values(config, {"ssl.method": "neighbours"}, source="the test")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    journal = config.tuning_dir.with_name("tuning.partial") / "trials.jsonl"
    process = subprocess.Popen(
        [sys.executable, "-m", "recsys.cli", "tune", str(path)], start_new_session=True
    )
    try:
        deadline = time.monotonic() + 600
        while not (journal.exists() and '"validated"' in journal.read_text()):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    killed = Journal(journal).trials[0]
    assert killed.ended is None
    time.sleep(5)  # Until Ray's own reaper has ended the workers.
    tune(config)
    trial = Journal(config.tuning_dir / "trials.jsonl").trials[0]
    assert trial.started == killed.started
    assert trial.validations[: len(killed.validations)] == killed.validations
    assert [v.validation for v in trial.validations] == [1, 2, 3]
    assert trial.status == "finished"
    assert json.loads((config.tuning_dir / "best.json").read_text())["metric"] == METRIC
