"""Runs of MLflow: those that a killed process began hold everything once; no threads stay."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Dataset, DatasetInput
from mlflow.exceptions import MlflowException

from feature_store.core.errors import UserError
from recsys.config.config import Config
from recsys.mlflow_run import Run, downloaded
from recsys.tracking import mlflow_client, open_run, start_run, tracking_uri


@pytest.fixture
def config(planted: Config) -> Config:
    """Returns a configuration of an experiment of its own."""
    settings = planted.tracking.model_copy(update={"experiment": "continued"})
    return planted.model_copy(update={"tracking": settings})


def values_of(run: Run, config: Config, name: str) -> list[tuple[int, float]]:
    """Returns the values of a metric, with their steps."""
    history = mlflow_client(tracking_uri(config)).get_metric_history(run.run_id, name)
    return [(metric.step, metric.value) for metric in history]


def test_a_run_that_a_killed_process_began_is_continued(config: Config) -> None:
    begun = start_run(config, "night", params={"a": 1}, identity="work")
    again = start_run(config, "night", params={"a": 2, "b": 3}, identity="work")
    assert again.run_id == begun.run_id
    run = mlflow_client(tracking_uri(config)).get_run(begun.run_id)
    assert run.data.params == {"a": "1", "b": "3"}
    elsewhere = config.model_copy(update={"output": f"{config.output} elsewhere"})
    for other in (
        start_run(config, "night", params={}, identity="other work"),
        start_run(elsewhere, "night", params={}, identity="work"),
    ):
        assert other.run_id != begun.run_id
    begun.end("FINISHED")
    assert start_run(config, "night", params={}, identity="work").run_id != begun.run_id


def test_a_continued_run_is_given_what_it_lacks(config: Config) -> None:
    lines: list[dict[str, Any]] = [{"step": step, "main": 1.0 / step} for step in (2, 4, 6)]
    run = start_run(config, "night", params={})
    run.log(lines[:2])
    run.continued().log(lines)
    assert values_of(run, config, "training/main") == [(2, 0.5), (4, 0.25), (6, 1 / 6)]


def test_what_was_deleted_is_not_added_to(config: Config) -> None:
    run = start_run(config, "night", params={})
    assert open_run(config, run.run_id) is not None
    client = mlflow_client(tracking_uri(config))
    client.delete_run(run.run_id)
    assert open_run(config, run.run_id) is None
    assert open_run(config, "0" * 32) is None
    tracking = config.tracking.model_copy(update={"experiment": "given up"})
    other = config.model_copy(update={"tracking": tracking})
    start_run(other, "night", params={})
    experiment = client.get_experiment_by_name("given up").experiment_id
    client.delete_experiment(experiment)
    with pytest.raises(UserError, match=f"mlflow experiments restore --experiment-id {experiment}"):
        start_run(other, "night", params={})


def test_a_store_that_does_not_answer_is_one_sentence(config: Config, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    tracking = config.tracking.model_copy(update={"uri": "http://127.0.0.1:9"})
    other = config.model_copy(update={"tracking": tracking})
    with pytest.raises(UserError, match=r"cannot open run abc: API request to http.*look at the"):
        open_run(other, "abc")
    with pytest.raises(UserError, match="cannot start a run of 'continued': API request to http"):
        start_run(other, "night", params={})


def test_a_model_has_one_value_of_a_metric_until_it_is_measured_anew(config: Config) -> None:
    run = start_run(config, "night", params={})
    for value in (0.5, 0.5, 0.75):
        run.log([{"step": 6, "test.recall@10": value}], of_model=True)
    assert values_of(run, config, "test/recall_at_10") == [(6, 0.5), (6, 0.75)]


def test_a_run_is_described_once_by_what_comes_first(config: Config) -> None:
    run = start_run(config, "night", params={})
    run.describe_first("trained")
    run.describe("promoted")
    run.describe_first("trained")
    data = mlflow_client(tracking_uri(config)).get_run(run.run_id).data
    assert data.tags["mlflow.note.content"] == "promoted"


def pools() -> int:
    """Returns the number of pools of threads in this process."""
    gc.collect()
    return sum(type(each) is ThreadPoolExecutor for each in gc.get_objects())


def test_a_download_leaves_no_thread(config: Config, tmp_path: Path) -> None:
    run = start_run(config, "night", params={})
    (tmp_path / "page.html").write_text("page")
    run.save(tmp_path / "page.html", "nightly")
    client = mlflow_client(tracking_uri(config))
    before = pools()
    found = downloaded(client, run.run_id, "nightly/page.html", tmp_path / "to")
    assert found.read_text() == "page"
    assert downloaded(client, run.run_id, "nightly", tmp_path / "to").is_dir()
    assert pools() == before


def test_data_that_two_runs_note_at_the_same_moment_is_noted_once(tmp_path, monkeypatch):
    """Tests a store in which another run has written the data between the look and the write."""
    client = mlflow_client(f"sqlite:///{tmp_path}/mlflow.db")
    run_id, other_id = (client.create_run("0").info.run_id for _ in range(2))
    note, races = client.log_inputs, [MlflowException("UNIQUE constraint failed")]

    def racing(run: str, inputs: list[DatasetInput]) -> None:
        if races:
            note(other_id, inputs)
            raise races.pop()
        note(run, inputs)

    monkeypatch.setattr(client, "log_inputs", racing)
    Run(client, run_id).add_data(Dataset("a log", "digest", "local", "{}"))
    for each in (run_id, other_id):
        (used,) = client.get_run(each).inputs.dataset_inputs
        assert used.dataset.name == "a log"
