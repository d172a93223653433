"""Commands that only read: where there is nothing to read, they say so and leave nothing behind."""

import pytest
import yaml

from tests.support.planted import planted_config

RUN, MODEL = "0123456789abcdef0123456789abcdef", "models:/films@champion"
READING = {
    "compare": ["compare", RUN, RUN],
    "compare with a page": ["compare", RUN, RUN, "-o", "page"],
    "dashboard": ["dashboard", "--port", "0"],
    "dashboard of a run": ["dashboard", "--run", RUN, "-o", "page.html"],
    "promote": ["promote", "films"],
    "rollback": ["rollback", "films"],
    "query": ["query", MODEL, "--query-id", "1"],
    "recommend": ["recommend", MODEL, "--all", "-o", "answers"],
    "vectors": ["vectors", MODEL, "--format", "npy", "-o", "vectors"],
    "update": ["update", MODEL, "--remove-item", "1", "-o", "bundle"],
    "serve": ["serve", MODEL, "--log", "log"],
    "export of an experiment": ["export", "--ab", MODEL, MODEL, "-o", "experiment"],
    "ab-report": ["ab-report", "log", "-o", "page"],
    "study": ["study", "config.yaml"],
    "tune": ["tune", "config.yaml"],
    "train": ["train", "config.yaml"],
    "fuse": ["fuse", "config.yaml"],
    "evaluate": ["evaluate", "config.yaml"],
    "materialize": ["materialize", "config.yaml"],
    "export": ["export", "config.yaml"],
    "doctor": ["doctor", "config.yaml"],
    "plan": ["plan", "config.yaml", "--world-size", "2"],
}


@pytest.mark.parametrize("store", ["none", "named", "empty"])
@pytest.mark.parametrize("name", READING)
def test_a_command_without_anything_to_read_makes_nothing(
    name, store, command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = planted_config(tmp_path / "no log", tmp_path / "out")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    if store == "named":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/store/mlflow.db")
    elif store == "empty":
        (tmp_path / "mlflow.db").touch()
    before = {path: path.stat().st_size for path in tmp_path.rglob("*")}

    status, _, error = command(*READING[name])

    assert status == 1, error
    assert error.startswith("recsys: ")
    assert error.count("\n") == 1
    assert {path: path.stat().st_size for path in tmp_path.rglob("*")} == before
