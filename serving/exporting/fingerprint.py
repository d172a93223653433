"""The fingerprint of what a bundle is made from."""

from feature_store.core.manifests import fingerprint
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config
from serving.bundle.manifest import VERSION


def bundle_fingerprint(config: Config, trained: TrainManifest) -> str:
    """Computes the fingerprint of a bundle's sources; a repeated training has another run.

    Args:
        config: Configuration of the export.
        trained: Evaluated training, of which the refit is a function.
    """
    settings = [each.model_dump(mode="json") for each in (config.export, config.ranking)]
    return fingerprint(
        [VERSION, trained.fingerprint, trained.mlflow_run_id, config.refits, settings]
    )
