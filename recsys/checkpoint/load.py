"""Loading of a trained model."""

from feature_store.core.errors import UserError
from feature_store.core.manifests import read_manifest
from pipelines.prepared.reader import Prepared
from pipelines.process import quiet_engines
from recsys.checkpoint.state import load_weights
from recsys.checkpoint.training_manifest import CHECKPOINT, TrainManifest
from recsys.config.config import Config
from recsys.model.two_tower import TwoTower, build_model


def load_model(config: Config) -> tuple[TwoTower, TrainManifest]:
    """Loads the trained model, unsharded, on the CPU, in evaluation mode.

    Args:
        config: Configuration of the training.

    Returns:
        The model without its losses, and the manifest of its training.

    Raises:
        UserError: There is no finished training, it is of other prepared data, or these are of
            another `data.repeats`.
    """
    manifest = read_manifest(config.train_dir, TrainManifest)
    if manifest is None:
        raise UserError(f"{config.train_dir} holds no trained model; run `recsys train` first.")
    prepared = Prepared(config.prepared_dir)
    if prepared.manifest.fingerprint != manifest.prepared_fingerprint:
        raise UserError(
            f"{config.train_dir} was trained on other data than {config.prepared_dir} holds; "
            "run `recsys train` again."
        )
    prepared.require_repeats(config.data.repeats)
    quiet_engines()
    model = build_model(prepared, manifest.config.model)
    load_weights(config.train_dir / CHECKPOINT, model)
    return model.eval(), manifest
