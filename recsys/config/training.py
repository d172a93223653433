"""The `training` section of a configuration."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from feature_store.core.settings import Settings


class _WarmUp(Settings):
    """From next to nothing up to the full learning rates."""

    warmup_steps: int = Field(0, ge=0, description="Steps in which learning rates rise.")
    warmup_fraction: float | None = Field(
        None, gt=0, lt=1, description="Instead of warmup_steps: of the training's steps."
    )

    @model_validator(mode="after")
    def _one_warm_up(self) -> "_WarmUp":
        if self.warmup_steps and self.warmup_fraction is not None:
            raise ValueError("warmup_steps has no effect beside warmup_fraction; remove one")
        return self


class ConstantSchedule(_WarmUp):
    """Warm-up, then the full learning rates."""

    kind: Literal["constant"] = "constant"


class CosineSchedule(_WarmUp):
    """Warm-up, then half a cosine down to a share of the learning rates at the last step."""

    kind: Literal["cosine"] = "cosine"
    final: float = Field(0.0, ge=0, lt=1, description="The share that is left at the end.")


class InfiniteSchedule(Settings):
    """Goes on from training to training without warming up again; see `recsys.schedules`.

    Ibrahim et al., Simple and scalable strategies to continually pre-train large language models
    (2024); Hägele et al., Scaling laws and compute-optimal training beyond fixed training durations
    (2024).
    """

    kind: Literal["infinite"] = "infinite"
    warmup_steps: int = Field(100, ge=0, description="Of the first training.")
    cooldown_steps: int = Field(1_000, ge=1, description="Then, down to the constant share.")
    constant: float = Field(0.5, gt=0, le=1, description="The share from then on.")
    anneal_fraction: float = Field(
        0.1, ge=0, lt=1, description="Of each training's steps, at its end: down to nothing."
    )


Schedule = Annotated[
    ConstantSchedule | CosineSchedule | InfiniteSchedule, Field(discriminator="kind")
]


class TrainingConfig(Settings):
    """The loop, its optimizers and its workers."""

    seed: int = Field(0, ge=0)
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(1024, ge=2, description="Examples a step, over all workers.")
    examples: Literal["events", "sequences"] = Field(
        "events",
        description="sequences: events of a query are read in one go, each predicting the next. "
        "A step then has about batch_size examples. Needs history.kind past and no context.",
    )
    workers: int = Field(1, ge=1)
    launcher: Literal["ray", "local"] = Field(
        "local", description="ray: Ray Train, any number of workers; local: in-process, one."
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    sparse_optimizer: Literal["rowwise_adagrad", "adam", "sgd"] = Field(
        "rowwise_adagrad",
        description="Of the tables; rows that a step does not read stay as they are. On a CPU, "
        "adam keeps a copy of each table on each rank (sharding type data_parallel).",
    )
    sparse_learning_rate: float = Field(
        0.05, gt=0, description="Of the tables; adam needs far less, such as 0.002."
    )
    dense_optimizer: Literal["adamw", "adam", "adagrad"] = Field(
        "adamw", description="Of everything but the tables."
    )
    dense_learning_rate: float = Field(0.002, gt=0, description="Of everything but the tables.")
    weight_decay: float = Field(
        0.0,
        ge=0,
        description="Of the dense optimizer, on matrices only: not on biases, norms, defaults, "
        "temperature or tables.",
    )
    gradient_clipping: float | None = Field(
        None,
        gt=0,
        description="The most that the norm of all dense gradients together may be; null: any.",
    )
    schedule: Schedule = Field(
        ConstantSchedule(), description="What both learning rates are multiplied with."
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="Of the towers' matrix products in training. Tables are sharding.precision; "
        "losses, norms and evaluation are always fp32.",
    )
    deterministic: bool = Field(
        False,
        description="Whether the same seed, ranks and machine give the same bits; slower on a GPU.",
    )
    validations_per_epoch: int = Field(1, ge=1)
    patience: int = Field(3, ge=1, description="Validations without gain before training stops.")
    start: Literal["scratch", "previous"] = Field(
        "scratch",
        description="previous: from the model of the last training of this output, if there is "
        "one; rows that are new to its vocabularies start fresh.",
    )
    checkpoint_every: int | None = Field(
        None, ge=1, description="Steps; null: a checkpoint at each validation, and no others."
    )
    keep_checkpoints: int = Field(
        2, ge=1, description="The last ones of an unfinished training, beside the best."
    )
    max_failures: int = Field(
        3, ge=0, description="Of workers of launcher ray, before the training is given up."
    )

    @model_validator(mode="after")
    def _workers_fit(self) -> "TrainingConfig":
        if self.launcher == "local" and self.workers != 1:
            raise ValueError("launcher local runs one worker; set launcher: ray or workers: 1")
        default = TrainingConfig.model_fields["max_failures"].default
        if self.launcher == "local" and self.max_failures != default:
            raise ValueError("max_failures has no effect with launcher local; remove it")
        if self.batch_size < self.workers:
            raise ValueError("batch_size must be at least as many as workers")
        return self
