"""Whatever a command is given, it succeeds or says a sentence, and never fails with a traceback."""

import sys
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import typer
import yaml

from recsys import cli
from recsys.tracking import mlflow_client
from serving.recommend import load
from tests.support.planted import planted_config

TEXTS = (
    "", "\0", "\ud800", "x" * 5000, "a/" * 3000, "/dev/null", "/proc/self/mem", "/", ".", "~", "%",
    "[red]", "\x1b[31m", "-1", "nowhere://x", "http://[", "models:/", "models:/a@b", "sqlite://",
    "sqlite:////dev/null", "a=", "=b", "a=" + "[" * 9999, "training.seed=" + "9" * 5000,
    "output=[1]", 'output="\\0"', 'data.events="\\ud800"', "training.epochs=.inf", "data.x.y=1",
    "features.item.9.dim=1", "model.item_tower=[-1]", "training=&a {b: *a}", "output=2001-99-99",
)  # fmt: skip
NUMBERS = (
    "", "x", "-1", "0", "0.5", "inf", "-inf", "nan", "1e308", "1e-320", str(2**63), str(2**128),
    "9" * 5000, "\0",
)  # fmt: skip
DATES = ("", "x", "0001-01-01", "9999-12-31", "2024-02-30", "9" * 5000, "\0")

# Parameters after which a value comes again.
_TURNS = 5

# Arguments with which each command ends soon: most miss what they would read.
COMMANDS = {
    "fetch": "none -o OUT",
    "generate": "-o OUT --events 5 --items 2 --queries 2",
    "init": "--events LOG -o OUT.yaml",
    "config": "training.epochs",
    "prepare": "CONFIG",
    "forget": "CONFIG --query-id q1",
    "materialize": "CONFIG",
    "train": "CONFIG",
    "doctor": "CONFIG",
    "fuse": "CONFIG",
    "tune": "CONFIG",
    "plan": "PREPARED --world-size 2 --device cpu",
    "evaluate": "CONFIG",
    "compare": "OUT OUT",
    "dashboard": "--run r1 --tracking-uri sqlite:///absent.db",
    "study": "CONFIG",
    "export": "CONFIG",
    "query": "BUNDLE --query-id 3",
    "recommend": "ABSENT -o OUT --all",
    "update": "BUNDLE -o OUT --items ABSENT",
    "vectors": "BUNDLE -o OUT --format npy",
    "serve": "ABSENT",
    "ab-report": "ABSENT",
    "promote": "name --tracking-uri sqlite:///absent.db",
    "rollback": "name --tracking-uri sqlite:///absent.db",
    "run": "CONFIG",
}


def commands() -> dict[str, Any]:
    """Returns the commands by name."""
    return typer.main.get_command(cli.app).commands


def tried(name: str, base: list[str]) -> Iterator[list[str]]:
    """Yields arguments of a command, of which one is hostile.

    Parameters take turns with the values, for most are read by the same code.
    """
    turns = count(sorted(COMMANDS).index(name))
    kinds = {int: NUMBERS, float: NUMBERS, datetime: DATES}
    arguments = 0
    for parameter in commands()[name].params:
        if parameter.param_type_name == "option" and parameter.is_flag:
            continue
        values = kinds.get(parameter.type_descriptor.annotation, TEXTS)
        for value in values[next(turns) % _TURNS :: _TURNS]:
            if parameter.param_type_name == "option":  # Its last value counts.
                yield [name, *base, parameter.opts[0], value]
            else:
                yield [name, *base[:arguments], value, *base[arguments + 1 :]]
        arguments += parameter.param_type_name == "argument"


@pytest.fixture
def places(tmp_path, tiny, exported, monkeypatch):
    """Maps the words of `COMMANDS` to paths below the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(load, "load", cache(load.load))
    days = pa.array(range(20), pa.int64())
    ids = pa.array([f"i{n % 5}" for n in range(20)])
    log = {
        "query_id": ids,
        "item_id": pc.binary_join_element_wise(ids, ids, "x"),
        "timestamp": days,
    }
    pq.write_table(pa.table(log), tmp_path / "log.parquet")
    config = planted_config(tmp_path / "absent", tmp_path / "out").model_dump(mode="json")
    for file, document in {
        "config.yaml": config,
        "tiny.yaml": tiny.model_dump(mode="json"),
    }.items():
        (tmp_path / file).write_text(yaml.safe_dump(document))
    return {
        "CONFIG": "config.yaml",
        "PREPARED": "tiny.yaml",
        "LOG": "log.parquet",
        "BUNDLE": str(exported),
        "OUT": "new",
        "OUT.yaml": "new.yaml",
        "ABSENT": "absent",
    }


def test_every_command_is_tried() -> None:
    assert set(commands()) == set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_hostile_arguments_are_a_sentence(name, places, monkeypatch, capsys):
    base = [places.get(word, word) for word in COMMANDS[name].split()]
    for words in tried(name, base):
        monkeypatch.setattr(sys, "argv", ["recsys", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        err = capsys.readouterr().err
        assert "Traceback" not in err, words
        if end.value.code == 1:
            lines = [line for line in err.splitlines() if line.startswith("recsys: ")]
            assert len(lines) == 1, (words, err)
        else:
            assert end.value.code in (0, 2, None), words
    mlflow_client.cache_clear()
    assert not Path("absent.db").exists()


@pytest.mark.parametrize("words", [("-o", "s3://u:secret@b/x"), ("--output=gs://b",)])
def test_an_output_that_is_a_url_is_refused(places, monkeypatch, capsys, words):
    command = ["recsys", "generate", "--events", "5", "--items", "2", "--queries", "2", *words]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit):
        cli.main()
    err = capsys.readouterr().err
    assert "is a URL, expected a path of this machine" in err
    assert "secret" not in err
    assert not [path for path in Path().iterdir() if ":" in path.name]
