"""The whole configuration of a system, closed and typed.

This folder is the manual: one file a section, in the order of `Config`. The sections `data`,
`features` and `feature_store` are in `pipelines/settings.py`, `feature_store/schema.py` and
`feature_store/settings.py`.
"""

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from feature_store.core.settings import Settings
from feature_store.kinds import Filterable
from feature_store.schema import FeatureSchema
from feature_store.settings import FeatureStoreConfig
from pipelines.settings import DataConfig, ExecutorName, context_fault, has_sequences
from pipelines.urls import is_url
from recsys.config.evaluation import EvaluationConfig, evaluation_fault
from recsys.config.export import ExportConfig
from recsys.config.job import JobConfig
from recsys.config.loss import LossConfig
from recsys.config.model import ModelConfig
from recsys.config.ranking import RankingConfig
from recsys.config.renamed import old_keys
from recsys.config.sharding import ShardingConfig, sharding_fault
from recsys.config.ssl import SelfSupervisionConfig
from recsys.config.ssl.contrastive import CorrelatedMasking
from recsys.config.study import StudyConfig
from recsys.config.tracking import TrackingConfig
from recsys.config.training import TrainingConfig
from recsys.config.tuning import TuningConfig


class Config(Settings):
    """One system: its data, features, model, training and outputs."""

    output: str = Field(description="Directory of everything that the stages write.")
    executor: ExecutorName = Field(
        "ray",
        description="Engine of the tasks of prepare and materialize: ray, all cores of this "
        "machine or of a cluster; local, the command's own process.",
    )
    data: DataConfig
    features: FeatureSchema
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    ssl: SelfSupervisionConfig = CorrelatedMasking()
    training: TrainingConfig = TrainingConfig()
    sharding: ShardingConfig = ShardingConfig()
    tuning: TuningConfig = TuningConfig()
    study: StudyConfig = StudyConfig()
    ranking: RankingConfig = RankingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    export: ExportConfig = ExportConfig()
    job: JobConfig = JobConfig()
    tracking: TrackingConfig = TrackingConfig()
    feature_store: FeatureStoreConfig = FeatureStoreConfig()

    @field_validator("output")
    @classmethod
    def _is_a_path(cls, output: str) -> str:
        """Refuses what would become a directory `s3:` of this machine."""
        if is_url(output):
            raise ValueError(
                "a URL, expected a path of this machine, such as one where that storage is mounted"
            )
        return output

    @model_validator(mode="before")
    @classmethod
    def _has_no_old_keys(cls, document: Any) -> Any:
        """Refuses stored configurations of earlier versions; `load_config` names all old keys."""
        faults = list(old_keys(document)) if isinstance(document, dict) else []
        if faults:
            more = f" (and {len(faults) - 1} more keys have changed)" if len(faults) > 1 else ""
            raise ValueError(faults[0] + more)
        return document

    @model_validator(mode="after")
    def _sections_agree(self) -> "Config":
        fault = self.ssl.fault(self.features)
        if fault is not None:
            raise ValueError(fault)
        filterable = [f.name for f in self.features.item if isinstance(f, Filterable)]
        for name in self.export.filters or ():
            if name not in filterable:
                raise ValueError(
                    f"export.filters: {name!r} is not an item feature of named values, numbers or "
                    f"dates; expected some of {', '.join(filterable) or 'none'}"
                )
        ordered = [encoder.kind for encoder in self.model.history if encoder.needs_order]
        if ordered and self.data.history.kind == "others":
            raise ValueError(
                f"model.history of kind {ordered[0]} has no meaning with data.history.kind others, "
                "which are in no order; use [{kind: mean}]"
            )
        if self.training.examples == "sequences" and not has_sequences(self.data, self.features):
            raise ValueError(
                "training.examples sequences needs data.history.kind past and no features.context, "
                "because its examples share a history; use events"
            )
        if self.training.replay is not None and self.data.columns.timestamp is None:
            raise ValueError(
                "training.replay needs data.columns.timestamp, which tells new examples from older "
                "ones; name it or remove replay"
            )
        if self.features.has_idle_values and self.data.columns.timestamp is None:
            raise ValueError(
                "features: max_idle_days needs data.columns.timestamp, by which days are counted; "
                "name it or remove max_idle_days"
            )
        fault = sharding_fault(self.sharding, self.features)
        if fault is not None:
            raise ValueError(fault)
        fault = context_fault(self.data, self.features)
        if fault is not None:
            raise ValueError(f"{fault}; change it, or remove the feature")
        has_time = self.data.columns.timestamp is not None
        fault = evaluation_fault(self.evaluation, self.features, has_time)
        if fault is not None:
            raise ValueError(fault)
        # A section of its own in `loss` would only move the question.
        default = LossConfig.model_fields["context_dropout"].default
        if not self.features.context and self.loss.context_dropout != default:
            raise ValueError("loss.context_dropout has no effect without features.context")
        return self

    @property
    def refits(self) -> bool:
        """Whether the exported model is trained once more, on all events."""
        if self.export.refit is not None:
            return self.export.refit
        return self.data.split.kind == "time"

    @property
    def prepared_dir(self) -> Path:
        """Directory that `prepare` writes."""
        return Path(self.output) / "prepared"

    @property
    def forgotten_path(self) -> Path:
        """File with the ids that `prepare` drops."""
        return Path(self.output) / "forgotten.json"

    @property
    def feature_store_dir(self) -> Path:
        """Directory that `materialize` writes; a repository of Feast."""
        return Path(self.output) / "feature_store"

    @property
    def train_dir(self) -> Path:
        """Directory of the finished training, which `train` writes."""
        return Path(self.output) / "train"

    @property
    def study_dir(self) -> Path:
        """Directory that `study` writes."""
        return Path(self.output) / "study"

    @property
    def tuning_dir(self) -> Path:
        """Directory of the trials and the best configuration, which `tune` writes."""
        return Path(self.output) / "tuning"

    @property
    def fusion_dir(self) -> Path:
        """Directory of the channels and their weights, which `fuse` writes."""
        return Path(self.output) / "fusion"

    @property
    def evaluation_dir(self) -> Path:
        """Directory of metrics.json and the report, which `evaluate` writes."""
        return Path(self.output) / "evaluation"

    @property
    def champion_dir(self) -> Path:
        """Directory of the champion's evaluation on this data, which the nightly job writes."""
        return Path(self.output) / "champion"

    @property
    def comparison_dir(self) -> Path:
        """Directory of the comparison with the champion, which `export` writes."""
        return Path(self.output) / "comparison"

    @property
    def bundle_dir(self) -> Path:
        """Directory of the bundle, which `export` writes."""
        return Path(self.output) / "bundle"
