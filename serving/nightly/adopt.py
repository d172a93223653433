"""The model of the stages as a day's, where another command than the job has promoted it."""

from datetime import UTC, datetime

from feature_store.core.errors import UserError
from feature_store.core.manifests import read_manifest
from feature_store.core.times import as_utc
from pipelines.prepared.manifest import PreparedManifest
from pipelines.settings import TimeSplit
from recsys.checkpoint.training_manifest import readable_training
from recsys.config.config import Config
from recsys.tracking import registered_name
from serving.bundle.manifest import BundleManifest
from serving.bundle.manifest import read_manifest as read_bundle
from serving.nightly.days import Days
from serving.nightly.outcome import Outcome


def adopt(
    config: Config, days: Days, champion: BundleManifest, as_of: datetime | None = None
) -> None:
    """Keeps the model of the stages where it is the champion and no day has it.

    Args:
        config: Configuration of the system.
        days: Directories of the days.
        champion: Manifest of the champion.
        as_of: Time of the day that is being done, whose own model is not adopted; None: there is
            none.
    """
    if days.of_seal(champion.seal) is not None:
        return
    trained = readable_training(config.train_dir)
    prepared = read_manifest(config.prepared_dir, PreparedManifest)
    if trained is None or prepared is None or not _is_bundle(config, champion):
        return
    if as_of is not None and prepared.as_of == as_of.isoformat():
        return  # It is the model of this day, by a call that was killed.
    if trained.fingerprint != champion.training_fingerprint:
        return
    if trained.prepared_fingerprint != prepared.fingerprint:
        return
    adopted = Outcome(
        date="adopted",
        as_of=prepared.as_of,
        outcome="promoted",
        reason="another command made it the champion",
        model=registered_name(config),
        metric=config.evaluation.select_by,
        seal=champion.seal,
        mlflow_run_id=trained.mlflow_run_id,
        started_from="scratch" if trained.started_from is None else "champion",
        trained_to=trained_to(prepared),
    )
    days.adopt(adopted)


def trained_to(prepared: PreparedManifest) -> str | None:
    """Returns the end of the training events, ISO 8601, where the split is by time."""
    split = prepared.data.split
    if not isinstance(split, TimeSplit) or split.validation_from is None:
        return None
    return as_utc(split.validation_from).astimezone(UTC).isoformat()


def _is_bundle(config: Config, champion: BundleManifest) -> bool:
    try:
        return read_bundle(config.bundle_dir).seal == champion.seal
    except UserError:
        return False
