"""A training whose process is killed after its directory was written, before MLflow had it all."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from recsys.checkpoint.training_manifest import TrainManifest, work_dir_of
from recsys.config.config import Config
from recsys.stages.train import train
from recsys.tracking import mlflow_client, tracking_uri

QUIET = Console(quiet=True)


class KilledError(BaseException):
    """Stands for the end of the process."""


def test_what_mlflow_lacks_of_a_finished_training_is_made_up_for(
    planted: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = planted.training.model_copy(update={"epochs": 1})
    config = planted.model_copy(update={"output": str(tmp_path), "training": training})
    config.prepared_dir.symlink_to(planted.prepared_dir)

    def dies(*_: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr("recsys.stages.publish.track_results", dies)
        patch.setattr("recsys.mlflow_run.Run.end", lambda *_: None)
        with pytest.raises(KilledError):
            train(config, console=QUIET)
    assert work_dir_of(config).is_dir()
    manifest = train(config, console=QUIET)
    assert isinstance(manifest, TrainManifest)
    client = mlflow_client(tracking_uri(config))
    run = client.get_run(manifest.mlflow_run_id)
    assert run.info.status == "FINISHED"
    assert run.outputs.model_outputs
    assert "metrics.jsonl" in {each.path for each in client.list_artifacts(run.info.run_id)}
    assert not work_dir_of(config).exists()
    # A removal that was killed is finished; another training's unfinished work stays.
    work_dir_of(config).mkdir()
    train(config, console=QUIET)
    assert not work_dir_of(config).exists()
    other = work_dir_of(config)
    other.mkdir()
    (other / "identity.json").write_text('{"identity": "another", "mlflow_run_id": null}')
    train(config, console=QUIET)
    assert other.is_dir()
    shutil.rmtree(other)
