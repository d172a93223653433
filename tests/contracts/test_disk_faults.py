"""Files that may not grow, or be made: a sentence, all as before, and the next call finishes."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from recsys import cli
from recsys.tracking import mlflow_client

COMMANDS = (
    "prepare CONFIG --as-of 2030-01-01",
    "materialize CONFIG",
    "train CONFIG --set training.epochs=1",
    "fuse CONFIG",
    "evaluate CONFIG",
    "export CONFIG",
    "forget CONFIG --item-id i1",
    "vectors BUNDLE -o OUT --format npy",
    "update BUNDLE -o OUT --remove-item i1",
)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Limits the size of the files of this process; what is longer fails as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def finished(output: Path) -> dict[str, bytes]:
    """Reads what other commands and users see: not what a command resumes from."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for name in ("prepared", "train", "fusion", "evaluation", "bundle", "forgotten.json", "new")
        for path in (output / name, *(output / name).rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def command(planted, trained, exported, new_store, tmp_path, monkeypatch, capsys):
    """Runs a command on a copy of a trained output: (exit status, standard error)."""
    output = tmp_path / "out"
    shutil.copytree(planted.output, output)
    store = shutil.copy(new_store, tmp_path / "mlflow.db")
    document = planted.model_dump(mode="json") | {"executor": "local", "output": str(output)}
    document["tracking"]["uri"] = f"sqlite:///{store}"
    document["evaluation"] |= {"baselines": ["popularity"], "map_items": 0}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(document))
    names = {"CONFIG": tmp_path / "config.yaml", "BUNDLE": exported, "OUT": output / "new"}

    def run(text):
        words = [str(names.get(word, word)) for word in text.split()]
        monkeypatch.setattr(sys, "argv", ["recsys", *words])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), capsys.readouterr().err

    run.output = output
    return run


def assert_one_sentence(status, err):
    assert status == 1, err
    assert "Traceback" not in err
    assert [line.startswith("recsys: ") for line in err.splitlines()].count(True) == 1, err
    assert err.splitlines()[-1].startswith("recsys: "), err


@pytest.mark.parametrize("text", COMMANDS)
def test_files_that_may_not_grow(command, text):
    before = finished(command.output)
    for size in (0, 2_000, 100_000, 1_000_000):
        with files_up_to(size):
            status, err = command(text)
        if status == 0:
            break
        assert_one_sentence(status, err)
        now = finished(command.output)
        assert now.items() >= before.items()
        # `evaluate` and `export` finish the channels first, which stay where their own files fail.
        assert {name.split("/")[0] for name in now.keys() - before.keys()} <= {"fusion"}
        before = now
        assert not [p for p in command.output.rglob(".*.tmp") if ".work" not in str(p)]
    assert size > 0
    status, err = command(text)
    assert status == 0, err
    mlflow_client.cache_clear()  # Its connections are of this test's store.


@pytest.mark.parametrize("text", COMMANDS)
def test_files_that_may_not_be_made(command, text, monkeypatch):
    before, opened = finished(command.output), os.open

    def read_only(path, flags, *arguments, **options):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))
        return opened(path, flags, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read_only)
        status, err = command(text)
    assert_one_sentence(status, err)
    assert "the file system is read-only: " in err
    assert finished(command.output) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_output_that_cannot_be_written():
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "recsys.cli", "--help"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert_one_sentence(result.returncode, result.stderr)
    assert "the disk is full" in result.stderr
