"""Names and descriptions of trainings in MLflow."""

import json
import re
from datetime import UTC, datetime
from typing import Any, get_args

from feature_store.schema import FeatureGroup
from pipelines.urls import is_url, shown
from recsys.autoconfig.data_name import data_name
from recsys.config.config import Config

# The tag by which MLflow opens an experiment in its view of models and not of language models.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}


def run_name(config: Config, now: datetime | None = None) -> str:
    """Returns the name of a training: its data, method, history encoders, date and seed."""
    encoders = "+".join(encoder.kind for encoder in config.model.history) or "no-history"
    day = f"{now or datetime.now(UTC):%Y-%m-%d}"
    parts = [data_name(config.data.events), config.ssl.method, encoders, day]
    return " ".join([*parts, f"seed{config.training.seed}"])


def metric_name(name: str) -> str:
    """Returns the name of a metric in MLflow, which groups charts by what is before the last slash.

    `test.tail.recall@50` is `test/tail/recall_at_50`, and what has no group is of the training.
    Names of earlier versions become those of today.
    """
    parts = [part for part in re.split(r"[./]", name.replace("@", "_at_")) if part]
    valid = [re.sub(r"[^\w\- :]", "_", part, flags=re.ASCII) for part in parts]
    return "/".join(valid if len(valid) > 1 else ["training", *valid])


def dataset_of(config: Config, digest: str) -> Any:
    """Describes the data of a training as a data set of MLflow.

    Args:
        config: Configuration of the training.
        digest: Fingerprint of the prepared data, which changes with each of its files.

    Returns:
        An `mlflow.entities.Dataset`: its source has no passwords and no keys.
    """
    from mlflow.entities import Dataset

    events = config.data.events
    source_type = "local"
    if is_url(events):
        scheme = events.partition("://")[0].lower()
        source_type = {"https": "http", "gs": "gs", "s3": "s3"}.get(scheme, scheme)
    key = "url" if source_type == "http" else "uri"
    features = {
        group: [f"{feature.name}: {feature.kind}" for feature in config.features.of(group)]
        for group in get_args(FeatureGroup)
    }
    profile = {
        "items": shown(config.data.items) if config.data.items else None,
        "queries": shown(config.data.queries) if config.data.queries else None,
        "split": config.data.split.kind,
        "features": features,
    }
    return Dataset(
        name=data_name(events),
        digest=digest,
        source_type=source_type,
        source=json.dumps({key: shown(events)}),
        profile=json.dumps(profile),
    )
