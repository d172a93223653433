"""The `train` stage: examples to the best checkpoint, tracked in MLflow."""

import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from feature_store.core.documents import read_lines, read_object
from feature_store.core.errors import UserError
from feature_store.core.files import (
    directory_written_atomically,
    linked_tree,
    marked_by,
    require_replaceable,
    write_json,
    write_text,
)
from feature_store.core.locks import locked, reading, waiting
from feature_store.core.manifests import read_manifest, write_manifest, written_as
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.compatibility import compare
from recsys.checkpoint.manifest import (
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
    readable_training,
    training_fingerprint,
    work_dir_of,
)
from recsys.config.config import Config
from recsys.data.candidates import check_candidates
from recsys.data.plan import TrainingPlan
from recsys.evaluation.repeats import repeats_sentences
from recsys.evaluation.task import Task
from recsys.evaluation.validation import selection_warning
from recsys.reports.diagnostics import DIAGNOSTICS, write_diagnostics
from recsys.tracking import Run, open_run, start_run, tracking_uri
from recsys.training.launch import launch
from recsys.training.log import METRICS_FILE
from recsys.training.progress import TrainingProgress, Watcher
from recsys.training.run import CHECKPOINTS, SHARDING_FILE, TrainingRun, plan_run

_IS_OWN = written_as(TrainManifest)
# An unfinished training writes at least one of these.
_MARKS = (IDENTITY_FILE, SHARDING_FILE, METRICS_FILE, CHECKPOINTS)


def train(
    config: Config, *, refit_of: TrainManifest | None = None, console: Console | None = None
) -> TrainManifest:
    """Trains the configured model, or returns at once where exactly that is already done.

    A training that was interrupted is resumed from its latest checkpoint.

    Args:
        config: Configuration whose data is prepared.
        refit_of: Evaluated training of which this one is the refit, for as many steps as its
            checkpoint was trained; None: it is an evaluated one itself.
        console: Console to show progress on.

    Returns:
        The manifest of `config.train_dir`, which holds `checkpoint/` (the best one) and
        `metrics.jsonl`.

    Raises:
        UserError: There is no prepared data, it is of other features or of another `data.repeats`,
            a directory to write holds something else, or training diverges.
    """
    console = console or Console()
    require_replaceable(config.train_dir, _IS_OWN)
    require_replaceable(work_dir_of(config), marked_by(*_MARKS))
    with reading(config.prepared_dir):
        if (finished := _up_to_date(config, refit_of, console)) is not None:
            return finished
        # The earlier training can be read until this one is finished.
        with locked(work_dir_of(config)):
            finished = _up_to_date(config, refit_of, console)
            return finished or _train(config, refit_of, console)


def _up_to_date(
    config: Config, refit_of: TrainManifest | None, console: Console
) -> TrainManifest | None:
    """Returns the finished training where it is exactly this one."""
    prepared = Prepared(config.prepared_dir)
    if prepared.features != config.features:
        raise UserError(
            f"{config.prepared_dir} was prepared with other features than the configuration's; "
            "run `recsys prepare` again."
        )
    prepared.require_repeats(config.data.repeats)
    check_candidates(prepared, config.loss)
    finished = readable_training(config.train_dir)
    if finished is not None and is_up_to_date(config, prepared, finished, _steps(refit_of)):
        console.print(f"train: {config.train_dir} is up to date")
        return finished
    return None


def _steps(refit_of: TrainManifest | None) -> int | None:
    return refit_of.best_step if refit_of is not None else None


def _train(config: Config, refit_of: TrainManifest | None, console: Console) -> TrainManifest:
    prepared = Prepared(config.prepared_dir)
    started_from = _begins_with(config, prepared, console)
    warning = selection_warning(prepared, config.evaluation.select_by)
    if warning is not None and refit_of is None:
        console.print(f"train: {warning}")
    steps = _steps(refit_of)
    work_dir = _open_work_dir(config, training_fingerprint(config, prepared, started_from, steps))
    run, plan = plan_run(
        config, prepared, work_dir, started_from=started_from, steps=steps, warn=console.print
    )
    counts = Task.of(prepared, "validation").counts
    for sentence in repeats_sentences(counts, "validation", config.data.repeats):
        console.print(f"train: {sentence}", highlight=False, soft_wrap=True)
    started = time.monotonic()
    with _tracked(config, work_dir, refit_of) as tracked:
        _train_and_show(run, plan, tracked, console)
        seconds = time.monotonic() - started
        manifest = _publish(config, prepared, run, tracked.result(), seconds, console)
    shutil.rmtree(work_dir)
    console.print(
        f"train: {manifest.steps} steps in {manifest.seconds:.0f} s"
        + (f"; best at step {manifest.best_step}" if refit_of is None else "")
        + "".join(f", {name} {value:.4f}" for name, value in manifest.validation.items())
    )
    return manifest


def _begins_with(config: Config, prepared: Prepared, console: Console) -> str | None:
    """Returns the fingerprint of the training whose model a new one begins with; None: scratch.

    Raises:
        UserError: It cannot be read, or does not fit.
    """
    if config.training.start == "previous":
        finished = read_manifest(config.train_dir, TrainManifest)
        if finished is not None:
            require_fit(config, prepared)
            return finished.fingerprint
    elif config.train_dir.is_dir() and readable_training(config.train_dir) is None:
        console.print(
            f"train: {config.train_dir} is of another version, or damaged; it is replaced",
            highlight=False,
            soft_wrap=True,
        )
    return None


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
    """Opens the directory of the unfinished training; discards one of another configuration."""
    work_dir = work_dir_of(config)
    path = work_dir / IDENTITY_FILE
    if not path.exists() or read_object(path).get("identity") != identity:
        shutil.rmtree(work_dir, ignore_errors=True)
        write_json(path, {"identity": identity, "mlflow_run_id": None})
    return work_dir


@contextmanager
def _tracked(
    config: Config, work_dir: Path, refit_of: TrainManifest | None
) -> Iterator[Future[Run]]:
    """Opens the training's MLflow run in a thread, and ends it with the training's status.

    MLflow takes seconds to start, and the workers need not wait for it.
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
            return run
    name, tags = f"{config.ssl.method}-seed{config.training.seed}", {}
    if refit_of is not None:
        name, tags = f"{name}-refit", {"mlflow.parentRunId": refit_of.mlflow_run_id}
    run = start_run(config, name, tags=tags)
    write_json(path, {**identity, "mlflow_run_id": run.run_id})
    return run


def _train_and_show(
    run: TrainingRun, plan: TrainingPlan, tracked: Future[Run], console: Console
) -> None:
    """Runs the ranks; meanwhile shows the lines of metrics that they write, and tracks them."""
    _announce(run, plan, console)
    progress = TrainingProgress(
        console,
        run.step,
        plan.total_steps,
        plan.steps_per_epoch,
        run.config.evaluation.select_by,
    )
    receivers = [
        _print_once(run.work_dir / SHARDING_FILE, console),
        progress.show,
        lambda lines: tracked.result().log(lines),
    ]
    with progress, Watcher(run.work_dir / METRICS_FILE, run.step, receivers):
        launch(run)


def _announce(run: TrainingRun, plan: TrainingPlan, console: Console) -> None:
    training = run.config.training
    ranks = f"{training.workers} rank{'s' if training.workers > 1 else ''}"
    rows = "examples" if plan.kind == "events" else plan.kind
    beginning = ", from the previous model" if run.started_from is not None else ""
    if run.step:
        beginning = f", from the checkpoint at step {run.step}"
    console.print(
        f"train: {run.config.ssl.method}, {plan.total_steps} steps of at most {plan.batch_size} "
        f"{rows} on {ranks} ({'ray' if training.ray else 'local'}){beginning}"
    )


def _print_once(path: Path, console: Console) -> Callable[[object], None]:
    """Returns a receiver of lines that prints a file with the first ones, when it is complete."""
    is_printed = False

    def receive(_: object) -> None:
        nonlocal is_printed
        if not is_printed:
            is_printed = True
            console.print(path.read_text(encoding="utf-8").rstrip())

    return receive


def _publish(
    config: Config,
    prepared: Prepared,
    run: TrainingRun,
    tracked: Run,
    seconds: float,
    console: Console,
) -> TrainManifest:
    """Puts the best checkpoint and what describes it into `config.train_dir`."""
    latest = latest_checkpoint(run.checkpoints_dir)
    assert latest is not None
    progress = latest.manifest.progress
    best = read_checkpoint(checkpoint_path(run.checkpoints_dir, progress.best_step))
    if (damage := damage_of(*best)) is not None:
        raise UserError(
            f"{best.path} is damaged ({damage}); remove {work_dir_of(config)} and train again."
        )
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
        seconds=round(seconds, 1),
        mlflow_uri=tracking_uri(config),
        mlflow_run_id=tracked.run_id,
    )
    say = partial(console.print, "train:", highlight=False, soft_wrap=True)
    with waiting(say), directory_written_atomically(config.train_dir, _IS_OWN) as directory:
        linked_tree(best.path, directory / CHECKPOINT)
        shutil.copy(run.work_dir / METRICS_FILE, directory / METRICS_FILE)
        shutil.copy(run.work_dir / SHARDING_FILE, directory / SHARDING_FILE)
        write_diagnostics(directory / DIAGNOSTICS, lines, prepared, config, progress.best_step)
        write_text(directory / "config.json", config.model_dump_json(indent=2) + "\n")
        write_manifest(directory, manifest)
    _track_results(config, manifest, tracked)
    return manifest


def _validation_at(step: int, lines: list[dict[str, float | None]]) -> dict[str, float]:
    """Returns the validation metrics of a step, by name; those without a value are left out."""
    return {
        name.removeprefix("validation."): value
        for line in lines
        if line["step"] == step
        for name, value in line.items()
        if name.startswith("validation.") and value is not None
    }


def _track_results(config: Config, manifest: TrainManifest, tracked: Run) -> None:
    """Saves the files of the training, and the quality of its data, with its MLflow run."""
    for name in ("config.json", METRICS_FILE, SHARDING_FILE, "manifest.json", DIAGNOSTICS):
        tracked.save(config.train_dir / name)
    for name in ("quality.json", "quality.html"):
        tracked.save(config.prepared_dir / "statistics" / name, "data")
    best = {f"best.{name}": value for name, value in manifest.validation.items()}
    tracked.log([{"step": manifest.best_step, **best}])
