"""The whole configuration of a system, closed and typed."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from feature_store.schema import FeatureSchema, Settings
from feature_store.settings import FeatureStoreConfig
from pipelines.settings import DataConfig, context_fault


class ModelConfig(Settings):
    """The two towers."""

    dim: int = Field(64, ge=2, le=4096, description="Length of query and item vectors.")
    item_tower: tuple[int, ...] = Field((128,), description="Widths of its hidden layers.")
    query_tower: tuple[int, ...] = Field((128,), description="Widths of its hidden layers.")
    history_pooling: tuple[Literal["mean", "last"], ...] = Field(
        ("mean",), description="How a query reads its history's item features; several are joined."
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="Of the towers' inputs and hidden layers.")

    @model_validator(mode="after")
    def _poolings_are_distinct(self) -> "ModelConfig":
        if len(set(self.history_pooling)) != len(self.history_pooling):
            raise ValueError("history_pooling lists the same pooling twice")
        return self


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


class NoSelfSupervision(Settings):
    """The main task alone."""

    method: Literal["none"] = "none"


class _MaskingConfig(Settings):
    alpha: float = Field(0.1, gt=0, description="Weight of the self-supervised loss.")
    temperature: float = Field(0.1, gt=0)
    batch_size: int | None = Field(
        None, ge=2, description="Uniformly sampled items a step; null: as many as examples."
    )
    value_dropout: float = Field(
        0.1, ge=0, lt=1, description="Of each value of a multi-valued feature, in each view."
    )


class RandomMasking(_MaskingConfig):
    """RFM: a random half of the features is masked in view A, the other half in view B."""

    method: Literal["rfm"] = "rfm"


class CorrelatedMasking(_MaskingConfig):
    """CFM: a seed feature and its most correlated features are masked together."""

    method: Literal["cfm"] = "cfm"
    mutual_information: Literal["raw", "normalised", "corrected"] = Field(
        "raw",
        description="raw is the paper's; normalised divides by the smaller entropy; corrected "
        "leaves out what many values share by chance.",
    )
    weighting: Literal["items", "interactions"] = Field(
        "items", description="How an item counts: once, as in the paper, or by its training events."
    )


SelfSupervisionConfig = Annotated[
    NoSelfSupervision | RandomMasking | CorrelatedMasking, Field(discriminator="method")
]


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


class EvaluationConfig(Settings):
    """Exact full-corpus evaluation."""

    select_by: Literal["recall@10", "recall@50", "ndcg@10", "map@10"] = Field(
        "recall@50", description="The validation metric that picks the best checkpoint."
    )
    bootstrap_samples: int = Field(1000, ge=100, le=100_000)
    knn_neighbours: int = Field(100, ge=1, description="Of the item-kNN baseline.")


class ExportConfig(Settings):
    """The bundle and its gate."""

    min_ann_recall: float = Field(
        0.98, gt=0, le=1, description="Recall@100 of the index against exact search."
    )


class TrackingConfig(Settings):
    """MLflow."""

    experiment: str = Field("recsys", min_length=1)
    uri: str | None = Field(
        None, description="null: MLFLOW_TRACKING_URI, else SQLite beside the output."
    )


class Config(Settings):
    """One system: its data, features, model, training and outputs."""

    output: str = Field(description="Directory of everything that the stages write.")
    data: DataConfig
    features: FeatureSchema
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    ssl: SelfSupervisionConfig = CorrelatedMasking()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    export: ExportConfig = ExportConfig()
    tracking: TrackingConfig = TrackingConfig()
    feature_store: FeatureStoreConfig = FeatureStoreConfig()

    @model_validator(mode="after")
    def _sections_agree(self) -> "Config":
        if self.ssl.method != "none" and len(self.features.item) < 2:
            raise ValueError("ssl needs at least two item features to split; set ssl.method: none")
        if "last" in self.model.history_pooling and self.data.history.kind == "others":
            raise ValueError(
                "model.history_pooling last has no meaning with data.history.kind others; "
                "use [mean]"
            )
        fault = context_fault(self.data, self.features)
        if fault is not None:
            raise ValueError(f"{fault}; change it, or remove the feature")
        default = LossConfig.model_fields["context_dropout"].default
        if not self.features.context and self.loss.context_dropout != default:
            raise ValueError("loss.context_dropout has no effect without features.context")
        return self

    @property
    def prepared_dir(self) -> Path:
        """Where `prepare` writes."""
        return Path(self.output) / "prepared"

    @property
    def forgotten_path(self) -> Path:
        """The list of ids that `prepare` drops."""
        return Path(self.output) / "forgotten.json"

    @property
    def feature_store_dir(self) -> Path:
        """Where `materialize` writes; a repository of Feast."""
        return Path(self.output) / "feature_store"

    @property
    def train_dir(self) -> Path:
        """Where `train` writes checkpoints."""
        return Path(self.output) / "train"

    @property
    def evaluation_dir(self) -> Path:
        """Where `evaluate` writes metrics.json and the report."""
        return Path(self.output) / "evaluation"

    @property
    def bundle_dir(self) -> Path:
        """Where `export` writes the bundle."""
        return Path(self.output) / "bundle"
