"""Evaluated runs of the planted log, in a store of their own."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from recsys.config.config import Config
from recsys.dashboard.run_store import RunStore
from recsys.stages.evaluate import evaluate
from recsys.stages.train import train
from tests.support.planted import planted_config


@dataclass(frozen=True)
class Evaluated:
    """Runs, the earliest first.

    Attributes:
        uri: Address of the MLflow store.
        run_ids: Ids of two evaluated runs and of one that was only trained.
        config: Configuration of the second run, whose output is still there.
    """

    uri: str
    run_ids: tuple[str, str, str]
    config: Config

    def store(self) -> RunStore:
        return RunStore(self.uri)


def evaluated_runs(planted: Config, directory: Path) -> Evaluated:
    """Trains and evaluates on the prepared planted log, with outputs below the directory."""
    uri = f"sqlite:///{directory}/mlflow.db"
    log = Path(planted.data.events).parent
    ids = []
    for seed in range(2):
        config = _config(log, directory / "out", uri, seed)
        if not seed:
            shutil.copytree(planted.prepared_dir, config.prepared_dir)
        ids.append(train(config).mlflow_run_id)
        evaluate(config)
    other = _config(log, directory / "other", uri, 2)
    shutil.copytree(planted.prepared_dir, other.prepared_dir)
    ids.append(train(other).mlflow_run_id)
    return Evaluated(uri, (ids[0], ids[1], ids[2]), config)


def _config(log: Path, output: Path, uri: str, seed: int) -> Config:
    return planted_config(
        log,
        output,
        tracking={"uri": uri},
        training={"epochs": 2, "seed": seed},
        evaluation={"slices": ["history_length", "item.group"], "baselines": ["popularity"]},
    )
