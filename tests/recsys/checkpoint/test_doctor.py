"""The doctor tells what fits, what would be resized and what is impossible."""

import json
import subprocess
import sys

import pytest

from pipelines.prepared.reader import Prepared
from recsys.checkpoint.compatibility import compare, compare_settings
from recsys.checkpoint.doctor import diagnose
from recsys.checkpoint.manifest import read_checkpoint
from recsys.checkpoint.table_rows import TableRows
from recsys.checkpoint.training_manifest import CHECKPOINT, IDENTITY_FILE, work_dir_of
from tests.support.small_batches import config


def varied(config, **sections):
    """Returns the configuration with other values of some keys of its sections."""
    document = config.model_dump(mode="json")
    for section, keys in sections.items():
        document[section] = {**document[section], **keys}
    return type(config).model_validate(document)


def kinds(findings):
    return {finding.what: finding.kind for finding in findings}


def test_the_model_fits_its_own_configuration(planted, trained):
    diagnosis = diagnose(planted)
    assert diagnosis.verdict == "fits"
    assert diagnosis.action == "nothing, as this training is done"
    assert diagnosis.steps == trained.best_step
    assert kinds(diagnosis.findings)["table item.item_id"] == "fits"
    assert set(kinds(diagnosis.findings).values()) == {"fits"}
    assert diagnosis.unfinished is None


@pytest.mark.parametrize(
    ("sections", "what", "kind"),
    [
        ({"model": {"dim": 8}}, "model.dim", "impossible"),
        ({"model": {"item_tower": [16]}}, "model.item_tower", "impossible"),
        ({"model": {"dropout": 0.5}}, "model.dropout", "changed"),
        ({"loss": {"temperature": 0.2}}, "loss.temperature", "changed"),
        ({"ssl": {"alpha": 0.3}}, "ssl.alpha", "changed"),
        ({"training": {"sparse_optimizer": "sgd"}}, "training.sparse_optimizer", "impossible"),
        ({"training": {"epochs": 3}}, "training.epochs", "changed"),
    ],
)
def test_a_setting_is_judged_by_what_it_does_to_the_tensors(planted, trained, sections, what, kind):
    diagnosis = diagnose(varied(planted, **sections))
    assert {k: v for k, v in kinds(diagnosis.findings).items() if v != "fits"} == {what: kind}
    assert diagnosis.verdict == ("impossible" if kind == "impossible" else "fits")
    assert diagnosis.action.startswith("begins from scratch; the model that is there stays")
    previous = varied(
        planted, **{**sections, "training": {**sections.get("training", {}), "start": "previous"}}
    )
    begins = "fails, as" if kind == "impossible" else "begins with the model of"
    assert diagnose(previous).action.startswith(begins)


def test_features_and_tables_are_compared_by_name(planted, trained):
    prepared = Prepared(planted.prepared_dir)
    _, manifest = read_checkpoint(planted.train_dir / CHECKPOINT)
    document = planted.model_dump(mode="json")
    item = document["features"]["item"]
    changed = [{**f, "dim": 12} if f["name"] == "tags" else f for f in item[:-1]]
    document["features"]["item"] = [*changed, {**item[-1], "name": "cost"}]
    findings = compare(type(planted).model_validate(document), prepared, manifest)
    assert {k: v for k, v in kinds(findings).items() if v == "impossible"} == {
        "feature item.tags.dim": "impossible",
        "feature item.price": "impossible",
        "feature item.cost": "impossible",
    }
    smaller = TableRows(rows=3, tokens=2, sample=())
    larger = TableRows(rows=99, tokens=98, sample=())
    tables = {**manifest.tables, "query.country": smaller, "item.group": larger}
    findings = compare(planted, prepared, manifest.model_copy(update={"tables": tables}))
    by_name = {finding.what: finding for finding in findings}
    assert by_name["table query.country"].kind == "resized"
    assert by_name["table query.country"].sentence() == "table query.country: resized, from 3 to 5"
    assert by_name["table item.group"].kind == "impossible"


def test_an_unfinished_training_is_resumed_or_the_doctor_says_why_not(planted, trained, tmp_path):
    work_dir = work_dir_of(planted)
    work_dir.mkdir()
    try:
        (work_dir / IDENTITY_FILE).write_text(json.dumps({"identity": trained.fingerprint}))
        unfinished = diagnose(planted).unfinished
        assert unfinished is not None
        assert (unfinished.goes_on, unfinished.step) == (True, 0)
        other = diagnose(varied(planted, training={"seed": 5})).unfinished
        assert other is not None
        assert not other.goes_on
    finally:
        (work_dir / IDENTITY_FILE).unlink()
        work_dir.rmdir()


def test_the_command_is_light_and_its_status_says_whether_it_fits(planted, trained, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(planted.model_dump_json())  # JSON is YAML.
    code = "import sys; from recsys.cli import main; sys.argv = sys.argv[1:]; import atexit; "
    code += "atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); main()"
    for extra, status, verdict in (([], 0, "fits"), (["--set", "model.dim=8"], 1, "impossible")):
        done = subprocess.run(
            [sys.executable, "-c", code, "recsys", "doctor", str(path), "--json", *extra],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert json.loads(done.stdout)["verdict"] == verdict
        assert done.stderr.strip() == "False"


@pytest.mark.parametrize(
    ("history", "findings"),
    [
        ([{"kind": "mean"}, {"kind": "attention"}], {}),
        (
            [{"kind": "mean"}, {"kind": "attention", "dropout": 0.5}],
            {"model.history.1.dropout": "changed"},
        ),
        (
            [{"kind": "mean"}, {"kind": "attention", "width": 32}],
            {"model.history.1.width": "impossible"},
        ),
        ([{"kind": "mean"}, {"kind": "last"}], {"model.history.1.kind": "impossible"}),
    ],
)
def test_encoders_of_a_history_are_judged_one_by_one(history, findings):
    before = config(model={"history": [{"kind": "mean"}, {"kind": "attention"}]})
    after = config(model={"history": history})
    found = {finding.what: finding.kind for finding in compare_settings(after, before)}
    assert findings.items() <= found.items()
    assert ("impossible" in found.values()) == ("impossible" in findings.values())


@pytest.mark.parametrize(
    ("method", "found"), [("neighbours", {"ranking.neighbours": "changed"}), ("none", {})]
)
def test_neighbours_matter_where_views_show_them(method, found):
    before = config(ssl={"method": method})
    after = before.model_copy(
        update={"ranking": before.ranking.model_copy(update={"neighbours": 20})}
    )
    assert kinds(compare_settings(after, before)) == found
