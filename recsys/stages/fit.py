"""A training from its first step, or from its latest checkpoint, to what is published."""

import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future
from datetime import datetime
from pathlib import Path

from rich.console import Console

from feature_store.core.documents import read_object
from feature_store.core.errors import UserError
from feature_store.core.files import write_json
from feature_store.core.manifests import read_manifest
from pipelines.prepared.reader import Prepared
from pipelines.reports.words import reworded, word_for
from recsys.checkpoint.compatibility import compare
from recsys.checkpoint.manifest import latest_checkpoint, read_checkpoint
from recsys.checkpoint.training_manifest import (
    IDENTITY_FILE,
    METRICS_FILE,
    SHARDING_FILE,
    TrainManifest,
    continued_checkpoint,
    readable_training,
    training_fingerprint,
    work_dir_of,
)
from recsys.config.config import Config
from recsys.data.plan import TrainingPlan
from recsys.data.replay import select_examples
from recsys.evaluation.repeats import repeats_sentences
from recsys.evaluation.task import Task
from recsys.evaluation.validation import selection_warning
from recsys.mlflow_run import Run
from recsys.stages.item_neighbours import fit_neighbours
from recsys.stages.publish import publish
from recsys.stages.track import tracked_run
from recsys.training.estimate import Estimate
from recsys.training.launch import launch
from recsys.training.progress import TrainingProgress, Watcher
from recsys.training.run import TrainingRun, plan_run, validation_steps
from recsys.training.schedules import annealing_steps

# Folder of the examples of an unfinished training, where they are not all.
_EXAMPLES = "examples"


def fit_model(config: Config, refit_of: TrainManifest | None, console: Console) -> TrainManifest:
    """Trains the model, or goes on with an interrupted training, and publishes what is learnt.

    Args:
        config: Configuration whose data is prepared.
        refit_of: Evaluated training of which this one is the refit; None: it is one itself.
        console: Console to show progress on.

    Returns:
        The manifest of `config.train_dir`.

    Raises:
        UserError: The training to begin with does not fit, or training diverges.
    """
    prepared = Prepared(config.prepared_dir)
    previous = _begins_with(config, prepared, console)
    started_from = previous.fingerprint if previous is not None else None
    warning = selection_warning(prepared, config.evaluation.select_by)
    if warning is not None and refit_of is None:
        said = reworded(warning, word_for(config.data, config.features))
        console.print(f"train: {said}")
    steps = refit_of.best_step if refit_of is not None else None
    work_dir = _open_work_dir(config, training_fingerprint(config, prepared, started_from, steps))
    run, plan = plan_run(
        config,
        prepared,
        work_dir,
        started_from=started_from,
        steps=steps,
        selection=_select(config, prepared, previous, work_dir, console),
        neighbours=fit_neighbours(config, prepared, work_dir, console),
        warn=console.print,
    )
    counts = Task.of(prepared, "validation").counts
    for sentence in repeats_sentences(counts, "validation", config.data.repeats):
        said = reworded(sentence, word_for(config.data, config.features))
        console.print(f"train: {said}", highlight=False, soft_wrap=True)
    started = time.monotonic()
    with tracked_run(config, work_dir, refit_of) as tracked:
        _train_and_show(run, plan, tracked, console)
        seconds = time.monotonic() - started
        manifest = publish(config, prepared, run, tracked.result(), seconds, console)
    shutil.rmtree(work_dir)
    console.print(
        f"train: {manifest.steps} steps in {manifest.seconds:.0f} s"
        + (f"; best at step {manifest.best_step}" if refit_of is None else "")
        + "".join(f", {name} {value:.4f}" for name, value in manifest.validation.items())
    )
    return manifest


def _begins_with(config: Config, prepared: Prepared, console: Console) -> TrainManifest | None:
    """Returns the training whose model a new one begins with; None: scratch.

    Raises:
        UserError: It cannot be read, or does not fit.
    """
    if config.training.start == "previous":
        finished = read_manifest(config.train_dir, TrainManifest)
        if finished is not None:
            require_fit(config, prepared)
            return finished
    elif config.train_dir.is_dir() and readable_training(config.train_dir) is None:
        console.print(
            f"train: {config.train_dir} is of another version, or damaged; it is replaced",
            highlight=False,
            soft_wrap=True,
        )
    return None


def require_fit(config: Config, prepared: Prepared) -> None:
    """Raises a UserError where a training cannot begin with the model of `config.train_dir`."""
    _, manifest = read_checkpoint(continued_checkpoint(config.train_dir))
    for finding in compare(config, prepared, manifest):
        if finding.kind == "impossible":
            raise UserError(
                f"training.start is previous, and {config.train_dir} does not fit: "
                f"{finding.sentence()}; see `recsys doctor`, or set training.start: scratch."
            )


def _select(
    config: Config,
    prepared: Prepared,
    previous: TrainManifest | None,
    work_dir: Path,
    console: Console,
) -> Path | None:
    """Selects new examples and replayed ones, and returns where they are; None: all are used."""
    share = config.training.replay
    if previous is None or share is None:
        return None
    directory, selected = work_dir / _EXAMPLES, None
    if previous.trained_to is not None:
        since = datetime.fromisoformat(previous.trained_to)
        seed = config.training.seed
        selected = select_examples(prepared, directory, since=since, share=share, seed=seed)
    said = "all examples, for none is newer than those of the previous training"
    if selected is not None:
        said = f"{selected.new:,} new examples, and {selected.replayed:,} of the older ones"
    console.print(f"train: {said}", highlight=False)
    return directory if selected is not None else None


def _open_work_dir(config: Config, identity: str) -> Path:
    """Opens the directory of the unfinished training; discards one of another configuration."""
    work_dir = work_dir_of(config)
    path = work_dir / IDENTITY_FILE
    if not path.exists() or read_object(path).get("identity") != identity:
        shutil.rmtree(work_dir, ignore_errors=True)
        write_json(path, {"identity": identity, "mlflow_run_id": None})
    return work_dir


def _train_and_show(
    run: TrainingRun, plan: TrainingPlan, tracked: Future[Run], console: Console
) -> None:
    """Runs the ranks; meanwhile shows the lines of metrics that they write, and tracks them."""
    _announce(run, plan, console)
    settings, total = run.config.training, plan.total_steps
    estimate = Estimate(
        run.start(latest_checkpoint(run.checkpoints_dir)).progress,
        total,
        every=validation_steps(settings, plan.steps_per_epoch),
        # A refit makes its steps, for nothing is held out.
        patience=settings.patience if run.steps is None else total,
        annealing=annealing_steps(settings.schedule, total),
    )
    select_by = run.config.evaluation.select_by
    progress = TrainingProgress(console, run.step, total, plan.steps_per_epoch, select_by, estimate)
    receivers = [
        _print_once(run.work_dir / SHARDING_FILE, console),
        progress.show,
        lambda lines: tracked.result().log(lines),
    ]
    with progress, Watcher(run.work_dir / METRICS_FILE, receivers):
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
    if training.ray:
        console.print(f"train: starting Ray Train with {ranks}")


def _print_once(path: Path, console: Console) -> Callable[[object], None]:
    """Returns a receiver of lines that prints a file with the first ones, when it is complete."""
    is_printed = False

    def receive(_: object) -> None:
        nonlocal is_printed
        if not is_printed:
            is_printed = True
            console.print(path.read_text(encoding="utf-8").rstrip())

    return receive
