"""A configuration means the same in every working directory, and outputs may be moved."""

import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from recsys.config.load import load_config
from recsys.tracking import mlflow_client, start_run
from tests.support.materialized import configure, fresh_answers, write_tables


@pytest.fixture
def project(tmp_path) -> Path:
    """Makes a directory with a log and a configuration whose paths are relative to it."""
    directory = tmp_path / "project"
    config = configure(directory, write_tables(directory)).model_dump(mode="json")
    config["output"] = "runs/a"
    for table in ("events", "items", "queries"):
        config["data"][table] = f"log/{table}.parquet"
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    return directory


def test_each_command_runs_in_another_directory(command, project, tmp_path, monkeypatch):
    output = project / "runs" / "a"
    commands = ["prepare", "materialize", "prepare", "materialize", "forget"]
    more = {"forget": ["--query-id", "q1"]}
    for number, name in enumerate(commands):
        directory = tmp_path / f"elsewhere-{number}" / "deep"
        directory.mkdir(parents=True)
        monkeypatch.chdir(directory)
        config = Path("../../project/config.yaml")
        status, _, error = command(name, config, *more.get(name, ()))
        assert status == 0, error
        assert not list(directory.iterdir())
        assert ("is up to date" in error) == (number in (2, 3))
    assert sorted(path.name for path in output.iterdir() if path.suffix != ".lock") == [
        "feature_store",
        "forgotten.json",
        "prepared",
        "prepared.work",
    ]


def test_a_moved_output_is_as_good(command, project):
    for name in ("prepare", "materialize"):
        assert command(name, project / "config.yaml")[0] == 0
    before = fresh_answers(load_config(project / "config.yaml"))
    output = project / "runs" / "b"
    (project / "runs" / "a").rename(output)
    moved = f"output={output}"
    for name in ("prepare", "materialize"):
        _, _, error = command(name, project / "config.yaml", "--set", moved)
        assert "is up to date" in error
    assert not (project / "runs" / "a").exists()
    assert fresh_answers(load_config(project / "config.yaml", [moved])) == before
    registry = (output / "feature_store" / "registry.db").read_bytes()
    assert f"{output}/feature_store/offline".encode() in registry
    assert f"{project}/runs/a".encode() not in registry


def test_a_moved_log_is_materialized(command, project):
    assert command("prepare", project / "config.yaml")[0] == 0
    moved = project.rename(project.with_name("moved"))
    status, _, error = command("materialize", moved / "config.yaml")
    assert status == 0, error
    (moved / "log" / "items.parquet").rename(moved / "log" / "others.parquet")
    shutil.rmtree(moved / "runs" / "a" / "feature_store")
    other = ["--set", f"data.items={moved}/log/others.parquet"]
    status, _, error = command("materialize", moved / "config.yaml", *other)
    assert status == 1
    assert "others.parquet is not of the table that was prepared" in error


def test_a_moved_store_finds_its_artifacts(project):
    config = load_config(project / "config.yaml")
    run = start_run(config, "first", params={})
    file = project / "note.json"
    file.write_text(json.dumps({"a": 1}))
    run.save(file)
    output = project / "runs" / "moved"
    Path(config.output).rename(output)
    config = config.model_copy(update={"output": str(output)})
    again = start_run(config, "second", params={})
    again.save(file)
    client = mlflow_client(f"sqlite:///{output}/mlflow.db")
    for each in (run, again):
        directory = Path(urlsplit(client.get_run(each.run_id).info.artifact_uri).path)
        assert directory.is_relative_to(output)
        assert (directory / "note.json").exists()
    assert not (project / "runs" / "a").exists()
