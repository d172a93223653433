"""The MLflow run of a training: one, with all of its results, wherever processes were killed."""

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from feature_store.core.documents import read_lines, read_object
from feature_store.core.files import write_json
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.training_manifest import (
    IDENTITY_FILE,
    METRICS_FILE,
    SHARDING_FILE,
    TrainManifest,
    is_left,
    work_dir_of,
)
from recsys.config.config import Config
from recsys.mlflow_run import Run
from recsys.reports.diagnostics import DIAGNOSTICS
from recsys.tracked import dataset_of, run_name
from recsys.tracking import open_run, start_run

_REFIT = "The refit on all events, which is served; the run above it has the evaluation."


@contextmanager
def tracked_run(
    config: Config, work_dir: Path, refit_of: TrainManifest | None
) -> Iterator[Future[Run]]:
    """Opens the training's MLflow run in a thread, and ends it with the training's status.

    MLflow takes seconds to start, and the workers need not wait for it.

    Args:
        config: Configuration of the training.
        work_dir: Directory of the unfinished training.
        refit_of: Evaluated training of which this one is the refit, if any.
    """
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(_open_run, config, work_dir, refit_of)
        try:
            yield run
        except BaseException as error:
            run.result().end("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        run.result().end("FINISHED")


def _open_run(config: Config, work_dir: Path, refit_of: TrainManifest | None) -> Run:
    """Opens the MLflow run of an interrupted training, or starts one."""
    path = work_dir / IDENTITY_FILE
    identity = read_object(path, "identity", "mlflow_run_id")
    if identity["mlflow_run_id"] is not None:
        run = open_run(config, identity["mlflow_run_id"])
        if run is not None:
            return run.continued()
    name, tags = run_name(config), {}
    if refit_of is not None:
        name = f"{name} refit"
        tags = {"mlflow.parentRunId": refit_of.mlflow_run_id, "mlflow.note.content": _REFIT}
    run = start_run(config, name, tags=tags, identity=identity["identity"])
    run.add_data(dataset_of(config, Prepared(config.prepared_dir).manifest.fingerprint))
    write_json(path, {**identity, "mlflow_run_id": run.run_id})
    return run


def track_results(config: Config, manifest: TrainManifest, tracked: Run) -> None:
    """Saves the files of a training, and the quality of its data, with its MLflow run.

    Args:
        config: Configuration of the training.
        manifest: The finished training.
        tracked: Its run.
    """
    for name in ("config.json", METRICS_FILE, SHARDING_FILE, "manifest.json", DIAGNOSTICS):
        tracked.save(config.train_dir / name)
    for name in ("quality.json", "quality.html"):
        tracked.save(config.prepared_dir / "statistics" / name, "data")
    best = {f"best.{name}": value for name, value in manifest.validation.items()}
    params = {"ssl.method": config.ssl.method, "training.seed": str(config.training.seed)}
    params["model.history"] = ", ".join(encoder.kind for encoder in config.model.history)
    tracked.add_model(run_name(config), params, manifest.best_step)
    tracked.log([{"step": manifest.best_step, **best}], of_model=True)
    tracked.describe_first("Trained, but not evaluated yet: run `recsys evaluate`.")


def complete(config: Config, finished: TrainManifest) -> None:
    """Does what a killed process had still to do: results to MLflow, its work directory away.

    Args:
        config: Configuration of the training.
        finished: The finished training.
    """
    if not is_left(config, finished):
        return
    run = open_run(config, finished.mlflow_run_id)
    if run is not None:  # Else it was tracked elsewhere.
        run.continued().log(read_lines(config.train_dir / METRICS_FILE, "step"))
        track_results(config, finished, run)
        run.end("FINISHED")
    shutil.rmtree(work_dir_of(config))
