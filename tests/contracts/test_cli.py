"""The commands: bad input is one sentence, and everything works from Parquet to an answer."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import recsys
import serving
from tests.support.imported import imported
from tests.support.planted import planted_config, write_planted_log


@pytest.fixture
def config_file(tmp_path) -> Path:
    write_planted_log(tmp_path / "log")
    config = planted_config(tmp_path / "log", tmp_path / "out")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return path


def assert_one_sentence(status: int, out: str, err: str, expected: str) -> None:
    assert status == 1
    assert out == ""
    assert err.startswith("recsys: ")
    assert err.count("\n") == 1
    assert expected in err


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def without_rows(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(0, 0), path)


def without_the_item_column(path: Path) -> None:
    pq.write_table(pq.read_table(path).drop(["item_id"]), path)


def with_lists_as_ids(path: Path) -> None:
    table = pq.read_table(path)
    lists = pa.array([[item] for item in table["item_id"].to_pylist()])
    pq.write_table(table.set_column(1, "item_id", lists), path)


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (Path.unlink, "events.parquet does not exist; give a Parquet file"),
        (truncated, "as Parquet"),
        (without_rows, "holds no rows; expected at least one"),
        (without_the_item_column, "Set data.columns.item_id"),
        (with_lists_as_ids, "item_id"),
    ],
)
def test_a_bad_log_is_one_sentence_and_leaves_nothing(
    command, config_file, tmp_path, damage, expected
):
    damage(tmp_path / "log" / "events.parquet")
    for name in ("prepare", "run"):
        assert_one_sentence(*command(name, config_file), expected)
        assert not (tmp_path / "out").exists()


def test_a_bad_configuration_is_one_sentence(command, config_file, tmp_path):
    assert_one_sentence(*command("train", tmp_path / "absent.yaml"), "write one with `recsys init`")
    assert_one_sentence(
        *command("prepare", config_file, "--set", "training.epoch=3"), "did you mean epochs?"
    )
    assert_one_sentence(*command("train", config_file), "run `recsys prepare` first")
    assert_one_sentence(*command("query", tmp_path, "--query-id", "1"), "recsys export")
    assert_one_sentence(*command("fetch", "movielens-100", "-o", tmp_path / "x"), "movielens-100k")
    assert_one_sentence(
        *command("init", "--events", tmp_path / "absent", "-o", tmp_path / "c.yaml"),
        "does not exist",
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "log"]


def test_the_help_shows_every_command_in_its_group(command, monkeypatch):
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 100)
    status, out, _ = command("--help")
    assert status == 0
    groups = {
        "Data": ["fetch", "generate", "init", "config", "prepare", "forget", "materialize"],
        "Train": ["train", "doctor", "fuse", "tune", "plan"],
        "Evaluate": ["evaluate", "compare", "dashboard", "study"],
        "Serve": ["export", "query", "recommend", "vectors", "serve"],
        "Operate": ["update", "ab-report", "promote", "rollback", "run"],
    }
    shown: dict[str, list[str]] = {}
    for line in out.splitlines():
        words = line.strip("│╭╮╰╯─ ").split()
        if line.startswith("╭"):
            panel = shown.setdefault(" ".join(words), [])
        elif line.startswith("│ ") and line[2] != " ":
            panel.append(words[0])
    assert {name: shown[name] for name in groups} == groups
    assert list(shown)[-5:] == list(groups)


def test_every_public_name_is_there():
    for package in (recsys, serving):
        assert all(callable(getattr(package, name)) for name in package.__all__)


@pytest.mark.slow
def test_run_from_parquet_to_an_answer(
    command, config_file, tmp_path, tracking_uri, ray_session, monkeypatch
):
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    document = yaml.safe_load(config_file.read_text())
    document["output"] = "out"
    for table in ("events", "items"):
        document["data"][table] = f"log/{table}.parquet"
    config_file.write_text(yaml.safe_dump(document))
    config_file = Path("..") / config_file.name
    settings = ["training.epochs=2", f"tracking.uri={tracking_uri}"]
    options = [part for setting in settings for part in ("--set", setting)]
    status, out, err = command("run", config_file, *options)
    assert status == 0, err
    for text in (
        "Recall@10",
        "popularity",
        "item-kNN",
        "tail",
        "cold",
        "report.html",
        "\n1: ",
        "next: ",
    ):
        assert text in out
    assert re.search(r"^time +\d+ s: prepare \d+, train \d+, evaluate \d+, export \d+$", out, re.M)
    metrics = json.loads((tmp_path / "out/evaluation/metrics.json").read_text())
    assert metrics["slices"].keys() == {"head", "torso", "tail", "cold"}
    low, high = metrics["overall"]["recall@10_ci"]
    assert low <= metrics["overall"]["recall@10"] <= high

    # Nothing is done again, in another working directory and with the output at another place.
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "there")
    manifests = ["prepared", "train", "evaluation", "bundle"]
    written = [(moved / name / "manifest.json").stat().st_mtime_ns for name in manifests]
    status, out, err = command("run", config_file, *options, "--set", "output=../moved", "--json")
    result = json.loads(out)
    assert result["trained"]["steps"] > 0
    assert sum(result["seconds_of"].values()) == pytest.approx(result["seconds"], abs=0.3)
    assert err.count("is up to date") == 4
    assert written == [(moved / name / "manifest.json").stat().st_mtime_ns for name in manifests]
    for name in ("here", "there", "out"):
        assert not list((tmp_path / name).glob("*"))
    again = ("run", str(config_file), *options, "--set", "output=../moved")
    assert not {"ray", "torch", "torchrec"} & set(imported(again))

    status, out, err = command("query", "../moved/bundle", "--query-id", "q7", "--json")
    assert (status, err) == (0, "")
    found = json.loads(out)
    assert len(found["items"]) == 10
    assert found["fallback"] is False
