"""The `training` section of a configuration."""

from typing import Literal

from pydantic import Field, model_validator

from feature_store.schema import Settings


class TrainingConfig(Settings):
    """The loop, its optimizers and its workers."""

    seed: int = Field(0, ge=0)
    epochs: int = Field(10, ge=1)
    batch_size: int = Field(1024, ge=2, description="Examples a step, over all workers.")
    workers: int = Field(1, ge=1)
    launcher: Literal["ray", "local"] = Field(
        "local", description="ray: Ray Train, any number of workers; local: in-process, one."
    )
    device: Literal["auto", "cpu", "cuda"] = "auto"
    sparse_learning_rate: float = Field(0.05, gt=0, description="Of row-wise Adagrad.")
    dense_learning_rate: float = Field(0.002, gt=0, description="Of AdamW.")
    weight_decay: float = Field(0.0, ge=0, description="Of AdamW.")
    row_wise_from: int = Field(
        1_000, ge=1, description="Tables of at least so many rows are sharded row-wise."
    )
    validations_per_epoch: int = Field(1, ge=1)
    patience: int = Field(3, ge=1, description="Validations without gain before training stops.")

    @model_validator(mode="after")
    def _workers_fit(self) -> "TrainingConfig":
        if self.launcher == "local" and self.workers != 1:
            raise ValueError("launcher local runs one worker; set launcher: ray or workers: 1")
        if self.batch_size < self.workers:
            raise ValueError("batch_size must be at least as many as workers")
        return self
