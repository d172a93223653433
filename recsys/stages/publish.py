"""A finished training, put into its directory: the best checkpoint, and what describes it."""

import shutil
from functools import partial
from pathlib import Path

from rich.console import Console

from feature_store.core.documents import read_lines
from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically, linked_tree, write_text
from feature_store.core.locks import waiting
from feature_store.core.manifests import write_manifest, written_as
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.manifest import (
    checkpoint_path,
    damage_of,
    latest_checkpoint,
    read_checkpoint,
)
from recsys.checkpoint.training_manifest import (
    BEFORE_ANNEALING,
    CHECKPOINT,
    METRICS_FILE,
    SHARDING_FILE,
    TrainManifest,
    work_dir_of,
)
from recsys.config.config import Config
from recsys.mlflow_run import Run
from recsys.reports.diagnostics import DIAGNOSTICS, write_diagnostics
from recsys.stages.track import track_results
from recsys.tracking import tracking_uri
from recsys.training.run import TrainingRun

_IS_OWN = written_as(TrainManifest)


def publish(
    config: Config,
    prepared: Prepared,
    run: TrainingRun,
    tracked: Run,
    seconds: float,
    console: Console,
) -> TrainManifest:
    """Puts the best checkpoint, and what describes it, into `config.train_dir`.

    Where the best one is annealed, the one before annealing is kept, too.

    Args:
        config: Configuration of the training.
        prepared: Prepared data that it was trained on.
        run: The training, whose ranks are done.
        tracked: MLflow run of the training.
        seconds: Duration of the training.
        console: Console to show progress on.

    Returns:
        The manifest.

    Raises:
        UserError: A checkpoint is damaged, or the directory holds something else.
    """
    latest = latest_checkpoint(run.checkpoints_dir)
    assert latest is not None
    progress = latest.manifest.progress
    kept = {CHECKPOINT: _whole(config, run, progress.best_step)}
    if progress.continued_step != progress.best_step:
        kept[BEFORE_ANNEALING] = _whole(config, run, progress.continued_step)
    latest_event = prepared.latest_training_event()
    lines = read_lines(run.work_dir / METRICS_FILE, "step")
    manifest = TrainManifest(
        fingerprint=run.identity,
        prepared_fingerprint=run.prepared_fingerprint,
        schema_fingerprint=prepared.manifest.schema_fingerprint,
        config=config,
        started_from=run.started_from,
        steps=progress.step,
        best_step=progress.best_step,
        validation=_validation_at(progress.best_step, lines),
        trained_to=latest_event.isoformat() if latest_event is not None else None,
        seconds=round(seconds, 1),
        mlflow_uri=tracking_uri(config),
        mlflow_run_id=tracked.run_id,
    )
    say = partial(console.print, "train:", highlight=False, soft_wrap=True)
    with waiting(say), directory_written_atomically(config.train_dir, _IS_OWN) as directory:
        for name, path in kept.items():
            linked_tree(path, directory / name)
        shutil.copy(run.work_dir / METRICS_FILE, directory / METRICS_FILE)
        shutil.copy(run.work_dir / SHARDING_FILE, directory / SHARDING_FILE)
        write_diagnostics(directory / DIAGNOSTICS, lines, prepared, config, progress.best_step)
        write_text(directory / "config.json", config.model_dump_json(indent=2) + "\n")
        write_manifest(directory, manifest)
    track_results(config, manifest, tracked)
    return manifest


def _whole(config: Config, run: TrainingRun, step: int) -> Path:
    """Returns the checkpoint of a step; raises a UserError where it is damaged."""
    checkpoint = read_checkpoint(checkpoint_path(run.checkpoints_dir, step))
    if (damage := damage_of(*checkpoint)) is not None:
        raise UserError(
            f"{checkpoint.path} is damaged ({damage}); remove {work_dir_of(config)} and train "
            "again."
        )
    return checkpoint.path


def _validation_at(step: int, lines: list[dict[str, float | None]]) -> dict[str, float]:
    """Returns the validation metrics of a step, by name; those without a value are left out."""
    return {
        name.removeprefix("validation."): value
        for line in lines
        if line["step"] == step
        for name, value in line.items()
        if name.startswith("validation.") and value is not None
    }
