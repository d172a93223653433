"""The MLflow store: which one, and that it is opened once and quietly."""

import logging

import pytest

from feature_store.core.errors import UserError
from recsys.tracking import is_missing, mlflow_client, store_uri, tracking_uri


def test_which_store_is_a_question(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(UserError, match="there is none below this directory; name it with"):
        store_uri(None)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "mlflow.db").touch()
    assert store_uri(None) == f"sqlite:///{tmp_path}/a/mlflow.db"
    (tmp_path / "mlflow.db").touch()
    with pytest.raises(UserError, match="there are 2 below this directory"):
        store_uri(None)
    assert store_uri("sqlite:///x.db") == "sqlite:///x.db"


def test_a_store_is_opened_once_and_without_a_word(tmp_path, capfd):
    uri = f"sqlite:///{tmp_path}/new/mlflow.db"
    assert is_missing(uri)
    client = mlflow_client(uri)
    assert client.get_experiment_by_name("Default") is not None
    assert not is_missing(uri)
    assert mlflow_client(uri) is client
    assert capfd.readouterr().err == ""
    assert logging.getLogger("alembic").level == logging.ERROR


def test_an_output_that_no_sqlite_uri_can_hold_is_one_sentence(planted, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking = planted.tracking.model_copy(update={"uri": None})
    odd = planted.model_copy(update={"output": str(tmp_path / "a?b"), "tracking": tracking})
    with pytest.raises(UserError, match=r"a\?b has a question mark, which"):
        tracking_uri(odd)
