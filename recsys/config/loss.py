"""The `loss` section of a configuration."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from feature_store.core.bounds import LARGE, ROWS
from feature_store.core.settings import Settings


class _CandidatesOfKind(Settings):
    """Questions that the loss asks of every kind of candidates."""

    @property
    def is_corpus(self) -> bool:
        """Whether every item is a candidate, so that nothing is sampled."""
        return False

    @property
    def is_global(self) -> bool:
        """Whether all ranks score the same candidates."""
        return True

    def num_uniform(self, batch_size: int) -> int:
        """Returns how many items a step draws uniformly, over all ranks.

        Args:
            batch_size: Examples a step, over all ranks.
        """
        return 0


class _CandidatesOfRanks(_CandidatesOfKind):
    across_ranks: bool = Field(
        True,
        description="Candidates of all ranks. false: each rank's alone; nothing is exchanged, and "
        "the result depends on the number of ranks.",
    )

    @property
    def is_global(self) -> bool:
        """Whether all ranks score the same candidates."""
        return self.across_ranks


class InBatchCandidates(_CandidatesOfRanks):
    """Items of the batch's examples: the cheapest, but a cold item is never a negative."""

    kind: Literal["in_batch"] = "in_batch"


class MixedCandidates(_CandidatesOfRanks):
    """Items of the batch, and uniformly drawn ones beside them (Yang et al. 2020)."""

    kind: Literal["mixed"] = "mixed"
    uniform: int | None = Field(
        None,
        ge=1,
        le=ROWS,
        description="Items a step drawn uniformly from the corpus, over all ranks; null: as many "
        "as examples.",
    )

    def num_uniform(self, batch_size: int) -> int:
        """Returns how many items a step draws uniformly, over all ranks.

        Args:
            batch_size: Examples a step, over all ranks.
        """
        return self.uniform or batch_size


class CorpusCandidates(_CandidatesOfKind):
    """Every item of a corpus of up to 200,000: the full softmax."""

    kind: Literal["corpus"] = "corpus"

    @property
    def is_corpus(self) -> bool:
        """Whether every item is a candidate, so that nothing is sampled."""
        return True


CandidatesConfig = Annotated[
    InBatchCandidates | MixedCandidates | CorpusCandidates,
    Field(discriminator="kind"),
]


class ExactQ(Settings):
    """Q by counts of the training events."""

    kind: Literal["exact"] = "exact"


class StreamingQ(Settings):
    """Q by an estimate that follows the stream of examples (Yi et al. 2019)."""

    kind: Literal["streaming"] = "streaming"
    learning_rate: float = Field(
        0.01,
        gt=0,
        le=1,
        description="Experimental: weight of each event in the estimate; higher follows changes "
        "faster, with more noise.",
    )
    buckets: int | None = Field(
        None,
        ge=16,
        le=ROWS,
        description="Experimental: counters that items share by hash; null: one an item, which "
        "takes 24 bytes on every rank.",
    )


class LogQConfig(Settings):
    """The correction of logits for how often each item is drawn as a candidate."""

    strength: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Part of the correction that is made. Below 1, popular items are negatives "
        "more often than they should be, which favours the tail.",
    )
    source: Annotated[ExactQ | StreamingQ, Field(discriminator="kind")] = Field(
        ExactQ(),
        description="Source of Q. exact: counts of training events; streaming: an estimate that "
        "follows the stream.",
    )


class LossConfig(Settings):
    """The main task: softmax of each query over candidates, of which one is its own item.

    Tune `temperature` first. Then `logq.strength`, which trades the head for the tail, and
    `id_dropout`, without which items that training has not seen get no useful vector.
    """

    temperature: float = Field(
        0.07, gt=0, le=LARGE, description="Softmax temperature; lower is sharper."
    )
    candidates: CandidatesConfig = Field(
        InBatchCandidates(),
        description="Items that a query is scored against. in_batch: those of the batch; mixed: "
        "uniformly drawn ones beside them; corpus: every item.",
    )
    masked: Literal["known", "history", "target"] = Field(
        "known",
        description="Candidates that are not negatives of an example, beside its own item. known: "
        "the query's training items; history: the items of the example's history; target: none.",
    )
    logq: LogQConfig = LogQConfig()
    id_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Probability that a candidate hides its id, so that cold items work.",
    )
    history_dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Probability that training leaves out an item of a history.",
    )
    context_dropout: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="Probability that training hides a context feature, so that the model can do "
        "without it.",
    )

    @model_validator(mode="after")
    def _streaming_has_an_effect(self) -> "LossConfig":
        # No nesting can say this: it depends on both sections at once.
        if self.logq.source.kind == "exact":
            return self
        if self.candidates.is_corpus and self.logq.strength == 1:
            raise ValueError(
                "logq.source streaming has no effect with candidates corpus and logq.strength 1, "
                "because nothing is sampled; use exact"
            )
        is_sampled_by_q_alone = not self.candidates.is_corpus and not self.candidates.num_uniform(1)
        if is_sampled_by_q_alone and self.logq.strength == 0:
            raise ValueError(
                f"logq.source streaming has no effect with candidates {self.candidates.kind} and "
                "logq.strength 0; use exact"
            )
        return self
