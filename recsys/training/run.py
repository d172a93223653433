"""A training as the driver determines it, once, before its ranks start."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from feature_store.core.errors import UserError
from feature_store.core.settings import Frozen
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.manifest import (
    CHECKPOINTS,
    Checkpoint,
    Progress,
    latest_checkpoint,
    read_checkpoint,
)
from recsys.checkpoint.training_manifest import continued_checkpoint, training_fingerprint
from recsys.config.config import Config
from recsys.config.training import TrainingConfig
from recsys.data.plan import TrainingPlan, plan_training
from recsys.data.replay import selected_files


@dataclass(frozen=True)
class Start:
    """Point from which a training continues.

    Attributes:
        progress: Progress to count on from.
        checkpoint: Checkpoint to load; None: the model starts from scratch.
        is_warm_start: Whether the checkpoint is of an earlier training, so that only its model and
            its optimizers are continued.
    """

    progress: Progress
    checkpoint: Checkpoint | None
    is_warm_start: bool


class TrainingRun(Frozen):
    """One training, which the driver determines and hands to its ranks.

    A rank may run on another machine, and see other files. It reads the data and the checkpoints
    that it sees, and `check` compares them with these.

    Attributes:
        config: Configuration, with an absolute output directory.
        work_dir: Directory of checkpoints and metrics, absolute; all ranks see it.
        identity: Fingerprint of what the training learns; see `training_fingerprint`.
        prepared_fingerprint: Fingerprint of the prepared data.
        plan_identity: Identity of the order of examples.
        step: Steps done, by the latest checkpoint. Workers that are restarted after a failure
            continue from a later one.
        started_from: Fingerprint of the training in `config.train_dir` whose model this one starts
            with; None: it starts from scratch.
        steps: Number of steps, whatever the epochs; None: by the configuration.
        selection: Directory of the examples, absolute; None: all of the prepared ones.
        neighbours: Directory of the items' neighbours, absolute; None: views show items alone.
    """

    config: Config
    work_dir: Path
    identity: str
    prepared_fingerprint: str
    plan_identity: str
    step: int
    started_from: str | None
    steps: int | None = None
    selection: Path | None = None
    neighbours: Path | None = None

    @property
    def checkpoints_dir(self) -> Path:
        """Directory of checkpoints."""
        return self.work_dir / CHECKPOINTS

    def check(self, prepared: Prepared, plan: TrainingPlan, latest: Checkpoint | None) -> None:
        """Raises where a rank sees other files than the driver.

        Args:
            prepared: Prepared data that the rank sees.
            plan: Order of the examples that the rank sees.
            latest: Latest checkpoint that the rank sees.

        Raises:
            UserError: They are not those of the run.
        """
        step = latest.manifest.progress.step if latest is not None else 0
        differences = {
            "other prepared data": prepared.manifest.fingerprint != self.prepared_fingerprint,
            "another order of examples": plan.identity != self.plan_identity,
            f"no checkpoint of step {self.step}": step < self.step,
        }
        for difference, is_there in differences.items():
            if is_there:
                raise UserError(
                    f"the workers see {difference} in {self.config.output}, unlike the command "
                    "that started them: all must see the same output directory."
                )

    def start(self, latest: Checkpoint | None) -> Start:
        """Returns where to continue from.

        Args:
            latest: Latest checkpoint of this training, if it has one.

        Raises:
            UserError: The checkpoint counts steps in another order of examples, or the earlier
                training has none.
        """
        if latest is None:
            return self._beginning()
        progress = latest.manifest.progress
        if progress.plan != self.plan_identity:
            raise UserError(
                f"{self.work_dir} holds a training on other examples than those of "
                f"{self.config.prepared_dir}; expected the ones that it began with: remove the "
                "directory to start over."
            )
        return Start(progress, latest, is_warm_start=False)

    def _beginning(self) -> Start:
        progress = Progress(
            step=0, plan=self.plan_identity, best_step=0, best_value=None, stale=0, schedule_start=0
        )
        if self.started_from is None:
            return Start(progress, checkpoint=None, is_warm_start=False)
        previous = read_checkpoint(continued_checkpoint(self.config.train_dir))
        earlier = previous.manifest.progress.schedule_step
        progress = progress.model_copy(update={"schedule_start": earlier})
        return Start(progress, previous, is_warm_start=True)


def plan_run(
    config: Config,
    prepared: Prepared,
    work_dir: Path,
    *,
    started_from: str | None = None,
    steps: int | None = None,
    selection: Path | None = None,
    neighbours: Path | None = None,
    warn: Callable[[str], None] | None = None,
) -> tuple[TrainingRun, TrainingPlan]:
    """Determines everything about a training before its ranks start.

    Args:
        config: Configuration.
        prepared: Prepared data of the configuration.
        work_dir: Directory of the training, which may hold checkpoints of it.
        started_from: Fingerprint of the training whose model this one starts with; None: scratch.
        steps: Number of steps, whatever the epochs; None: by the configuration.
        selection: Directory of the examples; None: all of the prepared ones.
        neighbours: Directory of the items' neighbours; None: views show items alone.
        warn: Function that is called with a warning of each damaged checkpoint.

    Returns:
        The run, and the order of its examples.

    Raises:
        UserError: There are fewer examples than workers.
        ValueError: Views show neighbours, and there are none.
    """
    selection, neighbours = (
        path.resolve() if path is not None else None for path in (selection, neighbours)
    )
    plan = training_plan(prepared, config, steps, selection, neighbours)
    views = config.ssl.view_plan
    if views is not None and views.of_neighbours and neighbours is None:
        raise ValueError(f"ssl.method {config.ssl.method} needs the directory of neighbours")
    latest = latest_checkpoint(work_dir / CHECKPOINTS, warn)
    run = TrainingRun(
        # Workers may have another working directory.
        config=config.model_copy(update={"output": str(Path(config.output).resolve())}),
        work_dir=work_dir.resolve(),
        identity=training_fingerprint(config, prepared, started_from, steps),
        prepared_fingerprint=prepared.manifest.fingerprint,
        plan_identity=plan.identity,
        step=latest.manifest.progress.step if latest is not None else 0,
        started_from=started_from,
        steps=steps,
        selection=selection,
        neighbours=neighbours,
    )
    return run, plan


def validation_steps(settings: TrainingConfig, steps_per_epoch: int) -> int:
    """Returns the number of steps between two validations."""
    return -(-steps_per_epoch // settings.validations_per_epoch)


def training_plan(
    prepared: Prepared,
    config: Config,
    steps: int | None = None,
    selection: Path | None = None,
    neighbours: Path | None = None,
) -> TrainingPlan:
    """Returns the order of examples that the configuration asks for.

    Args:
        prepared: Prepared data.
        config: Configuration.
        steps: Number of steps, whatever the epochs; None: by the configuration.
        selection: Directory of the examples; None: all of the prepared ones.
        neighbours: Directory of the items' neighbours; None: views show items alone.
    """
    if selection is not None:
        files = selected_files(selection)
    elif config.training.examples == "sequences":
        files = prepared.sequences()
    else:
        files = prepared.examples("train")
    plan = plan_training(
        files,
        batch_size=config.training.batch_size,
        workers=config.training.workers,
        epochs=config.training.epochs,
        seed=config.training.seed,
    )
    return replace(plan, steps=steps, selection=selection, neighbours=neighbours)
