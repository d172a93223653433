"""The manifest of an evaluation, and what it depends on."""

from feature_store.core.manifests import fingerprint
from feature_store.core.settings import Frozen
from pipelines.prepared.reader import Prepared
from pipelines.statistics.slices import SliceBounds
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config


class EvaluationManifest(Frozen):
    """Marks the evaluation as finished."""

    version: int = 1
    fingerprint: str  # of the training, the prepared data and the settings of the evaluation
    training_fingerprint: str
    schema_fingerprint: str


def evaluation_fingerprint(config: Config, prepared: Prepared, trained: TrainManifest) -> str:
    """Identifies an evaluation by all that it depends on; a repeated training has another run."""
    settings = config.evaluation.model_dump(mode="json", exclude={"select_by", "ranking_tasks"})
    parts = (trained.fingerprint, trained.mlflow_run_id, prepared.manifest.fingerprint)
    bounds = SliceBounds.of(prepared.item_frequency).marks()
    return fingerprint([*parts, settings, config.ranking.model_dump(mode="json"), *bounds])
