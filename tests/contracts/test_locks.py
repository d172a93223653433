"""Two commands on one output: the second refuses with a sentence, or waits and is then done."""

import json
import shutil
import threading
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from feature_store.core import locks
from feature_store.core.errors import UserError
from feature_store.core.locks import waiting
from recsys.cli import app
from recsys.stages import evaluate as evaluating
from recsys.stages import fit as fitting
from recsys.stages import measure as measuring
from recsys.stages import train as training
from tests.support.hostile.held_locks import held_by_another

# Commands, and what another process writes or reads meanwhile.
WRITTEN = (
    ("prepare CONFIG --as-of 2030-01-01", "prepared"),
    ("run CONFIG --as-of 2030-01-01", "prepared"),
    ("materialize CONFIG", "feature_store"),
    ("materialize CONFIG", "prepared"),
    ("forget CONFIG --item-id i1", "forgotten.json"),
    ("train CONFIG", "train.partial"),
    ("train CONFIG", "prepared"),
    ("tune CONFIG", "tuning"),
    ("study CONFIG", "study"),
    ("fuse CONFIG", "fusion"),
    ("fuse CONFIG", "train"),
    ("evaluate CONFIG", "evaluation"),
    ("evaluate CONFIG", "train"),
    ("export CONFIG", "bundle"),
    ("export CONFIG", "evaluation"),
    ("update BUNDLE -o OUT --remove-item i1", "OUT"),
    ("update BUNDLE -o OUT --remove-item i1", "BUNDLE"),
    ("recommend BUNDLE -o OUT --all", "OUT"),
    ("vectors BUNDLE -o OUT --format npy", "OUT"),
    ("vectors BUNDLE -o OUT --format npy", "BUNDLE"),
    ("generate -o OUT --events 1 --items 1 --queries 1", "OUT"),
)
READ = (
    ("prepare CONFIG --as-of 2030-01-01", "prepared"),
    ("update BUNDLE -o BUNDLE --remove-item i1", "BUNDLE"),
)


@pytest.fixture
def result_of(planted, trained, exported, tmp_path):
    """Runs a command on an output that has data, a model and a bundle; returns its result."""
    output = Path(planted.output)
    config = tmp_path / "config.yaml"
    document = planted.model_dump(mode="json") | {"executor": "local"}
    # Otherwise the training is up to date, and the data has the fractions of the study.
    document["training"]["epochs"] += 1
    document["study"]["label_fractions"] = [1.0]
    config.write_text(yaml.safe_dump(document))

    def result(command, name, is_read):
        names = {"CONFIG": config, "OUT": tmp_path / "out", "BUNDLE": exported}
        held = names.get(name, output / name)
        with held_by_another(held, is_read=is_read):
            words = [str(names.get(word, word)) for word in command.split()]
            return CliRunner().invoke(app, words), held

    (output / "evaluation").mkdir(exist_ok=True)
    yield result
    with suppress(OSError):  # Not empty.
        (output / "evaluation").rmdir()


@pytest.mark.parametrize(
    ("command", "name", "is_read"),
    [*((*each, False) for each in WRITTEN), *((*each, True) for each in READ)],
)
def test_an_output_in_use_is_one_sentence(result_of, command, name, is_read):
    result, held = result_of(command, name, is_read)
    sentence = str(result.exception)
    if isinstance(result.exception, SystemExit):  # A job's outcome is on its line of JSON.
        sentence = json.loads(result.stdout.splitlines()[-1])["reason"]
        assert result.exit_code == 1
    else:
        assert isinstance(result.exception, UserError), result.exception
    act = "read" if is_read else "written"
    assert sentence.startswith(f"{held} is being {act} by `")
    assert "; wait for it, give --wait, or choose another output." in sentence


def test_wait_is_an_option(tmp_path, monkeypatch):
    command = ["generate", "-o", str(tmp_path / "out"), "--wait"]
    command += ["--events", "9", "--items", "2", "--queries", "3"]
    with held_by_another(tmp_path / "out") as is_over:
        holder = locks._holder
        monkeypatch.setattr(
            locks, "_holder", lambda descriptor: is_over.set() or holder(descriptor)
        )
        result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.exception
    assert "waiting for" in result.stderr
    assert (tmp_path / "out" / "events").is_dir()


def test_two_of_a_stage_at_once_do_the_work_once(planted, trained, tmp_path, monkeypatch):
    shutil.copytree(planted.prepared_dir, tmp_path / "prepared")
    config = planted.model_copy(
        update={
            "output": str(tmp_path),
            "training": planted.training.model_copy(update={"epochs": 1}),
        }
    )
    done = []
    for run, module, name in (
        (training.train, fitting, "fit_model"),
        (evaluating.evaluate, measuring, "measure_model"),
    ):
        work = getattr(module, name)

        def second(run=run):
            with waiting():
                done.append(run(config))

        other = threading.Thread(target=second)

        def first(*arguments, work=work, other=other):
            other.start()
            return work(*arguments)

        monkeypatch.setattr(module, name, first)
        done.append(run(config))  # Starts the second one, once.
        other.join()
    assert done[0] == done[1]
    assert done[2] == done[3]
    kept = {"prepared", "train", "fusion", "evaluation"}
    assert {path.name for path in tmp_path.iterdir()} == kept
