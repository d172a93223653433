"""The `loss` section of a configuration."""

from typing import Literal

from pydantic import Field, model_validator

from feature_store.core.settings import Settings


class LossConfig(Settings):
    """The main task: softmax of each query over candidates, of which one is its own item."""

    temperature: float = Field(0.07, gt=0)
    temperature_range: tuple[float, float] | None = Field(
        None,
        description="null: the temperature is fixed; else it is learned within these bounds, "
        "beginning at `temperature`.",
    )
    candidates: Literal["batch", "mixed", "corpus"] = Field(
        "batch",
        description="Items that a query is scored against: those of the batch, with uniformly "
        "drawn ones beside them (mixed), or every item of a small corpus (full softmax).",
    )
    uniform_negatives: int | None = Field(
        None,
        ge=1,
        description="Items a step that mixed candidates draw uniformly from the corpus, over all "
        "ranks; null: as many as examples.",
    )
    across_ranks: bool = Field(
        True, description="Whether candidates are those of all ranks, or each rank's own alone."
    )
    memory_batches: int = Field(
        0,
        ge=0,
        description="How many past steps' item vectors are negatives too, as they were then.",
    )
    masked: Literal["known", "history", "target"] = Field(
        "known",
        description="Candidates that are no negatives of an example, beside its own item: the "
        "query's training items, those of the example's history, or no others (target).",
    )
    logq_strength: float = Field(
        1.0,
        ge=0,
        le=1,
        description="1: logits are corrected for how often candidates are drawn; with less, "
        "popular items are negatives more often than they should be, which favours the tail.",
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
        0.1, ge=0, lt=1, description="How often a candidate hides its id, so that cold items work."
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
    def _temperature_is_in_its_range(self) -> "LossConfig":
        if self.temperature_range is not None:
            low, high = self.temperature_range
            if not 0 < low <= self.temperature <= high or low == high:
                raise ValueError(
                    f"temperature_range must be two bounds above 0 around temperature "
                    f"{self.temperature}, the lower one first; got [{low}, {high}]"
                )
        return self

    @model_validator(mode="after")
    def _candidates_have_effect(self) -> "LossConfig":
        if self.uniform_negatives is not None and self.candidates != "mixed":
            raise ValueError(
                f"uniform_negatives has no effect with candidates: {self.candidates}; "
                "set candidates: mixed"
            )
        if self.candidates == "corpus":
            if self.memory_batches:
                raise ValueError(
                    "memory_batches has no effect with candidates: corpus, which scores every "
                    "item; set memory_batches: 0"
                )
            if not self.across_ranks:
                raise ValueError(
                    "across_ranks: false has no meaning with candidates: corpus, whose items are "
                    "shared out to all ranks; set across_ranks: true"
                )
        if self.memory_batches and not self.across_ranks:
            raise ValueError(
                "memory_batches needs across_ranks: true, for all ranks keep the same memory"
            )
        return self

    @model_validator(mode="after")
    def _logq_has_effect(self) -> "LossConfig":
        if self.logq == "exact":
            for name in ("logq_learning_rate", "logq_buckets"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} has no effect with logq: exact; set logq: streaming")
        elif self.candidates == "batch" and self.logq_strength == 0:
            raise ValueError("logq: streaming has no effect with logq_strength: 0")
        elif self.candidates == "corpus" and self.logq_strength == 1:
            raise ValueError(
                "logq: streaming has no effect with candidates: corpus and logq_strength: 1, for "
                "nothing is sampled"
            )
        return self
