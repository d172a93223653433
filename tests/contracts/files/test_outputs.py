"""Commands that write directories: one that the command did not write is left as it is."""

import shutil
from pathlib import Path

import pytest
import yaml

from tests.support.planted import planted_config
from tests.support.prepare_logs import files_below

# Commands with the directory as -o, and with directories below the configuration's output.
CHOSEN = {
    "fetch": ["fetch", "movielens-100k"],
    "generate": ["generate", "--events", "9", "--items", "3", "--queries", "3"],
    "export --ab": ["export", "--ab", "BUNDLE", "BUNDLE", "--allow-same"],
    "recommend": ["recommend", "BUNDLE", "--all"],
    "vectors": ["vectors", "BUNDLE", "--format", "npy"],
    "update": ["update", "BUNDLE", "--remove-item", "i0"],
    "compare": ["compare", "A", "B"],
    "ab-report": ["ab-report", "LOG"],
}
STAGES = {
    "prepare": ["prepared", "prepared.work"],
    "materialize": ["feature_store"],
    "train": ["train", "train.partial"],
    "fuse": ["fusion"],
    "evaluate": ["evaluation"],
    "export": ["bundle"],
    "tune": ["tuning", "tuning.partial"],
    "study": ["study"],
}
CASES = [(name, None) for name in CHOSEN] + [(n, d) for n, each in STAGES.items() for d in each]


def with_a_file(directory: Path) -> None:
    (directory / "chapter").mkdir(parents=True)
    (directory / "chapter" / "thesis.txt").write_text("years of work")


def with_a_manifest(directory: Path) -> None:
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text('{"name": "an app", "version": 1, "files": {}}')


@pytest.mark.parametrize("fill", [with_a_file, with_a_manifest])
@pytest.mark.parametrize(("name", "directory"), CASES)
def test_what_a_command_did_not_write_stays(
    name, directory, fill, command, exported, planted, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = planted_config(Path(planted.data.events).parent, tmp_path / "out")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    if directory is None:
        foreign = tmp_path / "mine"
        words = [exported if word == "BUNDLE" else word for word in CHOSEN[name]]
        arguments = [*words, "-o", foreign]
    else:
        foreign = tmp_path / "out" / directory
        arguments = [name, "config.yaml"]
        if name == "materialize":
            shutil.copytree(planted.prepared_dir, config.prepared_dir)
    fill(foreign)
    before = files_below(tmp_path)

    status, _, error = command(*arguments)

    assert status == 1
    assert f"{foreign} holds something else" in error
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("name", CHOSEN)
def test_the_working_directory_and_the_root_are_no_outputs(
    name, command, exported, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = [exported if word == "BUNDLE" else word for word in CHOSEN[name]]
    for output in (".", "/", Path.home()):
        status, _, error = command(*words, "-o", output)
        assert status == 1
        assert "choose another" in error or "change to another directory" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["recommend", "vectors", "export --ab"])
def test_a_bundle_is_only_replaced_by_a_bundle(name, command, exported, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(exported, bundle)
    before = files_below(tmp_path)
    words = [exported if word == "BUNDLE" else word for word in CHOSEN[name]]
    status, _, error = command(*words, "-o", bundle)
    assert status == 1
    assert "holds something else" in error
    assert files_below(tmp_path) == before


def test_the_outputs_lie_outside_of_the_log(command, planted, tmp_path):
    log, file = tmp_path / "log", Path(planted.data.events)
    shutil.copytree(file.parent, log)
    config = planted_config(log, "unused").model_dump(mode="json")
    before = files_below(log)
    for events in (log, f"{log}/**/*.parquet", f"{log}/*"):
        config["output"], config["data"]["events"] = str(log / "out"), str(events)
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        status, _, error = command("prepare", tmp_path / "config.yaml")
        assert status == 1
        assert f"the output {log}/out is within {events}, where the events are read" in error
        assert files_below(log) == before
