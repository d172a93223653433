"""The configuration is closed and typed, and its errors name the key and what to do."""

import json
import os

import pytest
import yaml

from feature_store.core.errors import UserError
from feature_store.core.manifests import read_manifest
from recsys.checkpoint.manifest import CheckpointManifest
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config
from recsys.config.load import load_config, parse_config, with_values
from recsys.config.loss import InBatchCandidates
from recsys.config.renamed import RENAMED
from recsys.tracking import tracking_uri

DOCUMENT = {
    "output": "runs/x",
    "data": {"events": "events.parquet", "split": {"kind": "random_hash"}},
    "features": {
        "item": [
            {"name": "item_id", "kind": "id", "dim": 16},
            {"name": "genres", "kind": "multi_valued", "dim": 8},
        ]
    },
}
NO_TIME = {"columns": {"timestamp": None}, "history": {"kind": "others"}}
COMES_AND_GOES = {"item": [{"name": "item_id", "kind": "id", "dim": 16, "max_idle_days": 3}]}


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(DOCUMENT))
    return file


def changed(**sections):
    document = yaml.safe_load(yaml.safe_dump(DOCUMENT))
    for name, keys in sections.items():
        document.setdefault(name, {}).update(keys)
    return document


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"training": {"epoch": 3}}, "unknown key training.epoch (did you mean epochs?"),
        ({"ssl": {"method": "cfm", "alfa": 1}}, "unknown key ssl.alfa (did you mean alpha?"),
        ({"ssl": {"method": "none", "alpha": 1}}, "unknown key ssl.alpha"),
        (
            {"training": {"start": "previous", "replay": 0.5}, "data": NO_TIME},
            "training.replay needs data.columns.timestamp",
        ),
        (
            {"data": NO_TIME, "features": COMES_AND_GOES, "ssl": {"method": "none"}},
            "max_idle_days needs data.columns.timestamp",
        ),
        (
            {"data": {"split": {"kind": "time"}}},
            "data.split: split.kind time needs either the lengths validation and test, such as 7d, "
            "or the times validation_from and test_from",
        ),
        (
            {"data": {"split": {"kind": "time", "test": "7d", "test_from": "2026-11-20"}}},
            "either the lengths validation and test",
        ),
        (
            {"data": {"split": {"kind": "time", "validation": "7d", "test": "7 days"}}},
            "'7 days' is no duration: expected a whole number of weeks, days, hours",
        ),
        ({"training": {"epochs": 0}}, "training.epochs: Input should be greater than or equal to"),
        (
            {"training": {"batch_size": 2, "ray": {"workers": 3}}},
            "at least as large as ray.workers",
        ),
        ({"data": {"min_rating": 4}}, "min_rating needs data.columns.rating"),
        ({"data": {"repeats": "allow"}}, "split.kind random_hash puts all events of a query and"),
        (
            {"data": {"repeats": "allow", "split": {"kind": "cold_items"}}},
            "split.kind cold_items puts all events of a query and an item into one part",
        ),
        (
            {
                "data": {
                    "repeats": "allow",
                    "split": {"kind": "given", "column": "part"},
                    "history": {"kind": "others"},
                }
            },
            "history.kind others has no order in which an item could come again; use exclude",
        ),
        ({"features": {"item": [{"name": "a", "kind": "id", "dim": 8}]}}, "ssl needs at least two"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(sections, expected):
    with pytest.raises(UserError) as error:
        parse_config(changed(**sections), source="config.yaml")
    assert str(error.value).startswith("config.yaml: ")
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_section_names_the_nearest(path):
    path.write_text(yaml.safe_dump({**DOCUMENT, "trainning": {}}))
    with pytest.raises(UserError, match=r"unknown key trainning \(did you mean training\?"):
        load_config(path)


def test_paths_are_relative_to_the_file_and_urls_stay(path, tmp_path):
    config = load_config(path)
    assert config.data.events == str(tmp_path / "events.parquet")
    assert config.output == str(tmp_path / "runs/x")
    assert load_config(path, ["data.events=s3://bucket/log"]).data.events == "s3://bucket/log"


def test_paths_are_the_same_wherever_the_file_is_read(path, tmp_path, monkeypatch):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    text = path.read_text() + "\ntracking: {uri: 'sqlite:///runs/store.db'}\n"
    path.write_text(text)
    expected = load_config(path)
    assert expected.tracking.uri == f"sqlite:///{tmp_path}/runs/store.db"
    for directory, name in ((tmp_path, path.name), (tmp_path / "deep/er", f"../../{path.name}")):
        monkeypatch.chdir(directory)
        assert load_config(name) == expected
        assert tracking_uri(load_config(name)) == expected.tracking.uri
    overrides = ["output=out", "data.items=../items", "tracking.uri=sqlite:///x.db"]
    config = load_config(name, overrides)  # The shell's paths are those of its directory.
    assert config.output == f"{tmp_path}/deep/er/out"
    assert os.path.normpath(config.data.items) == f"{tmp_path}/deep/items"
    assert config.tracking.uri == f"sqlite:///{tmp_path}/deep/er/x.db"
    for uri in ("http://server:5000", "sqlite:///:memory:"):
        assert load_config(name, [f"tracking.uri='{uri}'"]).tracking.uri == uri


def test_overrides(path):
    config = load_config(
        path,
        [
            "training.epochs=3",
            "ssl.method=none",
            "features.item.genres.dim=32",
            "data.history={kind: others, max_length: 7}",
            "loss.candidates.across_ranks=false",
        ],
    )
    assert config.training.epochs == 3
    assert config.ssl.method == "none"
    assert config.features.item[1].dim == 32
    assert config.data.history.max_length == 7
    assert config.loss.candidates == InBatchCandidates(across_ranks=False)


def test_another_kind_drops_the_keys_that_only_the_old_one_has(path):
    overrides = ["ssl={method: cfm, alpha: 0.5, mutual_information: normalised}", "ssl.method=rfm"]
    ssl = load_config(path, overrides).ssl
    assert (ssl.method, ssl.alpha) == ("rfm", 0.5)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("training.epochs", "is not of the form key.path=value"),
        ("training.epochs=[", "the value is not YAML"),
        ("output.x=1", "output has no keys"),
        ("features.item.title.dim=8", "no entry 'title'; the list has item_id, genres"),
        ("training.epochz=3", "did you mean epochs"),
    ],
)
def test_a_bad_override_is_one_sentence(path, override, expected):
    with pytest.raises(UserError, match=expected.replace(".", r"\.")):
        load_config(path, [override])


def test_a_path_without_end_is_no_override(path):
    with pytest.raises(UserError, match="is not of the form"):
        load_config(path, [f"{'a.' * 20_000}a=1"])


def test_a_missing_file_or_bad_yaml(tmp_path):
    with pytest.raises(UserError, match="write one with `recsys init`"):
        load_config(tmp_path / "absent.yaml")
    bad = tmp_path / "bad.yaml"
    bad.write_text("a: [1\n")
    with pytest.raises(UserError, match="is not YAML"):
        load_config(bad)
    bad.write_text("just text")
    with pytest.raises(UserError, match="holds no configuration"):
        load_config(bad)
    os.mkfifo(tmp_path / "pipe")  # Nobody writes to it.
    with pytest.raises(UserError, match="holds no configuration"):
        load_config(tmp_path / "pipe")


def test_a_configuration_survives_json():
    config = parse_config(DOCUMENT)
    assert Config.model_validate_json(config.model_dump_json()) == config


def document_with(path, value):
    document = yaml.safe_load(yaml.safe_dump(DOCUMENT))
    *parents, key = path.split(".")
    section = document
    for parent in parents:
        section = section.setdefault(parent, {})
    section[key] = value
    return document


@pytest.mark.parametrize("key", RENAMED)
def test_an_old_key_is_one_sentence_that_says_what_to_write(key, path):
    value = "an old value" if str in RENAMED[key].was else 7
    sentence = f"{path}: {key} {RENAMED[key].says}."
    old = path.with_name("old.yaml")
    old.write_text(yaml.safe_dump(document_with(key, value)))
    with pytest.raises(UserError) as error:
        load_config(old, ["training.epochs=3"])
    assert str(error.value) == sentence.replace(str(path), str(old))
    with pytest.raises(UserError) as error:
        load_config(path, [f"{key}={value}"])
    assert str(error.value) == sentence


def test_a_stored_configuration_of_an_earlier_version_is_refused_with_what_to_do(tmp_path):
    document = {"config": document_with("evaluation.knn_neighbours", 100)}
    directory = tmp_path / "train"
    directory.mkdir()
    (directory / "manifest.json").write_text(json.dumps(document))
    for manifest in (TrainManifest, CheckpointManifest):
        with pytest.raises(UserError, match=r"delete .*train and run the stage again\.$") as error:
            read_manifest(directory, manifest)
        assert "evaluation.knn_neighbours is now a constant" in str(error.value)


def test_an_encoder_of_the_history_is_named_by_its_kind_or_by_its_position(path):
    model = load_config(path, ["model.history=[{kind: mean}, {kind: attention}]"]).model
    assert [encoder.kind for encoder in model.history] == ["mean", "attention"]
    history = [{"kind": "mean"}, {"kind": "recent"}]
    config = parse_config({**DOCUMENT, "model": {"history": history}})
    for key in ("recent", "1"):
        changed = with_values(config, {f"model.history.{key}.half_life": 3}, source="the test")
        assert changed.model.history[1].half_life == 3
    default = load_config(path, ["model.history.mean.kind=last"]).model
    assert [encoder.kind for encoder in default.history] == ["last"]
    with pytest.raises(UserError, match=r"no entry 'last'; the list has mean, recent"):
        with_values(config, {"model.history.last.kind": "mean"}, source="the test")


def test_an_output_that_is_a_url_is_refused(tmp_path):
    with pytest.raises(UserError, match="output: a URL, expected a path of this machine"):
        parse_config(changed() | {"output": "s3://bucket/runs"})
