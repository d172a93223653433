"""Arguments of a training, shared by the driver and its ranks."""

from dataclasses import dataclass

from pipelines.prepared.reader import Prepared
from recsys.config.config import Config
from recsys.data.plan import TrainingPlan, plan_training

SHARDING_FILE = "sharding.txt"


@dataclass(frozen=True)
class Job:
    """What a rank is told.

    Attributes:
        config: As JSON.
        work_dir: Of checkpoints and metrics; all ranks must see it.
        previous: The checkpoint of an earlier training to begin with; None: begin from scratch.
    """

    config: str
    work_dir: str
    previous: str | None = None


def training_plan(prepared: Prepared, config: Config) -> TrainingPlan:
    """The order of examples that the configuration asks for."""
    in_sequences = config.training.examples == "sequences"
    return plan_training(
        prepared.sequences() if in_sequences else prepared.examples("train"),
        batch_size=config.training.batch_size,
        workers=config.training.workers,
        epochs=config.training.epochs,
        seed=config.training.seed,
    )
