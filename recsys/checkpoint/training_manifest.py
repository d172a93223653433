"""What identifies a training, and what it says of itself when it is done."""

from pathlib import Path

from feature_store.core.manifests import fingerprint
from feature_store.core.settings import Frozen
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config

# Of `config.train_dir`: the best one, with all that a next training goes on from.
CHECKPOINT = "checkpoint"
# Of an unfinished training's directory.
IDENTITY_FILE = "identity.json"

# These change how a training runs, and not what it learns.
_RUNTIME_KEYS = {
    "ray",
    "device",
    "deterministic",
    "checkpoint_every",
    "keep_checkpoints",
}


class TrainManifest(Frozen):
    """What a training made; written last.

    Attributes:
        version: Of this format.
        fingerprint: Of everything that the result depends on.
        prepared_fingerprint: Of the prepared data.
        schema_fingerprint: Of the features.
        config: As trained.
        started_from: The fingerprint of the training whose model it began with, if any.
        steps: Steps done.
        best_step: The step of the checkpoint that was kept.
        validation: Its validation metrics; empty without validation events.
        seconds: From start to end, of the last process where a training was resumed.
        mlflow_uri: The tracking store.
        mlflow_run_id: The run.
    """

    version: int = 1
    fingerprint: str
    prepared_fingerprint: str
    schema_fingerprint: str
    config: Config
    started_from: str | None
    steps: int
    best_step: int
    validation: dict[str, float]
    seconds: float
    mlflow_uri: str
    mlflow_run_id: str


def training_fingerprint(
    config: Config, prepared: Prepared, started_from: str | None = None
) -> str:
    """Identifies what a training learns: data, settings, seed and start; not its workers.

    Args:
        config: Of the training.
        prepared: Its data.
        started_from: The fingerprint of the training whose model it begins with; None: scratch.
    """
    settings = config.model_dump(mode="json")
    used = {key: settings[key] for key in ("features", "model", "loss", "ssl")}
    used["training"] = {k: v for k, v in settings["training"].items() if k not in _RUNTIME_KEYS}
    used["sharding"] = {
        "precision": settings["sharding"]["precision"],
        "tables": {
            name: table["precision"]
            for name, table in settings["sharding"]["tables"].items()
            if table["precision"] is not None
        },
    }
    used["select_by"] = config.evaluation.select_by
    return fingerprint([used, prepared.manifest.fingerprint, started_from])


def is_up_to_date(config: Config, prepared: Prepared, done: TrainManifest) -> bool:
    """Whether the training that was done is the one that the configuration asks for.

    It began with whatever model was there before it, and does not begin again with its own.
    """
    return done.fingerprint == training_fingerprint(config, prepared, done.started_from)


def work_dir_of(config: Config) -> Path:
    """Where an unfinished training is."""
    return config.train_dir.with_name(f"{config.train_dir.name}.partial")
