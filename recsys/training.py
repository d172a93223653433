"""The `train` stage: examples to the best checkpoint, tracked in MLflow."""

import json
import shutil
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Console

from feature_store.errors import UserError
from feature_store.storage import (
    directory_written_atomically,
    fingerprint,
    read_manifest,
    write_json,
    write_manifest,
    write_text,
)
from pipelines.prepared import Prepared
from recsys.checkpoint import checkpoint_path, latest_checkpoint, load_weights
from recsys.config import Config
from recsys.frequency import build_frequency
from recsys.launch import launch
from recsys.loop import (
    CHECKPOINTS,
    METRICS_FILE,
    SHARDING_FILE,
    Job,
    silence_torchrec,
    training_plan,
)
from recsys.model import TwoTower, build_model
from recsys.objective import TwoTowerObjective
from recsys.progress import TrainingProgress, Watcher
from recsys.tracking import Run, open_run, start_run, tracking_uri

_IDENTITY_FILE = "identity.json"

# These change how a training runs, and not what it learns.
_RUNTIME_KEYS = {"launcher", "workers", "device", "row_wise_from"}


class TrainManifest(BaseModel):
    """What a training made; written last.

    Attributes:
        version: Of this format.
        fingerprint: Of everything that the result depends on.
        prepared_fingerprint: Of the prepared data.
        schema_fingerprint: Of the features.
        config: As trained.
        steps: Steps done.
        best_step: The step of the checkpoint that was kept.
        validation: Its validation metrics; empty without validation events.
        seconds: From start to end, of the last process where a training was resumed.
        mlflow_uri: The tracking store.
        mlflow_run_id: The run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: int = 1
    fingerprint: str
    prepared_fingerprint: str
    schema_fingerprint: str
    config: Config
    steps: int
    best_step: int
    validation: dict[str, float]
    seconds: float
    mlflow_uri: str
    mlflow_run_id: str


def train(config: Config, *, console: Console | None = None) -> TrainManifest:
    """Trains the configured model, or returns at once where exactly that is already done.

    A training that was interrupted goes on from its latest checkpoint.

    Args:
        config: The prepared data must be there.
        console: For progress.

    Returns:
        The manifest of `config.train_dir`, which holds `checkpoint/` (the best one) and
        `metrics.jsonl`.

    Raises:
        UserError: There is no prepared data, it is of other features, or training diverges.
    """
    console = console or Console()
    prepared = Prepared(config.prepared_dir)
    if prepared.features != config.features:
        raise UserError(
            f"{config.prepared_dir} was prepared with other features than the configuration's; "
            "run `recsys prepare` again."
        )
    identity = training_fingerprint(config, prepared)
    done = read_manifest(config.train_dir, TrainManifest)
    if done is not None and done.fingerprint == identity:
        console.print(f"train: {config.train_dir} is up to date")
        return done
    work_dir = _open_work_dir(config, identity)
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        # MLflow takes seconds to start; the workers need not wait for it.
        run = pool.submit(_open_run, config, work_dir)
        try:
            _run_workers(config, prepared, work_dir, run, console)
            manifest = _seal(config, prepared, work_dir, run.result(), time.monotonic() - started)
        except BaseException as error:
            run.result().end("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
    console.print(
        f"train: {manifest.steps} steps in {manifest.seconds:.0f} s; best at step "
        f"{manifest.best_step}"
        + "".join(f", {name} {value:.4f}" for name, value in manifest.validation.items())
    )
    return manifest


def training_fingerprint(config: Config, prepared: Prepared) -> str:
    """Identifies what a training learns: data, settings and seed, not launcher or workers."""
    settings = config.model_dump(mode="json")
    used = {key: settings[key] for key in ("features", "model", "loss", "ssl")}
    used["training"] = {k: v for k, v in settings["training"].items() if k not in _RUNTIME_KEYS}
    used["select_by"] = config.evaluation.select_by
    return fingerprint([used, prepared.manifest.fingerprint])


def load_model(config: Config) -> tuple[TwoTower, TrainManifest]:
    """The trained model, unsharded, on the CPU, in evaluation mode.

    Raises:
        UserError: There is no finished training, or it is of other prepared data.
    """
    manifest = read_manifest(config.train_dir, TrainManifest)
    if manifest is None:
        raise UserError(f"{config.train_dir} holds no trained model; run `recsys train` first.")
    prepared = Prepared(config.prepared_dir)
    if prepared.manifest.fingerprint != manifest.prepared_fingerprint:
        raise UserError(
            f"{config.train_dir} was trained on other data than {config.prepared_dir} holds; "
            "run `recsys train` again."
        )
    silence_torchrec()
    model = build_model(prepared, manifest.config.model)
    frequency = build_frequency(manifest.config.loss, prepared.num_items)
    objective = TwoTowerObjective(model, manifest.config.loss, manifest.config.ssl, frequency)
    load_weights(config.train_dir / "checkpoint", objective)
    return model.eval(), manifest


def _open_work_dir(config: Config, identity: str) -> Path:
    """The unfinished training's directory; one of another configuration is thrown away."""
    work_dir = config.train_dir.with_name(f"{config.train_dir.name}.partial")
    path = work_dir / _IDENTITY_FILE
    if not path.exists() or json.loads(path.read_text(encoding="utf-8"))["identity"] != identity:
        shutil.rmtree(work_dir, ignore_errors=True)
        write_json(path, {"identity": identity, "mlflow_run_id": None})
    return work_dir


def _open_run(config: Config, work_dir: Path) -> Run:
    """A resumed training goes on with its run."""
    path = work_dir / _IDENTITY_FILE
    identity = json.loads(path.read_text(encoding="utf-8"))
    if identity["mlflow_run_id"] is not None:
        found = open_run(config, identity["mlflow_run_id"])
        if found is not None:
            return found
    run = start_run(config, f"{config.ssl.method}-seed{config.training.seed}")
    write_json(path, {**identity, "mlflow_run_id": run.run_id})
    return run


def _run_workers(
    config: Config, prepared: Prepared, work_dir: Path, run: Future[Run], console: Console
) -> None:
    plan = training_plan(prepared, config)
    found = latest_checkpoint(work_dir / CHECKPOINTS)
    step = found[1].step if found is not None else 0
    ranks = f"{config.training.workers} rank{'s' if config.training.workers > 1 else ''}"
    console.print(
        f"train: {config.ssl.method}, {plan.total_steps} steps of at most {plan.batch_size} "
        f"examples on {ranks} ({config.training.launcher})"
        + (f", from the checkpoint at step {step}" if step else "")
    )
    # Workers may have another working directory.
    absolute = config.model_copy(update={"output": str(Path(config.output).resolve())})
    job = Job(absolute.model_dump_json(), str(work_dir.resolve()))
    progress = TrainingProgress(
        console, step, plan.total_steps, plan.steps_per_epoch, config.evaluation.select_by
    )
    receivers = [progress.show, lambda lines: run.result().log(lines)]
    with progress, Watcher(work_dir / METRICS_FILE, step, receivers):
        launch(job, config.training)


def _seal(
    config: Config, prepared: Prepared, work_dir: Path, run: Run, seconds: float
) -> TrainManifest:
    """Moves the best checkpoint to its place, with the manifest."""
    found = latest_checkpoint(work_dir / CHECKPOINTS)
    assert found is not None
    progress = found[1]
    lines = [json.loads(line) for line in (work_dir / METRICS_FILE).read_text().splitlines()]
    validation = {
        name.removeprefix("validation."): value
        for line in lines
        if line["step"] == progress.best_step
        for name, value in line.items()
        if name.startswith("validation.") and value is not None
    }
    manifest = TrainManifest(
        fingerprint=training_fingerprint(config, prepared),
        prepared_fingerprint=prepared.manifest.fingerprint,
        schema_fingerprint=prepared.manifest.schema_fingerprint,
        config=config,
        steps=progress.step,
        best_step=progress.best_step,
        validation=validation,
        seconds=round(seconds, 1),
        mlflow_uri=tracking_uri(config),
        mlflow_run_id=run.run_id,
    )
    with directory_written_atomically(config.train_dir) as directory:
        best = checkpoint_path(work_dir / CHECKPOINTS, progress.best_step)
        shutil.copytree(best, directory / "checkpoint")
        shutil.copy(work_dir / METRICS_FILE, directory / METRICS_FILE)
        shutil.copy(work_dir / SHARDING_FILE, directory / SHARDING_FILE)
        write_text(directory / "config.json", config.model_dump_json(indent=2) + "\n")
        write_manifest(directory, manifest)
    for name in ("config.json", METRICS_FILE, SHARDING_FILE, "manifest.json"):
        run.save(config.train_dir / name)
    run.log([{"step": progress.best_step, **{f"best.{k}": v for k, v in validation.items()}}])
    run.end("FINISHED")
    shutil.rmtree(work_dir)
    return manifest
