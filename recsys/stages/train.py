"""The `train` stage: examples to the best checkpoint, tracked in MLflow."""

from rich.console import Console

from feature_store.core.errors import UserError
from feature_store.core.files import marked_by, require_replaceable
from feature_store.core.locks import locked, reading
from feature_store.core.manifests import written_as
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.manifest import CHECKPOINTS
from recsys.checkpoint.training_manifest import (
    IDENTITY_FILE,
    METRICS_FILE,
    SHARDING_FILE,
    TrainManifest,
    is_left,
    is_up_to_date,
    readable_training,
    work_dir_of,
)
from recsys.config.config import Config
from recsys.data.candidates import check_candidates

# An unfinished training writes at least one of these.
MARKS = (IDENTITY_FILE, SHARDING_FILE, METRICS_FILE, CHECKPOINTS)


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
    require_replaceable(config.train_dir, written_as(TrainManifest))
    require_replaceable(work_dir_of(config), marked_by(*MARKS))
    with reading(config.prepared_dir):
        finished = _up_to_date(config, refit_of, console)
        if finished is not None and not is_left(config, finished):
            return finished
        # They are imported here because their engines take seconds.
        from recsys.stages.fit import fit_model
        from recsys.stages.track import complete

        # The earlier training can be read until this one is finished.
        with locked(work_dir_of(config)):
            finished = finished or _up_to_date(config, refit_of, console)
            if finished is None:
                return fit_model(config, refit_of, console)
            complete(config, finished)
            return finished


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
    steps = refit_of.best_step if refit_of is not None else None
    if finished is not None and is_up_to_date(config, prepared, finished, steps):
        console.print(f"train: {config.train_dir} is up to date")
        return finished
    return None
