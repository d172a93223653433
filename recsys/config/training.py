"""The `training` section of a configuration."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from feature_store.core.bounds import EVENTS, LARGE, MANY
from feature_store.core.settings import Settings

# Highest learning rate; training itself tells when one is too high for a model.
_HIGHEST_RATE = 1e30


class _WarmUp(Settings):
    """A rise from next to nothing up to the full learning rates."""

    warmup: float = Field(
        0,
        ge=0,
        le=EVENTS,
        description="Steps in which learning rates rise; below 1, their part of all steps.",
    )

    @field_validator("warmup")
    @classmethod
    def _is_a_fraction_or_whole(cls, warmup: float) -> float:
        if warmup >= 1 and warmup % 1:
            raise ValueError(f"warmup is a whole number of steps or below 1, got {warmup}")
        return warmup


class ConstantSchedule(_WarmUp):
    """Warm-up, then the full learning rates."""

    kind: Literal["constant"] = "constant"


class CosineSchedule(_WarmUp):
    """Warm-up, then half a cosine down to a part of the learning rates at the last step."""

    kind: Literal["cosine"] = "cosine"
    final: float = Field(0.0, ge=0, lt=1, description="Part of the rates left at the last step.")


class InfiniteSchedule(Settings):
    """A schedule over all trainings of a model, which warms up only once.

    For `start: previous`, which goes on from the checkpoint before annealing; see
    `recsys.training.schedules`. Ibrahim et al., Simple and scalable strategies to continually
    pre-train large language models (2024); Hägele et al., Scaling laws and compute-optimal training
    beyond fixed training durations (2024); Singh et al., Beyond cosine decay: on the effectiveness
    of infinite learning rate schedule for continual pre-training (2025).
    """

    kind: Literal["infinite"] = "infinite"
    warmup: int = Field(100, ge=0, le=EVENTS, description="Steps of the first training's warm-up.")
    cooldown_steps: int = Field(
        1_000, ge=1, le=EVENTS, description="Steps after the warm-up, down to the constant part."
    )
    constant: float = Field(0.5, gt=0, le=1, description="Part of the rates from then on.")
    anneal_fraction: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Part of each training's steps, at its end, in which rates fall to 0; the next "
        "training goes on from the checkpoint before them.",
    )


Schedule = Annotated[
    ConstantSchedule | CosineSchedule | InfiniteSchedule, Field(discriminator="kind")
]


class RayTrainConfig(Settings):
    """Workers of Ray Train, on one machine or on a cluster."""

    workers: int = Field(1, ge=1, le=MANY, description="Ranks; on GPUs, one for each GPU.")
    max_failures: int = Field(
        3, ge=0, le=MANY, description="Failures of workers after which the training is given up."
    )


class TrainingConfig(Settings):
    """The training loop: its length, its optimizers and the processes that run it.

    Tune `batch_size`, both learning rates and `weight_decay` for your data (`recsys tune` does).
    `epochs` is only a bound where `patience` ends the training. The rest is about where and how a
    training runs, and changes nothing that is learnt.
    """

    seed: int = Field(0, ge=0, le=2**63 - 1, description="Seed of every random choice.")
    epochs: int = Field(
        10, ge=1, le=MANY, description="Passes over the training examples, at most."
    )
    batch_size: int = Field(1024, ge=2, le=MANY, description="Examples a step, over all ranks.")
    examples: Literal["events", "sequences"] = Field(
        "events",
        description="Examples of a step. events: each event with its history; sequences: all "
        "events of a query at once, each predicting the next, about batch_size in a step (needs "
        "data.history.kind past and no features.context).",
    )
    ray: RayTrainConfig | None = Field(
        None, description="Workers of Ray Train; null: one rank, in the command's own process."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Processor of each rank; auto: a GPU where there is one."
    )
    sparse_optimizer: Literal["rowwise_adagrad", "adam", "sgd"] = Field(
        "rowwise_adagrad",
        description="Optimizer of the tables; rows that a step does not read stay as they are. On "
        "a CPU, adam keeps a copy of each table on each rank (sharding type data_parallel). sgd is "
        "experimental.",
    )
    sparse_learning_rate: float = Field(
        0.05,
        gt=0,
        le=_HIGHEST_RATE,
        description="Learning rate of the tables; adam needs far less, such as 0.002.",
    )
    dense_learning_rate: float = Field(
        0.002,
        gt=0,
        le=_HIGHEST_RATE,
        description="Learning rate of everything but the tables, by AdamW.",
    )
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=LARGE,
        description="Weight decay of AdamW, on matrices only: not on biases, norms, defaults, "
        "temperature or tables.",
    )
    gradient_clipping: float | None = Field(
        None,
        gt=0,
        le=LARGE,
        description="Largest norm of all dense gradients together; null: no bound.",
    )
    schedule: Schedule = Field(
        ConstantSchedule(), description="Factor of both learning rates, step by step."
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Number format of the towers' matrix products in training; tables follow "
        "sharding.precision, and losses, norms and evaluation are always fp32.",
    )
    deterministic: bool = Field(
        False,
        description="Same bits from the same seed, ranks and machine on a GPU, too, which is "
        "slower; on a CPU they always are.",
    )
    validations_per_epoch: int = Field(1, ge=1, le=MANY, description="Validations in each epoch.")
    patience: int = Field(
        3,
        ge=1,
        le=MANY,
        description="Validations without improvement after which training stops, or the infinite "
        "schedule begins to anneal.",
    )
    # A configuration without it is that of versions that did not know it, and so is its identity.
    averaging: float | None = Field(
        None,
        gt=0,
        le=LARGE,
        exclude_if=lambda averaging: averaging is None,
        description="Length of the moving average of the weights, in validations; the average is "
        "what is validated, evaluated and exported. null: the latest weights.",
    )
    start: Literal["scratch", "previous"] = Field(
        "scratch",
        description="Model to begin with. previous: the last training's of this output, if there "
        "is one; rows that are new to its vocabularies start fresh.",
    )
    # A configuration without it is that of versions that did not know it, and so is its identity.
    replay: float | None = Field(
        None,
        ge=0,
        lt=1,
        exclude_if=lambda replay: replay is None,
        description="Part of older examples, drawn at random, among those of a training that goes "
        "on from a previous one; the others are newer than its last one. null: all examples, old "
        "and new.",
    )
    checkpoint_every: int | None = Field(
        None,
        ge=1,
        le=EVENTS,
        description="Steps between checkpoints; null: one at each validation.",
    )
    keep_checkpoints: int = Field(
        2,
        ge=1,
        le=MANY,
        description="Latest checkpoints kept of an unfinished training, beside the best.",
    )

    @property
    def workers(self) -> int:
        """Number of ranks."""
        return self.ray.workers if self.ray is not None else 1

    @model_validator(mode="after")
    def _every_worker_has_examples(self) -> "TrainingConfig":
        if self.batch_size < self.workers:
            raise ValueError("batch_size must be at least as large as ray.workers")
        return self

    @model_validator(mode="after")
    def _replayed_examples_have_times(self) -> "TrainingConfig":
        # With start scratch it waits for a training that goes on, as job.scratch_days does.
        if self.replay is not None and self.examples == "sequences":
            raise ValueError("replay needs examples of kind events, whose times are known")
        return self
