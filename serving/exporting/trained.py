"""A trained model as an export holds it, with its configuration and data."""

from dataclasses import dataclass

import numpy as np

from feature_store.core.columns import Ints
from pipelines.prepared.reader import Prepared
from recsys.checkpoint.training_manifest import TrainManifest
from recsys.config.config import Config
from recsys.fusion.fused import Fused
from recsys.model.two_tower import TwoTower
from serving.bundle.manifest import Refit

# Items and queries that the gate compares and measures with, drawn anew for each training.
_SAMPLE = 1000


@dataclass(frozen=True)
class Trained:
    """The trained model with its configuration and data.

    Attributes:
        config: Configuration of the export.
        manifest: Manifest of its training.
        prepared: Data that it was trained on.
        model: Model without its losses.
        fused: Channels and weights; None: the model ranks alone.
        evaluated: Manifest of the evaluated training, which is another one after a refit.
        held_out: Data that the evaluated training was validated on.
    """

    config: Config
    manifest: TrainManifest
    prepared: Prepared
    model: TwoTower
    fused: Fused | None
    evaluated: TrainManifest
    held_out: Prepared

    def sample(self, total: int) -> Ints:
        """Draws the rows of the gate's sample, ascending."""
        random = np.random.default_rng(int(self.manifest.fingerprint, 16))
        return np.sort(random.choice(total, min(total, _SAMPLE), replace=False))

    def refit(self) -> Refit | None:
        """Describes the training on all events; None where the evaluated model is exported."""
        if self.manifest.fingerprint == self.evaluated.fingerprint:
            return None
        return Refit(
            training_fingerprint=self.manifest.fingerprint,
            mlflow_run_id=self.manifest.mlflow_run_id,
            steps=self.manifest.steps,
            events=self.prepared.manifest.counts.train,
            evaluated_events=self.held_out.manifest.counts.train,
        )
