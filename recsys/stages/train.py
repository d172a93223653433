"""The `train` stage: examples to the best checkpoint, tracked in MLflow."""

import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from rich.console import Console

from feature_store.core.errors import UserError
from feature_store.core.files import directory_written_atomically, write_json, write_text
from feature_store.core.manifests import read_manifest, write_manifest
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.compatibility import compare
from recsys.checkpoint.manifest import (
    CHECKPOINTS,
    checkpoint_path,
    damage_of,
    latest_checkpoint,
    read_checkpoint,
)
from recsys.checkpoint.training_manifest import (
    CHECKPOINT,
    IDENTITY_FILE,
    TrainManifest,
    is_up_to_date,
    training_fingerprint,
    work_dir_of,
)
from recsys.config.config import Config
from recsys.data.candidates import check_candidates
from recsys.reports.diagnostics import DIAGNOSTICS, write_diagnostics
from recsys.tracking import Run, open_run, start_run, tracking_uri
from recsys.training.job import SHARDING_FILE, Job, training_plan
from recsys.training.launch import launch
from recsys.training.log import METRICS_FILE
from recsys.training.progress import TrainingProgress, Watcher


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
    check_candidates(prepared, config.loss)
    done = read_manifest(config.train_dir, TrainManifest)
    if done is not None and is_up_to_date(config, prepared, done):
        console.print(f"train: {config.train_dir} is up to date")
        return done
    previous = done if config.training.start == "previous" else None
    if previous is not None:
        require_fit(config, prepared)
    started_from = previous.fingerprint if previous is not None else None
    identity = training_fingerprint(config, prepared, started_from)
    work_dir = _open_work_dir(config, identity)
    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        # MLflow takes seconds to start; the workers need not wait for it.
        run = pool.submit(_open_run, config, work_dir)
        try:
            _run_workers(config, prepared, work_dir, started_from, run, console)
            seconds = time.monotonic() - started
            manifest = _seal(config, prepared, work_dir, started_from, run.result(), seconds)
        except BaseException as error:
            run.result().end("FAILED" if isinstance(error, Exception) else "KILLED")
            raise
    console.print(
        f"train: {manifest.steps} steps in {manifest.seconds:.0f} s; best at step "
        f"{manifest.best_step}"
        + "".join(f", {name} {value:.4f}" for name, value in manifest.validation.items())
    )
    return manifest


def require_fit(config: Config, prepared: Prepared) -> None:
    """Raises a UserError where a training cannot begin with the model of `config.train_dir`."""
    _, manifest = read_checkpoint(config.train_dir / CHECKPOINT)
    for finding in compare(config, prepared, manifest):
        if finding.kind == "impossible":
            raise UserError(
                f"training.start is previous, and {config.train_dir} does not fit: "
                f"{finding.sentence()}; see `recsys doctor`, or set training.start: scratch."
            )


def _open_work_dir(config: Config, identity: str) -> Path:
    """The unfinished training's directory; one of another configuration is thrown away."""
    work_dir = work_dir_of(config)
    path = work_dir / IDENTITY_FILE
    if not path.exists() or json.loads(path.read_text(encoding="utf-8"))["identity"] != identity:
        shutil.rmtree(work_dir, ignore_errors=True)
        write_json(path, {"identity": identity, "mlflow_run_id": None})
    return work_dir


def _open_run(config: Config, work_dir: Path) -> Run:
    """A resumed training goes on with its run."""
    path = work_dir / IDENTITY_FILE
    identity = json.loads(path.read_text(encoding="utf-8"))
    if identity["mlflow_run_id"] is not None:
        found = open_run(config, identity["mlflow_run_id"])
        if found is not None:
            return found
    run = start_run(config, f"{config.ssl.method}-seed{config.training.seed}")
    write_json(path, {**identity, "mlflow_run_id": run.run_id})
    return run


def _run_workers(
    config: Config,
    prepared: Prepared,
    work_dir: Path,
    started_from: str | None,
    run: Future[Run],
    console: Console,
) -> None:
    plan = training_plan(prepared, config)
    found = latest_checkpoint(work_dir / CHECKPOINTS, console.print)
    begins = ", from the previous model" if started_from is not None else ""
    step = found[1].progress.step if found is not None else 0
    ranks = f"{config.training.workers} rank{'s' if config.training.workers > 1 else ''}"
    rows = "examples" if plan.kind == "events" else plan.kind
    console.print(
        f"train: {config.ssl.method}, {plan.total_steps} steps of at most {plan.batch_size} "
        f"{rows} on {ranks} ({'ray' if config.training.ray else 'local'})"
        + (f", from the checkpoint at step {step}" if step else begins)
    )
    # Workers may have another working directory.
    absolute = config.model_copy(update={"output": str(Path(config.output).resolve())})
    previous = str(absolute.train_dir / CHECKPOINT) if started_from is not None else None
    job = Job(absolute.model_dump_json(), str(work_dir.resolve()), previous)
    progress = TrainingProgress(
        console, step, plan.total_steps, plan.steps_per_epoch, config.evaluation.select_by
    )
    show_sharding = _once(lambda: _print_sharding(work_dir, console))
    receivers = [show_sharding, progress.show, lambda lines: run.result().log(lines)]
    with progress, Watcher(work_dir / METRICS_FILE, step, receivers):
        launch(job, config.training)


def _once(action: Callable[[], None]) -> Callable[[object], None]:
    """Of a receiver of lines, of which the first ones tell that the model has been built."""
    waiting = [action]
    return lambda _: waiting.pop()() if waiting else None


def _print_sharding(work_dir: Path, console: Console) -> None:
    console.print((work_dir / SHARDING_FILE).read_text(encoding="utf-8").rstrip())


def _seal(
    config: Config,
    prepared: Prepared,
    work_dir: Path,
    started_from: str | None,
    run: Run,
    seconds: float,
) -> TrainManifest:
    """Moves the best checkpoint to its place, with the manifest."""
    found = latest_checkpoint(work_dir / CHECKPOINTS)
    assert found is not None
    progress = found[1].progress
    best, kept = read_checkpoint(checkpoint_path(work_dir / CHECKPOINTS, progress.best_step))
    if (damage := damage_of(best, kept)) is not None:
        raise UserError(f"{best} is damaged ({damage}); remove {work_dir} and train again.")
    lines = [json.loads(line) for line in (work_dir / METRICS_FILE).read_text().splitlines()]
    validation = {
        name.removeprefix("validation."): value
        for line in lines
        if line["step"] == progress.best_step
        for name, value in line.items()
        if name.startswith("validation.") and value is not None
    }
    manifest = TrainManifest(
        fingerprint=training_fingerprint(config, prepared, started_from),
        prepared_fingerprint=prepared.manifest.fingerprint,
        schema_fingerprint=prepared.manifest.schema_fingerprint,
        config=config,
        started_from=started_from,
        steps=progress.step,
        best_step=progress.best_step,
        validation=validation,
        seconds=round(seconds, 1),
        mlflow_uri=tracking_uri(config),
        mlflow_run_id=run.run_id,
    )
    with directory_written_atomically(config.train_dir) as directory:
        shutil.copytree(best, directory / CHECKPOINT, copy_function=_link)
        shutil.copy(work_dir / METRICS_FILE, directory / METRICS_FILE)
        shutil.copy(work_dir / SHARDING_FILE, directory / SHARDING_FILE)
        write_diagnostics(directory / DIAGNOSTICS, lines, prepared, config, progress.best_step)
        write_text(directory / "config.json", config.model_dump_json(indent=2) + "\n")
        write_manifest(directory, manifest)
    for name in ("config.json", METRICS_FILE, SHARDING_FILE, "manifest.json", DIAGNOSTICS):
        run.save(config.train_dir / name)
    for name in ("quality.json", "quality.html"):
        run.save(config.prepared_dir / "statistics" / name, "data")
    run.log([{"step": progress.best_step, **{f"best.{k}": v for k, v in validation.items()}}])
    run.end("FINISHED")
    shutil.rmtree(work_dir)
    return manifest


def _link(source: str, target: str) -> None:
    """Tables are large, and the other name goes anyway; a copy where there are no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
