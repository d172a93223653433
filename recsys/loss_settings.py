"""The `loss` section of a configuration."""

from typing import Literal

from pydantic import Field, model_validator

from feature_store.schema import Settings


class LossConfig(Settings):
    """The main task: batch softmax over the items of the global batch."""

    temperature: float = Field(0.07, gt=0)
    logq_strength: float = Field(
        1.0, ge=0, le=1, description="How much of log Q(item) is taken off the training logits."
    )
    logq: Literal["exact", "streaming"] = Field(
        "exact",
        description="Q by counts of training events, or by an estimate that follows the stream.",
    )
    logq_learning_rate: float | None = Field(
        None, gt=0, le=1, description="Of the streaming estimate, for each event; null: 0.01."
    )
    logq_buckets: int | None = Field(
        None,
        ge=16,
        description="Counters of the streaming estimate, shared by hash; null: one an item.",
    )
    id_dropout: float = Field(
        0.1, ge=0, lt=1, description="How often a positive hides its id, so that cold items work."
    )
    history_dropout: float = Field(
        0.0, ge=0, lt=1, description="How often each history item is left out in training."
    )

    context_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="How often training hides each context feature, so that the model can do "
        "without.",
    )

    @model_validator(mode="after")
    def _logq_has_effect(self) -> "LossConfig":
        if self.logq == "exact":
            for name in ("logq_learning_rate", "logq_buckets"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect with logq: exact; set logq: streaming")
        elif self.logq_strength == 0:
            raise ValueError("logq: streaming has no effect with logq_strength: 0")
        return self
