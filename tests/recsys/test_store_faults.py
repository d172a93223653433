"""Errors of MLflow's store, however wrapped, are one sentence; others are none."""

import sys

import pytest
from mlflow.exceptions import MlflowException
from ray.exceptions import RayTaskError

from recsys import cli
from recsys.store_faults import store_fault

FAILED = MlflowException("API request to http://127.0.0.1:5000 failed.\nTraceback")


@pytest.mark.parametrize(
    "error",
    [FAILED, ExceptionGroup("several", [ValueError("x"), FAILED]), RayTaskError("f", "x", FAILED)],
    ids=["plain", "group", "task"],
)
def test_a_failing_store_is_a_sentence(error: BaseException):
    sentence = store_fault(error)
    assert sentence is not None
    assert sentence.startswith(
        "the MLflow store failed: API request to http://127.0.0.1:5000 failed; look whether"
    )


def test_other_errors_are_none():
    assert store_fault(ValueError("x")) is None


def test_a_store_that_fails_within_a_command_ends_it_with_the_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def fail() -> None:
        raise FAILED

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr(sys, "argv", ["recsys", "train"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("recsys: the MLflow store failed: ")
    assert error.count("\n") == 1
