"""Identity of a training, and the manifest of a finished one."""

from contextlib import suppress
from pathlib import Path

from feature_store.core.documents import read_object
from feature_store.core.errors import UserError
from feature_store.core.manifests import fingerprint, read_manifest
from feature_store.core.settings import Frozen
from pipelines.prepared.reader import Prepared
from recsys.config.config import Config

# Directory of the best checkpoint in `config.train_dir`.
CHECKPOINT = "checkpoint"
# Directory of the checkpoint before annealing, where the best one is annealed.
BEFORE_ANNEALING = "before_annealing"
# File in the directory of an unfinished training.
IDENTITY_FILE = "identity.json"
# Files of any training: lines of metrics, and the table that shows how tables are sharded.
METRICS_FILE = "metrics.jsonl"
SHARDING_FILE = "sharding.txt"

# Keys that change how a training runs, and not what it learns.
_RUNTIME_KEYS = {
    "ray",
    "device",
    "deterministic",
    "checkpoint_every",
    "keep_checkpoints",
}


class TrainManifest(Frozen):
    """Manifest of a finished training; it is written last.

    Attributes:
        version: Version of this format.
        fingerprint: Fingerprint of everything that the result depends on.
        prepared_fingerprint: Fingerprint of the prepared data.
        schema_fingerprint: Fingerprint of the features.
        config: Configuration of the training.
        started_from: Fingerprint of the training whose model it started with, if any.
        steps: Steps done.
        best_step: Step of the checkpoint that was kept.
        validation: Validation metrics of that step; empty without validation events.
        trained_to: Time of the latest training example, ISO 8601; None where the log has no times.
        seconds: Seconds from start to end; of a resumed training, those of the last process.
        mlflow_uri: Address of the tracking store.
        mlflow_run_id: Id of the MLflow run.
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
    trained_to: str | None = None
    seconds: float
    mlflow_uri: str
    mlflow_run_id: str


def training_fingerprint(
    config: Config, prepared: Prepared, started_from: str | None = None, steps: int | None = None
) -> str:
    """Identifies what a training learns: data, settings, seed and start; not its workers.

    Args:
        config: Configuration of the training.
        prepared: Prepared data of the configuration.
        started_from: Fingerprint of the training whose model it starts with; None: scratch.
        steps: Number of steps, whatever the epochs; None: by the configuration.
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
    plan = config.ssl.view_plan
    if plan is not None and plan.of_neighbours:
        used["neighbours"] = config.ranking.neighbours  # Views show the first of these lists.
    length = [] if steps is None else [steps]
    return fingerprint([used, prepared.manifest.fingerprint, started_from, *length])


def is_up_to_date(
    config: Config, prepared: Prepared, finished: TrainManifest, steps: int | None = None
) -> bool:
    """Returns whether a finished training is the one that the configuration asks for.

    It started with the model that was there before it, and does not start again with its own.
    """
    identity = training_fingerprint(config, prepared, finished.started_from, steps)
    return finished.fingerprint == identity


def readable_training(directory: Path) -> TrainManifest | None:
    """Reads the manifest of a training; None where there is none that this version can read.

    It is for what may be done anew: one of an earlier version, with keys that are gone, is then as
    good as absent.
    """
    with suppress(UserError):
        return read_manifest(directory, TrainManifest)
    return None


def continued_checkpoint(train_dir: Path) -> Path:
    """Returns the checkpoint of a finished training that a next one goes on from."""
    before = train_dir / BEFORE_ANNEALING
    return before if before.is_dir() else train_dir / CHECKPOINT


def work_dir_of(config: Config) -> Path:
    """Returns the directory of the configuration's unfinished training."""
    return config.train_dir.with_name(f"{config.train_dir.name}.partial")


def is_left(config: Config, finished: TrainManifest) -> bool:
    """Returns whether a process that had finished a training was killed before it was all done."""
    work_dir = work_dir_of(config)
    path = work_dir / IDENTITY_FILE
    if not path.exists():
        return work_dir.is_dir()
    # Another identity is that of an unfinished training, which can be resumed.
    return bool(read_object(path, "identity")["identity"] == finished.fingerprint)
